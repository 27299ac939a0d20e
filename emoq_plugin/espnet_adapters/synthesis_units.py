"""Units of data directories for ESPnet's tts2.sh and svs2.sh, in place of k-means."""

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal, NamedTuple

from emoq_plugin.files import atomic_write, write_table
from emoq_plugin.options import Count

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy as np

    from emoq_plugin.routing.quantizer import RoutedQuantizer


class Layout(NamedTuple):
    """What a script calls its files.

    Attributes
    ----------
    first_stage : int
        After the units.
    table : str
        In dump/raw/<set>.
    model : str
        Prefix of the options that name the directories of the model.
    """

    first_stage: int
    table: str
    model: str


LAYOUTS = {
    "tts2": Layout(7, "text.km.{tag}", "tts2"),
    "svs2": Layout(5, "token_{tag}", "svs"),
}


@dataclass(frozen=True)
class SynthesisUnits:
    """How the units of one quantizer become the ids that a synthesis predicts.

    Every frame keeps its unit, since durations count them: ``expert * K + code`` of
    each level, frame by frame.

    Attributes
    ----------
    experts : list of str
        In the order of the ids.
    n_codewords : int
        K, the largest of the levels.
    """

    experts: list[str]
    n_codewords: int

    @property
    def n_ids(self) -> int:
        """Number of different ids of a level."""
        return len(self.experts) * self.n_codewords

    def source(
        self,
        codes: "np.ndarray",
        route: "Mapping[str, float]",
        clip_codes: "np.ndarray | None" = None,
    ) -> "np.ndarray":
        """Return the ids of one recording: (T L,) from (T, L) codes and one expert."""
        [expert] = route
        first = self.experts.index(expert) * self.n_codewords
        return (codes.astype("int64") + first).ravel()


@dataclass(frozen=True, kw_only=True)
class SynthesisUnitsOptions:
    """Which units of which sets, for which script.

    Attributes
    ----------
    quantizer
        Directory or hub name.
    system
        Of a bank: balanced or <expert set>-<router>.
    n_levels
        Levels of the units, all when left out; tts2.sh has one.
    sets
        All that the script reads.
    layout
        The script.
    data_dir
        Holds <set>/wav.scp as the script has formatted it.
    tag
        Default: emoq_<system>_<K>x<L>_<sha256 of the codebooks>.
    multi_channel
        What is done with several channels.
    device
        Auto is the GPU where there is one.
    model_dir
        Local directory of the encoder's model.
    nj
        Processes on the CPU.
    """

    quantizer: Path
    system: str | None = None
    n_levels: Count | None = None
    sets: tuple[str, ...]
    layout: Literal["tts2", "svs2"]
    data_dir: Path = Path("dump/raw")
    tag: str | None = None
    multi_channel: Literal["error", "first", "mean"] = "error"
    device: Literal["cpu", "cuda", "auto"] = "cpu"
    model_dir: str | None = None
    nj: Count = 1


def synthesis_units(options: SynthesisUnitsOptions) -> None:
    """Write the units of every set, what the script reads beside them, its options.

    Raises
    ------
    ValueError
        For a quantizer that the script has no room for, or sets whose tables do not fit
        together, before anything is written.
    """
    import emoq_plugin
    from emoq_plugin.espnet_adapters.asr2 import name_of_units, read_recordings
    from emoq_plugin.espnet_adapters.asr2_encoding import SetEncoder
    from emoq_plugin.recipe.stages.pack import PackOptions, pack

    for name in options.sets:
        read_recordings(options.data_dir / name)
    found = emoq_plugin.load(
        str(options.quantizer), system=options.system, n_levels=options.n_levels
    )
    _check(found, options.layout)
    layout = LAYOUTS[options.layout]
    n_codewords = max(found.bank.sizes[: found.n_levels])
    units = SynthesisUnits(list(found.bank.experts), n_codewords)
    tag = options.tag or name_of_units(found)
    place = Path("dump") / tag
    packed = PackOptions(
        quantizer=options.quantizer,
        system=found.system.name,
        n_levels=found.n_levels,
        output_dir=place / "quantizer",
    )
    pack(packed)
    for name in options.sets:
        encoder = SetEncoder(
            source=options.data_dir / name,
            units=units,
            quantizer=packed.output_dir,
            factors=("1.0",),
            seconds=None,
            allow_pipe=False,
            multi_channel=options.multi_channel,
            device=options.device,
            model_dir=options.model_dir,
            nj=options.nj,
        )
        table = options.data_dir / name / layout.table.format(tag=tag)
        write_table(table, {u: " ".join(map(str, ids)) for u, ids, *_ in encoder})
        logging.info("%s: units of %d different ids", table, units.n_ids)
    _write_options(place, tag, options.layout, units.n_ids, found.n_levels)


def _check(quantizer: "RoutedQuantizer", layout: str) -> None:
    """Refuse units that are not one id a frame and level."""
    system = quantizer.system
    if system.n_streams > 1:
        raise ValueError(
            f"system '{system.name}' mixes two experts, {layout} predicts one: choose "
            f"another router, such as '{system.expert_set}-distortion'"
        )
    system.check_frame_codes_alone(f"{layout}, whose durations count frames,")
    if layout == "tts2" and quantizer.n_levels > 1:
        # Its model counts ids for frames when it averages pitch and energy.
        raise ValueError(
            f"tts2 predicts one level, found --n_levels {quantizer.n_levels}: give "
            "--n_levels 1"
        )


def _write_options(place: Path, tag: str, layout: str, n_ids: int, levels: int) -> None:
    """Write what enters the script after its own units."""
    first, table, model = LAYOUTS[layout]
    values: dict[str, object] = {
        "stage": first,
        # A model of other units is not resumed.
        f"{model}_exp": f"exp/{layout}_{tag}",
        f"{model}_stats_dir": f"exp/{layout}_stats_{tag}",
    }
    if layout == "tts2":
        values |= {"km_tag": tag, "feature_num_clusters": n_ids}
        # As stage 5 of tts2.sh, which knows no other number than that of clusters.
        with atomic_write(place / "tgt_tokens.txt") as stream:
            stream.writelines(f"<emoq_{i}>\n" for i in range(n_ids))
    else:
        values |= {
            "nclusters": n_ids,
            "preset_layer": levels,
            "preset_token": table.format(tag=tag),
        }
    with atomic_write(place / f"{layout}.options") as stream:
        stream.writelines(f"--{key}\n{value}\n" for key, value in values.items())
    logging.info("%s enters %s.sh at stage %d", place, layout, first)

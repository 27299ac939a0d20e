"""Units for ESPnet's asr2: what one recording becomes, and the card of the model."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from emoq_plugin.files import check_options, read_json, write_json
from emoq_plugin.units.clip_tokens import ClipVocabulary, with_clip_tokens
from emoq_plugin.units.flat import FIRST_ID, flatten_codes, token_list
from emoq_plugin.units.text import CJK_SIZE, deduplicate, to_cjk

if TYPE_CHECKING:
    from emoq_plugin.routing.quantizer import RoutedQuantizer

CARD = "emoq_units.json"
STREAMS = ("single", "multi")


@dataclass(frozen=True)
class Asr2Units:
    """How the units of one quantizer enter asr2; `emoq_units.json` beside the model.

    Attributes
    ----------
    quantizer : str
        Directory of the packed quantizer, seen from the card's directory.
    system : str
    n_levels : int
    stream : {"single", "multi"}
        `single`: one CJK character a frame for ``expert * K + code`` of the first
        level; `multi`: flat ids of all levels, see `units.flat.flatten_codes`.
    deduplicate : bool
        Frames that repeat the one before are dropped.
    experts : list of str
        In the order of the ids.
    sizes : list of int
        K of each level.
    codebooks_sha256 : str
    src_lang : str
        ESPnet's name for the units.
    src_token_list, src_bpemodel : str, optional
        Files of asr2.sh that turn a text of units into ids, seen from the card's
        directory; None for `multi`, whose ids are final.
    clip_sizes : list of int
        Alphabet of each symbol of a clip code, whose tokens come before those of the
        frames and are counted behind them; empty without one.
    """

    quantizer: str
    system: str
    n_levels: int
    stream: str
    deduplicate: bool
    experts: list[str]
    sizes: list[int]
    codebooks_sha256: str
    src_lang: str
    src_token_list: str | None = None
    src_bpemodel: str | None = None
    clip_sizes: list[int] = field(default_factory=list)

    @classmethod
    def describe(
        cls,
        quantizer: "RoutedQuantizer",
        *,
        path: str,
        stream: str,
        deduplicate: bool,
        src_lang: str,
        **files: str | None,
    ) -> Self:
        """Describe the units of a quantizer.

        Raises
        ------
        ValueError
            For a soft route, several levels in a single stream, or more
            joint ids than characters.
        """
        if stream not in STREAMS:
            raise ValueError(f"stream '{stream}', expected one of {STREAMS}")
        system, levels = quantizer.system, quantizer.n_levels
        if system.n_streams > 1:
            raise ValueError(
                f"system '{system.name}' mixes two experts, asr2 reads one: choose "
                f"another router, such as '{system.expert_set}-distortion'"
            )
        sizes = list(quantizer.bank.sizes[:levels])
        experts = list(quantizer.bank.experts)
        code = quantizer.bank.clip_code
        clip_sizes = [] if code is None else list(code.sizes)
        if stream == "single":
            if levels != 1:
                raise ValueError(
                    f"a single stream carries one level, found --n_levels {levels}: "
                    "give --n_levels 1, or --stream multi"
                )
            n_ids = len(experts) * sizes[0] + sum(clip_sizes)
            if n_ids > CJK_SIZE:
                beside = f" and {sum(clip_sizes)} clip tokens" if clip_sizes else ""
                raise ValueError(
                    f"{len(experts)} experts of K={sizes[0]}{beside} make {n_ids} "
                    "joint ids, ESPnet's CJK alphabet has "
                    f"{CJK_SIZE}: use fewer codewords, or --stream multi"
                )
        return cls(
            quantizer=path,
            system=system.name,
            n_levels=levels,
            stream=stream,
            deduplicate=deduplicate,
            experts=experts,
            sizes=sizes,
            codebooks_sha256=quantizer.codebooks_sha256,
            src_lang=src_lang,
            clip_sizes=clip_sizes,
            **files,
        )

    @classmethod
    def read(cls, directory: str | Path) -> Self:
        """Read the card of a model.

        Raises
        ------
        FileNotFoundError
            If there is none.
        ValueError
            For another content.
        """
        path = Path(directory) / CARD
        if not path.is_file():
            raise FileNotFoundError(
                f"{path} is missing: this model was not made on units of Emo-Q "
                "(egs2/TEMPLATE/asr2/use_units.sh writes it)"
            )
        values = read_json(path)
        check_options(values, cls.__dataclass_fields__, path)
        try:
            return cls(**values)
        except TypeError as error:
            raise ValueError(f"{path}: {error}") from error

    def write(self, directory: str | Path) -> None:
        """Write the card."""
        write_json(Path(directory) / CARD, asdict(self))

    @property
    def src_case(self) -> str:
        """ESPnet's name for units with (`ts`) or without repetitions (`rm`)."""
        return "rm" if self.deduplicate else "ts"

    @property
    def src_text(self) -> str:
        """Name of the file of units in dump/raw/<set>."""
        return f"text.{self.src_case}.{self.src_lang}"

    @property
    def n_units(self) -> int:
        """Number of different ids, those of clip tokens too."""
        return len(self._vocabulary)

    @property
    def _vocabulary(self) -> ClipVocabulary:
        return ClipVocabulary(len(self.experts) * sum(self.sizes), self.clip_sizes)

    def source(
        self,
        codes: np.ndarray,
        route: Mapping[str, float],
        clip_codes: np.ndarray | None = None,
    ) -> np.ndarray:
        """Return the ids of one recording.

        Parameters
        ----------
        codes : (T, L) integer array
        route : mapping of one expert to its weight
        clip_codes : (N, C) integer array, optional
            Of a quantizer with a clip code.

        Returns
        -------
        ids : (N C + T',) or ((N C + T') L,) int64 array
            `single`: joint ids from 0; `multi`: flat ids from 2, a clip token L times.

        Raises
        ------
        ValueError
            For codes outside their codebook, or a route of several experts.
        """
        if len(route) != 1:
            raise ValueError(f"a route of experts {list(route)}, expected one expert")
        [expert] = route
        place = self.experts.index(expert)
        if self.deduplicate:
            codes = deduplicate(codes)
        flat = flatten_codes(codes, self.sizes, expert=place) - FIRST_ID
        if self.clip_sizes:
            frames = flat.reshape(-1, len(self.sizes))
            flat = with_clip_tokens(self._vocabulary, clip_codes, frames).ravel()
        # One level: the flat ids less the two that ESPnet reserves are the joint ids.
        return flat + FIRST_ID if self.stream == "multi" else flat

    def text(self, ids: np.ndarray) -> str:
        """Write the ids of a single stream as ESPnet's characters."""
        return to_cjk(ids)

    def tokens(self) -> list[str]:
        """Return the names of the units, without ESPnet's special tokens."""
        return token_list(
            self.sizes, n_experts=len(self.experts), clip_sizes=self.clip_sizes
        )[2:-1]


def name_of_units(quantizer: "RoutedQuantizer") -> str:
    """Name the units: emoq_<system>_<K>x<L>_<sha256 of the codebooks>."""
    system = quantizer.system.name.replace("-", "_")
    rate = f"{quantizer.bank.sizes[0]}x{quantizer.n_levels}"
    return f"emoq_{system}_{rate}_{quantizer.codebooks_sha256[:8]}"


def with_units_frontend(
    config: Mapping[str, Any], units: Asr2Units, *, quantizer: str
) -> dict[str, Any]:
    """Complete a training configuration of `mt_train` for multi-stream units.

    Parameters
    ----------
    config : mapping
        May hold options of `emoq_units` (`level_mode`, `embedding`, ...).
    units : Asr2Units
    quantizer : str
        Path of the packed quantizer, seen from the recipe's directory.

    Raises
    ------
    ValueError
        For another frontend or model.
    """
    for key, value in (("frontend", "emoq_units"), ("model", "discrete_asr")):
        if config.get(key, value) != value:
            raise ValueError(
                f"asr_config: {key} is '{config[key]}', units of several levels need "
                f"'{value}': leave it out or choose --stream single"
            )
    levels = units.n_levels
    return dict(config) | {
        "frontend": "emoq_units",
        "frontend_conf": dict(config.get("frontend_conf") or {})
        | {
            "quantizer": {"path": quantizer, "n_levels": levels},
            "token_per_frame": levels,
        },
        "model": "discrete_asr",
        "model_conf": dict(config.get("model_conf") or {}) | {"patch_size": levels},
    }


def read_recordings(directory: str | Path) -> dict[str, tuple[str, Sequence[float]]]:
    """Read wav.scp and segments of a data directory.

    Returns
    -------
    recordings : dict of str to (entry, segment)
        By utterance; the segment is (start, end) in seconds, or empty.

    Raises
    ------
    FileNotFoundError
        If wav.scp, text or utt2spk is missing.
    ValueError
        If the tables do not fit together.
    """
    from emoq_plugin.files import read_table

    directory = Path(directory)
    for name in ("wav.scp", "text", "utt2spk"):
        if not (directory / name).is_file():
            raise FileNotFoundError(
                f"{directory / name} is missing: run the recipe's data preparation "
                "(stage 1) first"
            )
    wav = read_table(directory / "wav.scp")
    segments = directory / "segments"
    recordings: dict[str, tuple[str, Sequence[float]]] = {}
    if segments.is_file():
        for number, (utterance, line) in enumerate(read_table(segments).items(), 1):
            try:
                name, start, end = line.split()
                recordings[utterance] = (wav[name], (float(start), float(end)))
            except (ValueError, KeyError) as error:
                raise ValueError(
                    f"{segments}:{number}: '{line}', expected '<recording of wav.scp> "
                    "<start> <end>' with seconds"
                ) from error
    else:
        recordings = {u: (entry, ()) for u, entry in wav.items()}
    for name in ("text", "utt2spk"):
        differ = sorted(set(read_table(directory / name)) ^ set(recordings))
        if differ:
            raise ValueError(
                f"{directory}: utterance '{differ[0]}' is in only one of {name} "
                f"and {'segments' if segments.is_file() else 'wav.scp'} "
                f"({len(differ)} such): run utils/fix_data_dir.sh {directory}"
            )
    if not recordings:
        raise ValueError(f"{directory}: no utterance")
    return recordings

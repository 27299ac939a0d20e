"""Why one quantizer is worse than another: artifacts, k-means models, unit files."""

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from itertools import batched
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np

from emoq_plugin.files import read_table, write_json
from emoq_plugin.options import POSITIONAL, Count

if TYPE_CHECKING:
    from emoq_plugin.data.directory import DataDirectory
    from emoq_plugin.evaluation.compare import UnitSet
    from emoq_plugin.routing.quantizer import RoutedQuantizer
    from emoq_plugin.speech.store import FeatureStore

BATCH_CLIPS = 16
MIN_PHONE_COUNT = 100  # segments; rarer phones are one class


@dataclass(frozen=True, kw_only=True)
class CompareOptions:
    """What is compared on which clips.

    Attributes
    ----------
    a, b
        Each a quantizer (directory, name, or km_<K>.mdl of ESPnet, which runs code when
        it is read) or a file of units (<clip> 5 5 2 ...).
    system_a, system_b
        Of a bank: balanced or <expert set>-<router>.
    n_levels
        Levels that are compared; by default all of each.
    data
        Features, dump/<feature>/<set>; needed for anything but codebooks, unless both
        are files of units.
    labels
        Data directory with utt2spk and utt2emo, dump/raw/<set>, for the probes.
    alignments
        Phone labels, a directory or a file, for the phone probe.
    output
        JSON file, beside the table.
    """

    a: Annotated[str, POSITIONAL]
    b: Annotated[str, POSITIONAL]
    system_a: str | None = None
    system_b: str | None = None
    n_levels: Count | None = None
    data: Path | None = None
    labels: Path | None = None
    alignments: Path | None = None
    output: Path | None = None


def compare(options: CompareOptions) -> None:
    """Measure both, print a table, write JSON.

    Raises
    ------
    ValueError
        For quantizers of different features, units of other clips, or nothing that
        can be compared.
    """
    found = measured(options)
    print(_table(found))
    if options.output:
        write_json(options.output, found)


def measured(options: CompareOptions) -> dict[str, Any]:
    """Return what `compare` prints, see docs/formats.md."""
    from emoq_plugin.data.directory import DataDirectory

    if options.alignments and not (options.labels and options.data):
        raise ValueError("--alignments needs --labels (speakers) and --data (frames)")
    sides = {
        name: _open(getattr(options, name), getattr(options, f"system_{name}"), options)
        for name in ("a", "b")
    }
    quantizers = {n: q for n, q in sides.items() if not isinstance(q, Path)}
    store = _store(options, quantizers)
    data = DataDirectory.read(options.labels) if options.labels else None
    found: dict[str, Any] = {"a": {"name": options.a}, "b": {"name": options.b}}
    for name, quantizer in quantizers.items():
        found[name]["bits_a_frame"], found[name]["bits_a_clip"] = quantizer.bits
    units = {}
    for name, side in sides.items():
        if isinstance(side, Path):
            units[name] = _read_units(side)
        elif store is not None:
            units[name], distortion = _encode(side, store, data, getattr(options, name))
            found[name]["distortion"] = distortion
    found["overlap"] = _overlap(quantizers, units)
    for quantizer in quantizers.values() if data else ():
        _warn_of_leak(quantizer, data)
    for name, one in units.items():
        found[name] |= _measures(one, data, _phones(options, store, data))
    if not (units or found["overlap"]):
        raise ValueError(
            "nothing can be compared: the normalisations differ, so codewords are in "
            "other spaces; give --data dump/<feature>/<set> for the units"
        )
    return found


# --------------------------------------------------------------------------- reading


def _open(name: str, system: str | None, options: CompareOptions) -> Any:
    """Return a quantizer, or the path of a file of units."""
    path = Path(name)
    if path.suffix == ".mdl":
        from emoq_plugin.espnet_adapters.kmeans_models import import_kmeans
        from emoq_plugin.routing.quantizer import RoutedQuantizer

        bank = import_kmeans(path, n_levels=options.n_levels or 1)
        return RoutedQuantizer(bank, "balanced")
    if path.is_file():
        return path
    import emoq_plugin

    return emoq_plugin.load(name, system=system, n_levels=options.n_levels)


def _store(
    options: CompareOptions, quantizers: "Mapping[str, RoutedQuantizer]"
) -> "FeatureStore | None":
    """Open the features, which all quantizers must be of."""
    from emoq_plugin.speech.encoders.encoder import FeatureSpecification
    from emoq_plugin.speech.store import FeatureStore

    specified, widths = {}, {}
    for name, quantizer in quantizers.items():
        where, widths[where] = getattr(options, name), quantizer.bank.dimension
        if feature := quantizer.bank.card.get("feature"):
            specified[where] = FeatureSpecification.from_json(dict(feature), where)
    store = FeatureStore(options.data) if options.data else None
    if store is not None:
        specified[str(options.data)] = store.specification
        widths[str(options.data)] = store.specification.dimension
    elif quantizers and len(quantizers) < 2:
        raise ValueError("a quantizer beside a file of units needs --data, to encode")
    if len(set(widths.values())) > 1:
        raise ValueError(f"features of different dimensions: {widths}")
    first = next(iter(specified), None)
    for where, specification in specified.items():
        if specification.fingerprint() != specified[first].fingerprint():
            one, other = specified[first].to_json(), specification.to_json()
            differ = {
                key: f"{one[key]} and {other[key]}"
                for key in one
                if key != "versions" and one[key] != other[key]
            }
            raise ValueError(f"{first} and {where} are of different features: {differ}")
    return store


def _read_units(path: Path) -> "UnitSet":
    from emoq_plugin.evaluation.compare import UnitSet

    codes = {}
    for line, (clip, text) in enumerate(read_table(path).items(), 1):
        words = text.split()
        if not words or not all(word.isascii() and word.isdigit() for word in words):
            raise ValueError(
                f"{path}:{line}: clip '{clip}', expected '<clip> <unit> <unit> ...' "
                "with units from 0"
            )
        codes[clip] = np.array(words, dtype=np.int64)[:, None]
    size = 1 + max(int(units.max()) for units in codes.values())
    return UnitSet(str(path), codes, [size])


def _encode(
    quantizer: "RoutedQuantizer",
    store: "FeatureStore",
    data: "DataDirectory | None",
    name: str,
) -> "tuple[UnitSet, float]":
    """Return the units of all clips, and the error as a share of the variance.

    The offset that a normalisation removes, and no clip code sends, is no part of the
    error.
    """
    import torch

    from emoq_plugin.evaluation.compare import UnitSet
    from emoq_plugin.learning.fit_bank import speaker_means

    bank, means = quantizer.bank, {}
    if bank.normalization.kind == "speaker":
        if data is None:
            raise ValueError(f"{name} removes the speaker's mean: give --labels")
        means = speaker_means(store, data.speaker)
    sizes = list(bank.sizes[: quantizer.n_levels])
    sizes[0] *= len(bank.experts)
    codes, error, n_frames = {}, 0.0, 0
    total, squares = np.zeros(bank.dimension), np.zeros(bank.dimension)
    for clips in batched(store, BATCH_CLIPS):
        features = [torch.from_numpy(store[clip]) for clip in clips]
        mean = [means[data.speaker[clip]] for clip in clips] if means else None
        speaker = torch.stack(mean) if mean else None
        found = quantizer(features, speaker_mean=speaker)
        if found.route.shape[1] > 1:
            raise ValueError(f"{name} mixes experts: its units are no single stream")
        for n, (clip, frames) in enumerate(zip(clips, features)):
            own = found.codes[n, : len(frames)].numpy()
            codes[clip] = own.copy()
            codes[clip][:, 0] += bank.sizes[0] * int(found.route[n, 0])
            offset = bank.normalization.offset(frames, mean[n] if mean else None)
            if bank.clip_code is not None:  # the reconstruction holds it
                offset = torch.zeros(())
            rest = frames - offset - found.features[n, : len(frames)]
            error += float(rest.double().square().sum())
            total += frames.double().sum(dim=0).numpy()
            squares += frames.double().square().sum(dim=0).numpy()
            n_frames += len(frames)
    variance = float((squares - total**2 / n_frames).sum())
    return UnitSet(name, codes, sizes), error / variance


def _phones(
    options: CompareOptions, store: "FeatureStore | None", data: "DataDirectory | None"
) -> dict[str, np.ndarray]:
    if not options.alignments:
        return {}
    from emoq_plugin.data.alignments import label_clips, read_alignments

    _, labels = label_clips(
        read_alignments(options.alignments, data.utterances),
        store.lengths,
        frame_rate_hz=store.specification.frame_rate_hz,
        min_count=MIN_PHONE_COUNT,
    )
    return labels


# ------------------------------------------------------------------------- measuring


def _overlap(
    quantizers: "Mapping[str, RoutedQuantizer]", units: "Mapping[str, UnitSet]"
) -> dict[str, Any]:
    """Compare codebooks where their spaces are the same, and units where there are."""
    from emoq_plugin.evaluation.compare import (
        check_same_clips,
        codeword_overlap,
        unit_overlap,
    )

    found: dict[str, Any] = {}
    banks = [quantizer.bank for quantizer in quantizers.values()]
    if len(banks) == 2 and len({bank.normalization.kind for bank in banks}) == 1:
        levels = min(quantizer.n_levels for quantizer in quantizers.values())
        found["codewords"] = [
            codeword_overlap(*(_codewords(bank, level) for bank in banks))
            for level in range(levels)
        ]
    if len(units) == 2:
        check_same_clips(*units.values())
        found["unit_nmi"] = unit_overlap(*units.values())
    return found


def _codewords(bank: Any, level: int) -> np.ndarray:
    """Return the codewords (E K, D) of one level, scaled as the features are."""
    flat = bank.codebooks[level].flatten(0, 1) * bank.normalization.scale
    return (flat + bank.normalization.mean if level == 0 else flat).cpu().numpy()


def _measures(
    units: "UnitSet", data: "DataDirectory | None", phones: dict[str, np.ndarray]
) -> dict[str, Any]:
    from emoq_plugin.evaluation.compare import emotion_probe, phone_probe, use

    found: dict[str, Any] = use(units)
    if data is None:
        return found
    if absent := sorted(set(units.codes) - set(data.speaker)):
        raise ValueError(
            f"{data.path}: clip '{absent[0]}' of {units.name} has no speaker there "
            f"({len(absent)} such)"
        )
    if data.emotion:
        found["emotion"] = emotion_probe(units, data.emotion, data.speaker)
    if phones:
        found["phone"] = phone_probe(units, phones, data.speaker)
    return found


def _warn_of_leak(quantizer: "RoutedQuantizer", data: "DataDirectory") -> None:
    """Log that experts and routers were learned from labels of the probed speakers."""
    seen = set(quantizer.bank.card.get("training_speakers", []))
    seen &= set(data.speaker.values())
    if seen and quantizer.system.router:
        logging.warning(
            "%s was learned from the labels of %d of these speakers: its emotion score "
            "is too good, compare on others",
            *(quantizer.system.name, len(seen)),
        )


def _table(found: Mapping[str, Any]) -> str:
    """Lay out the measures, a row each."""
    rows = [("", "A", "B")]
    numbers = partial(map, "{:.3g}".format)

    def row(title: str, *keys: str, factor: float = 1.0) -> None:
        cells = []
        for side in ("a", "b"):
            value: Any = found[side]
            for key in keys:
                value = value.get(key, {})
            values = value if isinstance(value, list) else [value]
            known = [factor * v for v in values if v != {}]
            cells.append(" ".join(numbers(known)) or "-")
        if cells != ["-", "-"]:
            rows.append((title, *cells))

    row("bits a frame", "bits_a_frame")
    row("bits a clip (route)", "bits_a_clip")
    row("distortion, % of the variance", "distortion", factor=100)
    row("units in use, %, by level", "used", factor=100)
    row("perplexity, by level", "perplexity")
    row("emotion from units, UAR %", "emotion", "uar", factor=100)
    row("emotion from units, macro-F1 %", "emotion", "macro_f1", factor=100)
    row("phones from units, %", "phone", "accuracy", factor=100)
    row("phones by chance, %", "phone", "chance", factor=100)
    widths = [max(map(len, column)) for column in zip(*rows)]
    lines = ["  ".join(c.ljust(w) for c, w in zip(r, widths)).rstrip() for r in rows]
    overlap = found["overlap"]
    for level, codebook in enumerate(overlap.get("codewords", [])):
        lines.append(
            f"codewords of level {level}: cosine {codebook['nearest']:.3f} with the "
            f"nearest, {codebook['matched']:.3f} one to one"
        )
    for level, shared in enumerate(overlap.get("unit_nmi", [])):
        lines.append(f"units of level {level}: {shared:.3f} shared (NMI)")
    return "\n".join([f"A {found['a']['name']}", f"B {found['b']['name']}", *lines])

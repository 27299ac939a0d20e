"""The card of an artifact, README.md: Markdown with metadata that the hub reads."""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from emoq_plugin.files import check_types, read_options

# What only its maker knows of a quantizer, see `read_about`.
ABOUT: dict[str, type] = {
    "name": str,  # of those that come with the package
    "license": str,  # of the artifact, an identifier of SPDX in small letters
    "language": str,  # of the speech, ISO 639-1
    "data": str,  # what it was learned on, and under which licence that is
    "limits": str,
    "citation": str,
}


def read_about(path: str | Path) -> dict[str, str]:
    """Read what the card says of the data: a YAML file with the keys of `ABOUT`.

    Raises
    ------
    ValueError
        For another key, or a value that is no text.
    """
    about = read_options(path, ABOUT)
    check_types(about, ABOUT, path)
    return {name: " ".join(about[name].split()) for name in ABOUT if name in about}


def describe(config: Mapping[str, Any]) -> str:
    """Write the card of an artifact from its config."""
    card = config.get("card", {})
    about = card.get("about", {})
    head = {
        "library_name": "emoq",
        "tags": ["speech", "emotion", "discrete-units", "residual-vector-quantization"],
        **{name: about[name] for name in ("license", "language") if name in about},
    }
    name = about.get("name")
    lines = [
        "---",
        yaml.safe_dump(head, sort_keys=False).rstrip(),
        "---",
        f"# {name or config['type']}",
        "",
        "Emotion-aware residual quantizer made by Emo-Q; load it with "
        f"`emoq_plugin.load({f'"{name}"' if name else 'path'})`.",
        "",
        "| | |",
        "|---|---|",
        *(f"| {key} | {value} |" for key, value in _facts(config)),
    ]
    for title in ("data", "limits"):
        if title in about:
            lines += ["", f"## {title.capitalize()}", "", about[title]]
    if name:
        lines += ["", "## Use", "", "```python", "import emoq_plugin", ""]
        lines += [f'q = emoq_plugin.load("{name}")', 'units = q.units("a.wav")', "```"]
        lines += ["", "```bash", f"emoq encode a.wav --quantizer {name}", "```"]
    if "citation" in about:
        lines += ["", "## Citation", "", about["citation"]]
    return "\n".join(lines) + "\n"


def _facts(config: Mapping[str, Any]) -> list[tuple[str, Any]]:
    """Return the rows of the table."""
    card = config.get("card", {})
    feature = card.get("feature", {})
    facts = [
        ("experts", ", ".join(config["experts"])),
        ("codebook sizes", " ".join(map(str, config["sizes"]))),
        ("emotions", ", ".join(config["emotions"])),
        ("normalisation", config["normalization"]),
        ("codebooks sha256", f"`{config['codebooks_sha256']}`"),
    ]
    if "clip_code" in config:
        bits, window = (config["clip_code"][key] for key in ("bits", "window"))
        every = "clip" if window is None else f"{window} frames"
        facts.append(("clip code", f"{bits:g} bits every {every}"))
    if feature:
        frames = f"{feature['dimension']} dimensions, {feature['frame_rate_hz']:g} Hz"
        facts.append(("features", f"{feature['encoder']}, {frames}"))
    if "system" in config:
        system = f"{config['system']}, {config['n_levels']} level(s)"
        facts.append(("system", system))
        if feature:
            bits = sum(map(math.log2, config["sizes"][: config["n_levels"]]))
            rate = bits * feature["frame_rate_hz"]
            facts.append(("codes", f"{rate:g} bit/s for each expert of the route"))
    if rate := card.get("bitrate_bps"):
        facts.append(("rate", rate_in_words(rate)))
    if score := card.get("held_out"):
        facts.append(("score", score_in_words(score)))
    if note := card.get("audio", {}).get("note"):
        facts.append(("audio", note))
    rows = ("corpus", "synthetic", "fold", "tested", "seed", "training_utterances")
    facts += [(name.replace("_", " "), card[name]) for name in rows if name in card]
    return facts


def rate_in_words(rate: Mapping[str, float]) -> str:
    """Return the mean rate over the training clips in words.

    Examples
    --------
    >>> rate_in_words({"total": 300.7, "side": 0.7})
    '300.7 bit/s, 0.7 of them once a clip'
    """
    return f"{rate['total']:.1f} bit/s, {rate['side']:.1f} of them once a clip"


def score_in_words(score: Mapping[str, Any]) -> str:
    """Return what `learn_score.held_out_score` found in words.

    Examples
    --------
    >>> score_in_words({"none": "2 speakers are known"})
    'no speaker-held-out score: 2 speakers are known'
    >>> macro_f1 = {"mean": 0.79, "low": 0.731, "high": 0.842}
    >>> score_in_words({"macro_f1": macro_f1, "classes": 4, "folds": 5})
    'macro-F1 79.0 % [73.1, 84.2] of 4 classes, on speakers held out in 5 folds'
    """
    if "none" in score:
        return f"no speaker-held-out score: {score['none']}"
    mean, low, high = (100 * score["macro_f1"][k] for k in ("mean", "low", "high"))
    return (
        f"macro-F1 {mean:.1f} % [{low:.1f}, {high:.1f}] of {score['classes']} classes, "
        f"on speakers held out in {score['folds']} folds"
    )

"""Quantizers that come with the package: a directory each, with its model card."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

HOME = Path(__file__).parent
DEFAULT = "emodb-fbank"  # needs no model of an encoder


@dataclass(frozen=True, kw_only=True)
class QuantizersOptions:
    """How they are listed.

    Attributes
    ----------
    format
        A table, or everything (jsonl: one JSON object a line).
    """

    format: Literal["table", "jsonl"] = "table"


def names() -> list[str]:
    """Return the names that `emoq_plugin.load` knows."""
    return sorted(path.parent.name for path in HOME.glob("*/config.json"))


def quantizers(options: QuantizersOptions) -> None:
    """Print each quantizer with its rate, encoder, classes and score."""
    import json

    for entry in listed():
        if options.format == "jsonl":
            print(json.dumps(entry))
        else:
            print(
                "\n".join(f"{key:9} {text}" for key, text in entry.items()), end="\n\n"
            )


def listed() -> Iterator[dict[str, Any]]:
    """Yield what users choose by, all of it from the cards."""
    from emoq_plugin.core.model_card import rate_in_words, score_in_words
    from emoq_plugin.files import read_json

    for name in names():
        config = read_json(HOME / name / "config.json")
        card = config["card"]
        feature, about = card["feature"], card["about"]
        model = feature["versions"].get("model")
        yield {
            "name": name,
            "encoder": feature["encoder"] + (f" ({model})" if model else ""),
            "rate": rate_in_words(card["bitrate_bps"]),
            "classes": ", ".join(config["emotions"]),
            "score": score_in_words(card["held_out"]),
            "language": about["language"],
            "license": about["license"],
            "card": str(HOME / name / "README.md"),
        }

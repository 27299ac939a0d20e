"""The card of a corpus, data/<set>/README.md: counts, seconds, rates, agreement."""

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from xml.sax.saxutils import escape

import numpy as np
import soundfile

from emoq_plugin.data.directory import DataDirectory
from emoq_plugin.evaluation.picture import svg, text
from emoq_plugin.files import atomic_write

CARD, PICTURE, TABLE = "README.md", "classes.svg", "counts.tsv"
REPORTS = (CARD, PICTURE, TABLE)  # in a data directory, and no part of the data
MOST_ROWS = 40  # speakers of table and picture; more have one row for all
NONE = "no majority"
# ColorBrewer's Set2, then its Dark2; grey is for clips without a majority.
COLOURS = ("#66c2a5", "#fc8d62", "#8da0cb", "#e78ac3", "#a6d854", "#ffd92f")
COLOURS += ("#e5c494", "#1b9e77", "#d95f02", "#7570b3", "#e7298a", "#66a61e")
GREY = "#b3b3b3"
WIDTH, ROW, LEFT, TOP = 640, 18, 110, 48  # px


def write_card(
    path: Path, title: str, data: DataDirectory, *, notes: Sequence[str] = ()
) -> None:
    """Write the card and its picture.

    Parameters
    ----------
    path : Path
        Gets README.md and classes.svg.
    title : str
        Of the corpus.
    data : DataDirectory
        Headers of its audio are read, not its samples.
    notes : sequence of str
        How it came to be, a sentence each.
    """
    counts = count_classes(data)
    classes = [*data.emotions] + [NONE] * (len(data.emotion) < len(data.utterances))
    rows = ["| speaker | " + " | ".join(classes) + " | clips |"]
    rows.append("|---" * (len(classes) + 2) + "|")
    for who, count in counts.items():
        cells = " | ".join(str(count[name]) for name in classes)
        rows.append(f"| {who} | {cells} | {count.total()} |")
    lines = [f"# {title}", "", *(f"- {fact}" for fact in _facts(data)), ""]
    lines += [f"![Classes by speaker]({PICTURE})", "", *rows]
    if notes:
        lines += ["", "## How it was read", "", *(f"- {note}" for note in notes)]
    with atomic_write(path / PICTURE) as stream:
        stream.write(draw_classes(title, counts, classes))
    with atomic_write(path / CARD) as stream:
        stream.write("\n".join(lines) + "\n")


def count_classes(data: DataDirectory) -> dict[str, Counter[str]]:
    """Count clips by class, of each speaker and at last of all of them."""
    speakers = sorted(set(data.speaker.values()))
    counts: dict[str, Counter[str]] = {}
    if len(speakers) <= MOST_ROWS:
        counts = {speaker: Counter() for speaker in speakers}
    counts[f"all {len(speakers)}"] = everyone = Counter()
    for utterance in data.utterances:
        name = data.emotion.get(utterance, NONE)
        everyone[name] += 1
        if (speaker := data.speaker[utterance]) in counts:
            counts[speaker][name] += 1
    return counts


def _facts(data: DataDirectory) -> list[str]:
    """Return what one wants to know before anything is learned."""
    facts = [
        f"{len(data.utterances)} clips, {len(set(data.speaker.values()))} speakers"
    ]
    lengths, rates, unknown = _headers(data)
    if lengths:
        low, middle, high = np.quantile(list(lengths.values()), (0, 0.5, 1))
        facts.append(
            f"{sum(lengths.values()) / 60:.1f} minutes; a clip has {low:.1f} to "
            f"{high:.1f} s, half of them at most {middle:.1f} s"
        )
    if rates:
        named = (f"{rate} Hz: {count}" for rate, count in sorted(rates.items()))
        facts.append(f"sampling rates of the files: {', '.join(named)}")
    if unknown:
        facts.append(
            f"{unknown} files are commands, or have headers that cannot be read here: "
            "stage 2 reads them"
        )
    if data.votes:
        shares = [votes.max() / votes.sum() for votes in data.votes.values()]
        raters = np.mean([votes.sum() for votes in data.votes.values()])
        facts.append(
            f"{len(data.votes)} clips have votes, {raters:.1f} on average; the class "
            f"with most votes has {100 * np.mean(shares):.0f} % of them"
        )
    if agreement := data.extra.get("utt2agreement"):
        share = 100 * np.mean([float(value) for value in agreement.values()])
        facts.append(
            f"listeners recognised the intended class in {share:.0f} % of cases"
        )
    if data.ratings:
        facts.append(f"{len(data.ratings)} clips have ratings of arousal and the like")
    if without := len(data.utterances) - len(data.emotion):
        facts.append(f"{without} clips have votes without a majority, and no label")
    return facts


def _headers(data: DataDirectory) -> tuple[dict[str, float], Counter[int], int]:
    """Read seconds by clip and sampling rates by file, and how many stay unknown."""
    lengths: dict[str, float] = {}
    rates: Counter[int] = Counter()
    for name, entry in data.wav.items():
        try:
            header = soundfile.info(entry)
        except (soundfile.SoundFileError, OSError):
            continue
        rates[header.samplerate] += 1
        lengths[name] = header.frames / header.samplerate
    unknown = len(data.wav) - len(lengths)
    if data.segments:
        lengths = {u: end - start for u, (_, start, end) in data.segments.items()}
    return lengths, rates, unknown


def draw_classes(
    title: str, counts: Mapping[str, Counter[str]], classes: Sequence[str]
) -> str:
    """Draw one bar a speaker, divided by class, each of the same width.

    Returns
    -------
    str
        SVG on white ground.
    """
    colours = dict(zip(classes, COLOURS * (len(classes) // len(COLOURS) + 1)))
    colours |= {NONE: GREY}
    parts, wide = [text(LEFT, 18, f"{title}: classes by speaker")], WIDTH - LEFT - 70
    step = (WIDTH - LEFT) / max(len(classes), 1)
    for n, name in enumerate(classes):
        at = LEFT + n * step
        parts.append(_bar(at, 28, 10, 10, colours[name]))
        parts.append(text(at + 14, 37, name))
    for row, (who, count) in enumerate(counts.items()):
        y, x = TOP + row * ROW, float(LEFT)
        parts.append(text(LEFT - 8, y + 12, who, "end"))
        for name in classes:
            width = wide * count[name] / count.total()
            parts.append(_bar(x, y, width, ROW - 4, colours[name]))
            x += width
        parts.append(text(x + 6, y + 12, str(count.total())))
    height = TOP + len(counts) * ROW + 8
    return svg(parts, f"{title}: classes by speaker", (WIDTH, height))


def _bar(x: float, y: float, width: float, height: float, colour: str) -> str:
    box = f'x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{height:.1f}"'
    return f'<rect {box} fill="{escape(colour)}"/>'

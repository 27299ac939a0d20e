"""Recordings with labels: a directory of audio and a table."""

import logging
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from emoq_plugin.data.clip_table import check_labels, read_clips

COLUMNS = """Columns of the table, in any case: file (relative to the directory),
emotion, or votes_<emotion> (how many raters heard it), and speaker if it is known."""


@dataclass(frozen=True)
class LabelledAudio:
    """Recordings with labels, by name.

    Attributes
    ----------
    paths : dict of str to Path
    shares : dict of str to (C,) array
        Share of each class.
    speakers : dict of str to str
        Empty where they are not known.
    classes : list of C str
    """

    paths: dict[str, Path]
    shares: dict[str, np.ndarray]
    speakers: dict[str, str]
    classes: list[str]

    def labels(self, names: Sequence[str]) -> list[str]:
        """Return the class with most votes of each recording."""
        return [self.classes[self.shares[name].argmax()] for name in names]


def read_labels(
    table: Path, audio_dir: Path, classes: Sequence[str] = ()
) -> LabelledAudio:
    """Read a table of labels and look for its audio.

    Parameters
    ----------
    table : Path
        See `COLUMNS`; the dialects are those of `data.clip_table.read_clips`.
    audio_dir : Path
    classes : sequence of str, optional
        All labels when empty.

    Raises
    ------
    ValueError
        For a table that cannot be read (with its line), files that are missing, a
        class without clips, fewer than two classes, speakers of some clips only.
    """
    if not audio_dir.is_dir():
        raise ValueError(f"{audio_dir} is no directory: give that of the audio first")
    if not table.is_file():
        raise ValueError(f"{table} is no file: expected a table of labels")
    found = read_clips(table, {}, audio_dir=audio_dir, needed=["file"])
    check_labels(found)
    labels = {x for clip in found.clips for x in clip.votes or [clip.label]}
    classes = list(classes) or sorted(labels)
    if unknown := [c for c in classes if c not in labels]:
        raise ValueError(
            f"--classes {unknown[0]}: {table} has no such label, found: "
            f"{' '.join(sorted(labels))}"
        )
    if len(set(classes)) < 2:
        raise ValueError(f"{table}: one class, {classes[0]}, expected at least two")
    votes = {n: c.votes or {c.label: 1.0} for n, c in enumerate(found.clips)}
    used = [n for n in votes if any(votes[n].get(c) for c in classes)]
    if len(used) < len(votes):
        logging.warning(
            "%s: %d of %d clips are of no class and left out",
            *(table, len(votes) - len(used), len(votes)),
        )
    clips = [found.clips[n] for n in used]
    names = [clip.name for clip in clips]
    [(twin, times)] = Counter(names).most_common(1)
    if times > 1:
        raise ValueError(
            f"{table}: {times} files have the name '{twin}': give them names in a "
            "column 'id'"
        )
    if missing := [c.audio for c in clips if not c.audio.is_file()]:
        raise ValueError(
            f"{table}: {len(missing)} of {len(clips)} files are missing, such as "
            f"{missing[0]}: files are seen from {audio_dir}"
        )
    speakers = {c.name: c.speaker for c in clips if c.speaker}
    if speakers and len(speakers) < len(clips):
        raise ValueError(
            f"{table}: {len(clips) - len(speakers)} of {len(clips)} clips have no "
            "speaker: fill in the column in every row, or remove it"
        )
    counts = [np.array([votes[n].get(c, 0.0) for c in classes]) for n in used]
    logging.info("%s", found.found())
    return LabelledAudio(
        {c.name: c.audio for c in clips},
        {name: count / count.sum() for name, count in zip(names, counts)},
        speakers,
        classes,
    )

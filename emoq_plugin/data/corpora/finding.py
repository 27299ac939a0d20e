"""The clips of a corpus that are there, and what was left out and why."""

import dataclasses
import filecmp
import logging
import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from emoq_plugin.data.corpora.archives import is_packed, stem
from emoq_plugin.data.corpora.corpus import READABLE, Clip, Corpus, utterance_id
from emoq_plugin.data.corpora.tables import given
from emoq_plugin.data.tree import OTHER, listed, walk

# What is reported where no clip of a corpus uses it.
AUDIO = (*READABLE, ".aac", ".aif", ".aiff", ".au", ".avi", ".flv", ".m4a", ".mkv")
AUDIO = (*AUDIO, ".mov", ".mp4", ".mpg", ".opus", ".sph", ".webm", ".wma")
GENDERS = {"female": "f", "woman": "f", "male": "m", "man": "m", "unknown": ""}

REPORTED = ("label", "votes", "text", "gender")


def find_clips(corpus: Corpus, directory: Path, **options: str) -> list[Clip]:
    """Find the clips of a corpus whose audio is there, each once.

    One line of the log says how many were described, used and left out, and why.

    Raises
    ------
    FileNotFoundError
        If no clip is found, with the expected layout.
    ValueError
        For a label that no table names, a name that cannot be an id, and two clips
        of one id that are not the same.
    """
    try:
        clips = sorted(corpus.find(directory, **options), key=_identity)
    except FileNotFoundError as error:
        raise FileNotFoundError(f"{error}\n{corpus.whereabouts}") from error
    kept: dict[str, Clip] = {}
    left_out: dict[str, list[str]] = {}
    for clip in map(_normalized, clips):
        utterance = utterance_id(corpus, clip)
        reason = clip.left_out
        if not reason and not clip.audio.is_file():
            reason = "without their audio file"
        elif not reason and utterance in kept:
            _refuse_unlike(kept[utterance], clip, utterance)
            reason = "duplicate takes"
        if reason:
            left_out.setdefault(reason, []).append(str(clip.audio))
        else:
            kept[utterance] = clip
    found = list(kept.values())
    summary = [listed(left_out), _unused(directory, clips) if corpus.whole_tree else ""]
    passed_over = ", ".join(filter(None, summary))
    if not found:
        raise FileNotFoundError(
            f"{directory}: no clip with audio{passed_over and ', but: '}{passed_over}\n"
            f"{corpus.whereabouts}"
        )
    known = Counter(name for clip in found for name in _known(clip))
    logging.log(
        logging.WARNING if passed_over else logging.INFO,
        "%s: %d of %d clips used (%s)%s",
        *(corpus.title, len(found), len(clips)),
        ", ".join(
            f"{name} {known[name]}" for name in dict.fromkeys([*REPORTED, *known])
        ),
        passed_over and f"; left out: {passed_over}",
    )
    _check_labels(corpus, found)
    return found


def _known(clip: Clip) -> list[str]:
    """Name what is known of a clip."""
    rated = ["ratings"] if clip.ratings else []
    return [*(name for name in REPORTED if getattr(clip, name)), *rated, *clip.extra]


def _identity(clip: Clip) -> tuple[str, str, str]:
    return clip.speaker, clip.name, str(clip.audio)


def _normalized(clip: Clip) -> Clip:
    """Spell what is unknown and the genders in one way; refuse what is no id.

    Raises
    ------
    ValueError
        For a speaker or name that is `-` or the like, or holds blanks or slashes.
    """
    for what, value in (("speaker", clip.speaker), ("name", clip.name)):
        if not re.fullmatch(r"[^\s/]*\w[^\s/]*", value):
            raise ValueError(
                f"{clip.audio}: {what} '{value}' cannot be part of an id, expected a "
                "word without blanks and slashes"
            )
    gender = "_".join(given(clip.gender).lower().split())
    return dataclasses.replace(
        clip,
        label=clip.label if clip.label.strip(" -") else "",
        text=clip.text if clip.text.strip(" -") else "",
        gender=GENDERS.get(gender, gender),
    )


def _refuse_unlike(first: Clip, other: Clip, utterance: str) -> None:
    """Refuse two clips of one id, unless they say and hold the same."""
    for name in ("label", "votes", "ratings", "speaker", "group", "text", "gender"):
        values = getattr(first, name), getattr(other, name)
        if values[0] != values[1]:
            raise ValueError(
                f"{utterance} occurs twice, {first.audio} with {name} '{values[0]}' "
                f"and {other.audio} with '{values[1]}': expected one row a clip"
            )
    if first.audio != other.audio and not filecmp.cmp(
        first.audio, other.audio, shallow=False
    ):
        raise ValueError(
            f"{first.audio} and {other.audio} are different recordings of one id, "
            f"{utterance}: rename or remove one"
        )


def _unused(directory: Path, clips: Sequence[Clip]) -> str:
    """Say what else the directory holds; audio decoded beside a film is one with it."""
    tree = walk(directory, AUDIO)
    used = {clip.audio.with_suffix("") for clip in clips}
    unused = [path for path in tree.files if path.with_suffix("") not in used]
    packed = [
        path
        for path in sorted(tree.left_out.pop(OTHER, []))
        if is_packed(path) and not (path.parent / stem(path)).is_dir()
    ]
    for reason, paths in (
        ("audio files of other names or in no table", unused),
        ("archives, which are not unpacked", packed),
    ):
        if paths:
            tree.left_out[reason] = paths
    return tree.listed()


def _check_labels(corpus: Corpus, clips: Sequence[Clip]) -> None:
    known = {"", *corpus.others}
    known.update(*corpus.labels.values())
    for clip in clips:
        if strange := [x for x in (clip.label, *clip.votes) if x not in known]:
            raise ValueError(
                f"{clip.audio}: label '{strange[0]}', expected one of: "
                f"{' '.join(sorted(known - {''}))}"
            )

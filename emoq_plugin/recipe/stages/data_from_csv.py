"""A corpus described by one CSV file: data/all, data/emotions and data/folds."""

import codecs
import logging
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from os.path import isfile
from pathlib import Path
from typing import Annotated, Literal

from emoq_plugin.data.clip_table import (
    ClipTable,
    check_labels,
    read_clips,
)
from emoq_plugin.data.corpora.corpus import Clip, Corpus, Published, utterance_id
from emoq_plugin.data.corpora.finding import find_clips
from emoq_plugin.data.corpora.tables import UnknownEncoding
from emoq_plugin.data.names import emotion_fault, id_fault
from emoq_plugin.data.ratings import DIMENSIONS, Scale, as_scale
from emoq_plugin.files import errors_of
from emoq_plugin.options import REPEATED, Count, Natural
from emoq_plugin.recipe.stages.prepare_corpus import NoMajority, write

COLUMNS = """Columns, in any case: file (relative to the CSV file), speaker, emotion,
and if you have them text, gender, votes_<emotion> (how many raters heard it),
arousal, valence, dominance (see --rating_scale), group (sessions: leave one out), part
(train; valid, val or dev; test..., eval...: your own split), id (instead of a name made
of file). With votes emotion may be empty: it becomes their unique majority. Other
columns are passed over. Commas, semicolons, tabs or | may divide them."""


def known_encoding(text: str) -> str:
    """Check the name of an encoding."""
    try:
        codecs.lookup(text)
    except LookupError:
        raise ValueError(
            f"no encoding '{text}', expected a name such as cp1252"
        ) from None
    return text


@dataclass(frozen=True, kw_only=True)
class DataFromCsvOptions:
    """Which table, and what is made of it.

    Attributes
    ----------
    csv
        Table with a header line.
    encoding
        Of a table that is not UTF-8, for example cp1252.
    corpus
        Prefix of the ids; default: name of the file.
    output_dir
        Where all, emotions and folds are put.
    set_name
        Name of the data directory.
    one_row_per
        Rater: a file has a row for each rater, which are counted as votes.
    classes
        Classes in order; default: all, sorted.
    map
        LABEL=CLASS pairs that rename or merge labels, for example excited=happy
        'very sad=sad'.
    no_majority
        Clips whose raters do not agree: keep gives them votes and no label.
    rating_scale
        Lowest and highest rating of arousal, valence and dominance that raters could
        give, for example 1 7; without it these columns are passed over.
    n_folds
        Default: 5, or as many as there are speakers.
    n_valid_speakers
        Held out of each training part.
    """

    csv: Path
    encoding: Annotated[str, known_encoding] | None = None
    corpus: str = ""
    output_dir: Path = Path("data")
    set_name: str = "all"
    one_row_per: Literal["clip", "rater"] = "clip"
    classes: tuple[str, ...] = ()
    map: Annotated[tuple[str, ...], REPEATED] = ()
    no_majority: NoMajority = "drop"
    rating_scale: tuple[float, ...] = ()
    n_folds: Count | None = None
    n_valid_speakers: Natural = 1


def data_from_csv(options: DataFromCsvOptions) -> None:
    """Write data directory, class order and folds unless they are there."""
    if not options.csv.is_file():
        raise FileNotFoundError(f"{options.csv}: no such CSV file")
    try:
        table = read_clips(
            options.csv,
            renaming(options.map),
            one_row_per=options.one_row_per,
            encoding=options.encoding or "",
            rating_scale=_scale(options),
        )
    except UnknownEncoding as error:
        raise ValueError(
            f"{error}, or say its encoding, for example --encoding cp1252"
        ) from error
    corpus = describe(table, options)
    logging.info("%s", table.found())
    if unread := [name for name in table.passed_over if name in DIMENSIONS]:
        logging.warning(
            "%s: ratings of %s are passed over: say which scale they are on with "
            "--rating_scale <lowest> <highest>",
            *(table.path, ", ".join(unread)),
        )
    clips = find_clips(corpus, options.csv.parent)
    notes = [table.found(), *(f"renamed: {pair}" for pair in options.map)]
    write(corpus, clips, options, class_set="csv", notes=notes)


def _scale(options: DataFromCsvOptions) -> Scale | None:
    if not options.rating_scale:
        return None
    with errors_of("--rating_scale"):
        return as_scale(options.rating_scale)


def renaming(pairs: Sequence[str]) -> dict[str, str]:
    """Read the pairs of `--map`.

    Raises
    ------
    ValueError
        For what is no pair, or a label with two classes.

    Examples
    --------
    >>> renaming(["excited=happy", "a=b=sad"])
    {'excited': 'happy', 'a=b': 'sad'}
    """
    renamed: dict[str, str] = {}
    for pair in pairs:
        label, _, name = pair.rpartition("=")
        if not label or not name:
            raise ValueError(
                f"--map '{pair}', expected LABEL=CLASS, in quotes where it has blanks"
            )
        if renamed.setdefault(label, name) != name:
            raise ValueError(
                f"--map: '{label}' becomes both '{renamed[label]}' and '{name}'"
            )
    return renamed


def describe(table: ClipTable, options: DataFromCsvOptions) -> Corpus:
    """Make the description of the corpus that stage 1 writes.

    Raises
    ------
    ValueError
        For labels and ids that a later stage would refuse, with the way out.
    """
    check_labels(table)
    labels = {x for clip in table.clips for x in (clip.label, *clip.votes)} - {""}
    classes = options.classes or sorted(labels)
    if absent := [c for c in classes if c not in labels]:
        raise ValueError(
            f"--classes {absent[0]}: no such label, found: {' '.join(sorted(labels))}"
        )
    for name in classes:
        if fault := emotion_fault(name):
            raise ValueError(
                f"{table.path}: label '{name}', {fault}: rename it with "
                f"'--map={name}=<class>', or choose others with --classes"
            )
    if len(set(classes)) < 2:
        raise ValueError(
            f"{table.path}: one class, {classes[0]}, expected at least two"
        )
    if options.n_folds and table.folds != "speakers":
        raise ValueError(
            f"--n_folds {options.n_folds} counts folds of speakers, but {table.path} "
            f"has {table.folds}, which are folds themselves: leave out one of both"
        )
    clips = [
        replace(clip, left_out=_left_out(clip, classes, options.no_majority))
        for clip in table.clips
    ]
    n_speakers = len({clip.speaker for clip in clips if not clip.left_out})
    corpus = Corpus(
        name=options.corpus or re.sub(r"\W+", "", table.path.stem),
        title=str(table.path),
        layout="a CSV file and the audio that it names, relative to its place",
        source="docs/new_corpus.md",
        labels={"csv": {emotion: emotion for emotion in classes}},
        others=labels - set(classes),
        find=lambda directory: clips,
        published=Published(""),
        folds=table.folds,
        n_folds=min(5, n_speakers),
        rating_scale=table.rating_scale,
        whole_tree=False,
    )
    _check_ids(corpus, table)
    return corpus


def _left_out(clip: Clip, classes: Sequence[str], no_majority: str) -> str:
    """Return why a clip is not used; empty where it is."""
    if not isfile(clip.audio):  # False too for a name that is too long
        return "without their audio file"
    if clip.label:
        known = clip.label in classes
        return "" if known else f"of '{clip.label}', which is no class"
    voted = any(clip.votes.get(name) for name in classes)
    return "" if voted and no_majority == "keep" else "without a majority"


def _check_ids(corpus: Corpus, table: ClipTable) -> None:
    """Refuse ids of two clips, and those that cannot be file names."""
    ids: dict[str, tuple[int, Path]] = {}
    way_out = "give it another name in a column 'id'"
    for line, clip in zip(table.lines, table.clips):
        utterance = utterance_id(corpus, clip)
        where = f"{table.path}:{line}: "
        if fault := id_fault(utterance):
            raise ValueError(f"{where}{fault}: {way_out}")
        there, other = ids.setdefault(utterance, (line, clip.audio))
        if there != line:
            raise ValueError(
                f"{where}'{clip.audio}' has the id '{utterance}', as '{other}' in "
                f"line {there} has: {way_out}"
            )

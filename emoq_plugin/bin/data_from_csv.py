"""A corpus described by one CSV file: data/all, data/emotions and data/folds."""

import argparse
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from emoq_plugin.bin import prepare_corpus
from emoq_plugin.bin._command import run_command
from emoq_plugin.data.corpora.corpus import Clip, Corpus, Published
from emoq_plugin.data.corpora.finding import find_clips
from emoq_plugin.data.corpora.tables import rows
from emoq_plugin.data.votes import majority

VOTES = "votes_"
COLUMNS = """Columns: file (relative to the CSV file), speaker, emotion, and if you have
them text, gender, votes_<emotion> (how many raters heard it), group (sessions: leave
one out), part (train, valid, test...: your own split). With votes emotion may be empty:
it becomes their unique majority. Other columns are passed over."""


def get_parser() -> argparse.ArgumentParser:
    """Give the options of this command."""
    parser = argparse.ArgumentParser(
        prog="data_from_csv", description=f"{__doc__} {COLUMNS}"
    )
    add = parser.add_argument
    add("--csv", required=True, help="table with a header line; .tsv: tabs")
    add("--corpus", default="", help="prefix of the ids; default: name of the file")
    add("--output_dir", default="data", help="where all, emotions and folds are put")
    add("--set_name", default="all", help="name of the data directory")
    add("--classes", nargs="+", help="classes in order; default: all, sorted")
    add(
        "--map",
        nargs="+",
        default=[],
        metavar="LABEL=CLASS",
        help="rename or merge labels, for example excited=happy",
    )
    add("--no_majority", choices=prepare_corpus.NO_MAJORITY, default="drop")
    add("--n_folds", type=int, help="default: 5, or as many as there are speakers")
    add("--n_valid_speakers", type=int, default=1)
    return parser


def read_clips(table: Path, renamed: Mapping[str, str]) -> tuple[list[Clip], str]:
    """Read the clips of a CSV file.

    Parameters
    ----------
    table : Path
    renamed : mapping of str to str
        Class by label; other labels are classes themselves.

    Returns
    -------
    clips : list of Clip
    folds : {"speakers", "groups", "parts"}
        What the columns allow.

    Raises
    ------
    ValueError
        For a missing column or value, or votes that are no numbers, with the line;
        for a renamed label that does not occur.
    """
    delimiter = "\t" if table.suffix == ".tsv" else ","
    clips, folds, found = [], "speakers", set()
    for line, row in rows(table, ["file", "speaker"], delimiter=delimiter):
        where = f"{table}:{line}"
        folds = "parts" if "part" in row else "groups" if "group" in row else folds
        if not row["file"] or not row["speaker"]:
            raise ValueError(f"{where}: file and speaker must not be empty")
        label, votes = row.get("emotion", ""), {}
        found.add(label)
        for name, count in _votes(row, where).items():
            found.add(name)
            name = renamed.get(name, name)
            votes[name] = votes.get(name, 0.0) + count
        if not label and votes:
            label = majority(np.array(list(votes.values())), list(votes)) or ""
        if not label and not votes:
            raise ValueError(f"{where}: neither an emotion nor votes")
        clips.append(
            Clip(
                re.sub(r"[^\w.+-]+", "_", str(Path(row["file"]).with_suffix(""))),
                table.parent / row["file"],
                re.sub(r"[^\w.+-]+", "_", row["speaker"]),
                renamed.get(label, label),
                votes=votes,
                text=row.get("text", ""),
                gender=row.get("gender", ""),
                group=row.get("part") or row.get("group", ""),
            )
        )
    if wrong := sorted(set(renamed) - found):
        known = " ".join(sorted(found - {""}))
        raise ValueError(f"--map {wrong[0]}: no such label, found: {known}")
    return clips, folds


def describe(table: Path, options: argparse.Namespace) -> tuple[Corpus, list[Clip]]:
    """Make the description of the corpus that `prepare_corpus` writes."""
    renamed = dict(pair.partition("=")[::2] for pair in options.map)
    clips, folds = read_clips(table, renamed)
    labels = {x for clip in clips for x in (clip.label, *clip.votes)} - {""}
    classes = options.classes or sorted(labels)
    if absent := [c for c in classes if c not in labels]:
        raise ValueError(
            f"--classes {absent[0]}: no such label, found: {' '.join(sorted(labels))}"
        )
    n_speakers = len({clip.speaker for clip in clips})
    corpus = Corpus(
        name=options.corpus or re.sub(r"\W+", "", table.stem),
        title=str(table),
        layout="a CSV file and the audio that it names, relative to its place",
        source="docs/new_corpus.md",
        labels={"csv": {emotion: emotion for emotion in classes}},
        others=labels - set(classes),
        find=lambda directory: clips,
        published=Published(""),
        folds=folds,
        n_folds=min(5, n_speakers),
        whole_tree=False,
    )
    return corpus, find_clips(corpus, table.parent)


def work(options: argparse.Namespace) -> None:
    """Write data directory, class order and folds unless they stand."""
    table = Path(options.csv)
    if not table.is_file():
        raise FileNotFoundError(f"{table}: no such CSV file")
    corpus, clips = describe(table, options)
    prepare_corpus.write(corpus, clips, options, class_set="csv")


def _votes(row: dict[str, str], where: str) -> dict[str, float]:
    votes = {}
    for name, text in row.items():
        if not name.startswith(VOTES) or not text:
            continue
        try:
            votes[name.removeprefix(VOTES)] = float(text)
        except ValueError:
            raise ValueError(
                f"{where}: column '{name}' counts raters, found '{text}'"
            ) from None
    if any(not 0 <= count < float("inf") for count in votes.values()):
        raise ValueError(f"{where}: votes must be finite and >= 0, found {votes}")
    return votes if any(votes.values()) else {}


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command."""
    run_command(get_parser, work, arguments)


if __name__ == "__main__":
    main()

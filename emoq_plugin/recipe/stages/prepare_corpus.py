"""Stage 1 of a known corpus: data/all, data/emotions, speaker-disjoint data/folds."""

import argparse
import hashlib
import logging
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from emoq_plugin import data as data_code
from emoq_plugin.data import corpora
from emoq_plugin.data.corpora.archives import is_packed, unpack
from emoq_plugin.data.corpora.corpus import (
    DOWNLOAD,
    Clip,
    Corpus,
    build,
    genders,
    make_folds,
)
from emoq_plugin.data.corpora.download import Download, fetch, fetch_media
from emoq_plugin.data.corpora.finding import find_clips
from emoq_plugin.data.directory import DataDirectory, write_lines
from emoq_plugin.data.folds import PARTS, Fold, check_speaker_disjoint, write_folds
from emoq_plugin.files import atomic_write, write_table
from emoq_plugin.recipe.stage import Stage

NO_MAJORITY = ("drop", "keep")


def get_parser() -> argparse.ArgumentParser:
    """Return the options of this command, those of single corpora at the end."""
    parser = argparse.ArgumentParser(
        prog="prepare_corpus",
        description=f"{__doc__} Corpora: {', '.join(corpora.names())}.",
    )
    add = parser.add_argument
    add("--corpus", required=True, help="one of the names above")
    add(
        "--corpus_dir",
        required=True,
        help=f"directory or archive as distributed; {DOWNLOAD}: fetch it, if open",
    )
    add("--output_dir", default="data", help="where all, emotions and folds are put")
    add("--set_name", default="all", help="name of the data directory")
    add("--downloads", default="downloads", help="where archives are unpacked")
    add("--classes", help="class set of the corpus; default: its first, paper4")
    add(
        "--no_majority",
        choices=NO_MAJORITY,
        default="drop",
        help="clips whose raters do not agree: keep gives them votes and no label",
    )
    add("--n_folds", type=int, help="where folds are made of speakers")
    add("--n_valid_speakers", type=int, help="the same")
    for name, use in _own_options().items():
        add(f"--{name}", help="; ".join(use))
    return parser


def _own_options() -> dict[str, list[str]]:
    """Return the options that only some corpora have, with their choices in words."""
    found: dict[str, list[str]] = {}
    for name in corpora.names():
        for option, choices in corpora.load(name).options.items():
            use = f"{name}: {', '.join(choices) or 'path'}"
            found.setdefault(option, []).append(use)
    return found


def corpus_options(corpus: Corpus, options: argparse.Namespace) -> dict[str, str]:
    """Choose the options that only some corpora have.

    Raises
    ------
    ValueError
        For an option or value that this corpus does not have.
    """
    chosen = {name: next(iter(c), "") for name, c in corpus.options.items()}
    for name in _own_options():
        value = getattr(options, name)
        if value is None:
            continue
        if name not in chosen:
            listed = " ".join(f"--{o}" for o in chosen) or "none of its own"
            raise ValueError(f"{corpus.name} has no option --{name}, but: {listed}")
        choices = corpus.options[name]
        if choices and value not in choices:
            raise ValueError(f"--{name} {value}, expected one of: {' '.join(choices)}")
        chosen[name] = value
    return chosen


def work(options: argparse.Namespace) -> None:
    """Write data directory, class order and folds unless they stand.

    Raises
    ------
    FileNotFoundError
        If the corpus is not there.
    ValueError
        If it is not as expected.
    """
    corpus = corpora.load(options.corpus)
    class_set = options.classes or next(iter(corpus.labels))
    corpus.classes(class_set)
    own = corpus_options(corpus, options)
    place = Path(options.corpus_dir)
    if options.corpus_dir == DOWNLOAD and corpus.download:
        place = download(corpus.download, Path(options.downloads) / corpus.name)
    if not options.corpus_dir or not place.exists():
        raise FileNotFoundError(
            f"no directory or archive '{options.corpus_dir}'\n{corpus.whereabouts}"
        )
    directory = unpack(place, Path(options.downloads)) if place.is_file() else place
    clips = find_clips(corpus, directory, **own)
    if corpus.note:
        logging.warning("%s: %s", corpus.title, corpus.note)
    write(corpus, clips, options, class_set=class_set)


def download(files: Download, into: Path) -> Path:
    """Fetch and unpack an open corpus, what is there already not again.

    Returns
    -------
    Path
        Its directory.

    Raises
    ------
    OSError, ValueError
        As `fetch` and `unpack`.
    """
    for archive in files.archives:
        logging.info("%s -> %s", archive.url, into / archive.name)
        path = fetch(archive, into)
        if not archive.checksum:
            logging.warning("%s: no checksum is published, none was compared", path)
        if not is_packed(path):
            continue
        try:
            directory = unpack(path, into)
        except ValueError as error:
            raise ValueError(f"{error}; remove it to fetch it again") from error
        if files.media_url:
            fetch_media(directory, files)
    return into


def write(
    corpus: Corpus,
    clips: Sequence[Clip],
    options: argparse.Namespace,
    *,
    class_set: str,
) -> None:
    """Write what was found; see `work`."""
    output = Path(options.output_dir)
    # wav.scp names the paths, so another place of the corpus is another result.
    listing = "\n".join(map(repr, clips)) + str(Path.cwd())
    stage = Stage(
        output / options.set_name,
        settings={
            "corpus": corpus.name,
            "labels": [list(pair) for pair in corpus.labels[class_set].items()],
            "no_majority": options.no_majority,
            "n_folds": options.n_folds,
            "n_valid_speakers": options.n_valid_speakers,
            "clips": hashlib.sha256(listing.encode()).hexdigest(),
        },
        code=[data_code],
    )
    beside = [output / "emotions", output / "folds"]
    if stage.is_done() and all(path.exists() for path in beside):
        return
    data = build(corpus, clips, class_set=class_set, no_majority=options.no_majority)
    folds = make_folds(
        corpus,
        clips,
        data,
        n_folds=options.n_folds,
        n_valid_speakers=options.n_valid_speakers,
    )
    for fold in folds:
        check_speaker_disjoint(fold, data.speaker)
    stage.start()
    data.write(stage.output)
    _write_beside(stage.output, data, genders(corpus, clips))
    write_lines(output / "emotions", data.emotions)
    write_folds(output / "folds", folds)
    _report(corpus, clips, data, folds)
    stage.finish(n_utterances=len(data.utterances))


def _write_beside(path: Path, data: DataDirectory, gender: dict[str, str]) -> None:
    """Write genders and the counts per speaker and class."""
    speakers = sorted(set(data.speaker.values()))
    if known := {s: gender[s] for s in speakers if s in gender}:
        write_table(path / "spk2gender", known)
    else:
        (path / "spk2gender").unlink(missing_ok=True)
    counts = Counter(
        (data.speaker[u], data.emotion.get(u, "")) for u in data.utterances
    )
    columns = [*data.emotions, ""]
    with atomic_write(path / "counts.tsv") as stream:
        print("speaker", *data.emotions, "no_majority", sep="\t", file=stream)
        for speaker in speakers:
            print(
                speaker, *(counts[speaker, e] for e in columns), sep="\t", file=stream
            )


def _report(
    corpus: Corpus, clips: Sequence[Clip], data: DataDirectory, folds: Sequence[Fold]
) -> None:
    """Say what was found and where it differs from the published totals."""
    if differences := corpus.published.differences(clips):
        logging.warning(
            "differs from what is published (%s): %s",
            corpus.published.source,
            ", ".join(differences),
        )
    counts = Counter(data.emotion.values())
    logging.info(
        "%s: %d clips, %d speakers, %s, no majority %d, votes for %d",
        corpus.title,
        len(data.utterances),
        len(set(data.speaker.values())),
        ", ".join(f"{e} {counts[e]}" for e in data.emotions),
        len(data.utterances) - len(data.emotion),
        len(data.votes),
    )
    for fold in folds:
        sizes = ", ".join(f"{part} {len(getattr(fold, part))}" for part in PARTS)
        logging.info("fold %s: %s", fold.name, sizes)

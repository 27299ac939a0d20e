"""Stage 1 of a known corpus: data/all, data/emotions, speaker-disjoint data/folds."""

import hashlib
import logging
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal

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
from emoq_plugin.options import PASSED_ON, Count, Natural
from emoq_plugin.recipe.corpus_card import TABLE, write_card
from emoq_plugin.recipe.stage import Stage

NoMajority = Literal["drop", "keep"]


@dataclass(frozen=True, kw_only=True)
class PrepareCorpusOptions:
    """Options of stage 1.

    Attributes
    ----------
    corpus : str
        One of the names above.
    corpus_dir : str
        Directory or archive as distributed; download: fetch it, if open.
    output_dir : Path
        Where all, emotions and folds are put.
    set_name : str
        Name of the data directory.
    downloads : Path
        Where archives are unpacked.
    classes : str, optional
        Class set of the corpus; its first, paper4, when left out.
    no_majority : {"drop", "keep"}
        Clips whose raters do not agree: keep gives them votes and no label.
    n_folds : int, optional
        Where folds are made of speakers.
    n_valid_speakers : int, optional
        The same.
    own : mapping of str to str
        Options that only some corpora have, see `own_options`.
    """

    corpus: str
    corpus_dir: str
    output_dir: Path = Path("data")
    set_name: str = "all"
    downloads: Path = Path("downloads")
    classes: str | None = None
    no_majority: NoMajority = "drop"
    n_folds: Count | None = None
    n_valid_speakers: Natural | None = None
    own: Annotated[Mapping[str, str], PASSED_ON] = field(default_factory=dict)


def prepare_corpus(options: PrepareCorpusOptions) -> None:
    """Write data directory, class order and folds unless they are there.

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
    own = corpus_options(corpus, options.own)
    place = Path(options.corpus_dir)
    if options.corpus_dir == DOWNLOAD and corpus.download:
        place = download(corpus.download, options.downloads / corpus.name)
    if not options.corpus_dir or not place.exists():
        raise FileNotFoundError(
            f"no directory or archive '{options.corpus_dir}'\n{corpus.whereabouts}"
        )
    directory = unpack(place, options.downloads) if place.is_file() else place
    clips = find_clips(corpus, directory, **own)
    if corpus.note:
        logging.warning("%s: %s", corpus.title, corpus.note)
    write(corpus, clips, options, class_set=class_set)


def own_options() -> dict[str, list[str]]:
    """Return the options that only some corpora have, with their choices in words."""
    found: dict[str, list[str]] = {}
    for name in corpora.names():
        for option, choices in corpora.load(name).options.items():
            use = f"{name}: {', '.join(choices) or 'path'}"
            found.setdefault(option, []).append(use)
    return found


def corpus_options(corpus: Corpus, own: Mapping[str, str]) -> dict[str, str]:
    """Choose the options that only some corpora have.

    Raises
    ------
    ValueError
        For an option or value that this corpus does not have.
    """
    chosen = {name: next(iter(c), "") for name, c in corpus.options.items()}
    for name, value in own.items():
        if name not in chosen:
            listed = " ".join(f"--{o}" for o in chosen) or "none of its own"
            raise ValueError(f"{corpus.name} has no option --{name}, but: {listed}")
        choices = corpus.options[name]
        if choices and value not in choices:
            raise ValueError(f"--{name} {value}, expected one of: {' '.join(choices)}")
    return chosen | dict(own)


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
    options: PrepareCorpusOptions,
    *,
    class_set: str,
    notes: Sequence[str] = (),
) -> None:
    """Write what was found; see `prepare_corpus`.

    Parameters
    ----------
    corpus : Corpus
    clips : sequence of Clip
    options : PrepareCorpusOptions or DataFromCsvOptions
    class_set : str
    notes : sequence of str
        For the card of the corpus.
    """
    output = options.output_dir
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
    notes = [*notes, *_report(corpus, clips, data, folds)]
    write_card(stage.output, corpus.title, data, notes=notes)
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
    with atomic_write(path / TABLE) as stream:
        print("speaker", *data.emotions, "no_majority", sep="\t", file=stream)
        for speaker in speakers:
            print(
                speaker, *(counts[speaker, e] for e in columns), sep="\t", file=stream
            )


def _report(
    corpus: Corpus, clips: Sequence[Clip], data: DataDirectory, folds: Sequence[Fold]
) -> list[str]:
    """Log what was found and where it differs from the published totals.

    Returns
    -------
    notes : list of str
        What the card of the corpus repeats.
    """
    notes = []
    if differences := corpus.published.differences(clips):
        source = corpus.published.source
        notes.append(
            f"differs from what is published ({source}): {', '.join(differences)}"
        )
        logging.warning("%s", notes[-1])
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
        notes.append(f"fold {fold.name}: {sizes}")
    if left_out := Counter(clip.left_out for clip in clips if clip.left_out):
        named = (f"{count} {why}" for why, count in left_out.most_common())
        notes.append(f"clips left out: {', '.join(named)}")
    return notes

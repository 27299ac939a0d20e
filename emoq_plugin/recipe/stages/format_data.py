"""Stage 2: every utterance as mono audio at one rate, unusable ones named."""

import hashlib
import logging
import shutil
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from itertools import chain
from os.path import isfile
from pathlib import Path
from typing import Literal

import soundfile

from emoq_plugin import data as data_code
from emoq_plugin import speech
from emoq_plugin.data.directory import (
    DataDirectory,
    by_recording,
    fault_report,
    place_of_audio,
    read_emotions,
    write_lines,
)
from emoq_plugin.data.names import AUDIO_SUFFIX, further_tables
from emoq_plugin.files import read_table, write_table
from emoq_plugin.options import Count, Seconds
from emoq_plugin.progress import progress
from emoq_plugin.recipe.corpus_card import REPORTS
from emoq_plugin.recipe.stage import Stage
from emoq_plugin.speech.audio import (
    MULTI_CHANNEL,
    Recording,
    fits_as_it_is,
    resample,
    write_audio,
)
from emoq_plugin.speech.band import BANDS, RATES, band_metadata, band_of
from emoq_plugin.speech.pipes import is_pipe

OnError = Literal["stop", "drop"]
MultiChannel = Literal[MULTI_CHANNEL]


@dataclass(frozen=True)
class Outcome:
    """What became of an utterance: an entry of wav.scp, or why there is none."""

    utterance: str
    entry: str = ""
    n_samples: int = 0
    rate: int = 0  # of the recording, Hz
    band: int = 0  # highest frequency in it, Hz
    dropped: str = ""
    fault: str = ""


@dataclass(frozen=True, kw_only=True)
class FormatDataOptions:
    """Options of stage 2.

    Attributes
    ----------
    data_dir : Path
        Directory with wav.scp.
    emotions : Path
        Class order, one a line.
    output_dir : Path
        dump/raw/<set>.
    sample_rate : int
        Hz.
    min_seconds : float
        Shorter ones are dropped.
    max_seconds : float
        Longer ones are dropped.
    on_error : {"stop", "drop"}
        For missing, unreadable, empty, NaN or silent audio.
    multi_channel : {"error", "first", "mean"}
        What becomes of more than one channel.
    allow_pipe : bool
        Run commands in wav.scp.
    nj : int
        Threads.
    """

    data_dir: Path
    emotions: Path
    output_dir: Path
    sample_rate: Count = 16000
    min_seconds: Seconds = 0.1
    max_seconds: Seconds = 60.0
    on_error: OnError = "stop"
    multi_channel: MultiChannel = "error"
    allow_pipe: bool = False
    nj: Count = 1


def format_data(options: FormatDataOptions) -> None:
    """Format all utterances unless that is done.

    Raises
    ------
    ValueError
        Listing every unusable recording (`--on_error stop`), or if nothing is left.
    """
    data_dir, output = options.data_dir, options.output_dir
    if data_dir.resolve() == output.resolve():
        raise ValueError(f"{output}: --output_dir is --data_dir, expected another one")
    emotions = read_emotions(options.emotions)
    data = DataDirectory.read(data_dir, emotions)
    stage = _stage(data, options)
    if stage.is_done():
        return
    stage.start()
    _forget_other_settings(output / "wav", stage.fingerprint)
    outcomes = _format_all(data, options)
    faults = [o.fault for o in outcomes if o.fault]
    if faults and options.on_error == "stop":
        raise ValueError(
            fault_report(data_dir, faults)
            + "\nMend or remove them, or leave them out with --on_error drop"
        )
    _write(data, outcomes, options)
    _log_kept(data.subset([o.utterance for o in outcomes if o.entry]), emotions)
    stage.finish(
        kept=sum(bool(o.entry) for o in outcomes),
        dropped=sum(not o.entry for o in outcomes),
    )


def format_recording(
    group: tuple[str, list[str]], *, data: DataDirectory, options: FormatDataOptions
) -> list[Outcome]:
    """Check the utterances of one recording, which is opened once."""
    name, utterances = group
    recording = Recording(data.wav[name], allow_pipe=options.allow_pipe)
    return [
        format_utterance(u, recording, data=data, options=options) for u in utterances
    ]


def format_utterance(
    utterance: str,
    recording: Recording,
    *,
    data: DataDirectory,
    options: FormatDataOptions,
) -> Outcome:
    """Check one utterance; write a file only where the original does not fit."""
    segment = data.part(utterance)
    written = options.output_dir / "wav" / f"{utterance}{AUDIO_SUFFIX}"
    if written.exists():  # by an interrupted run with the same settings
        with soundfile.SoundFile(written) as stream:
            if stream.comment:  # none from before there were any
                rate, band = map(int, stream.comment.split())
                return Outcome(utterance, str(written), stream.frames, rate, band)
    try:
        samples, rate = recording.read(segment, multi_channel=options.multi_channel)
    except (ValueError, OSError) as error:
        place = place_of_audio(data, utterance)
        return Outcome(utterance, fault=f"{place}: {utterance}: {error}")
    seconds = len(samples) / rate
    if seconds < options.min_seconds:
        reason = f"too short: {seconds:.3f} s, at least {options.min_seconds} s"
        return Outcome(utterance, dropped=reason)
    if seconds > options.max_seconds:
        reason = f"too long: {seconds:.3f} s, at most {options.max_seconds} s"
        return Outcome(utterance, dropped=reason)
    band = band_of(samples, rate, options.sample_rate)
    if not segment and fits_as_it_is(recording.entry, options.sample_rate):
        return Outcome(utterance, recording.entry, len(samples), rate, band)
    samples = resample(samples, rate, options.sample_rate)
    write_audio(written, samples, options.sample_rate, comment=f"{rate} {band}")
    return Outcome(utterance, str(written), len(samples), rate, band)


def _stage(data: DataDirectory, options: FormatDataOptions) -> Stage:
    """Return the stage; audio counts by size and time, as hashing it all is slow."""
    digest = hashlib.sha256()
    for key, entry in sorted(data.wav.items()):
        known = not is_pipe(entry) and isfile(entry)
        status = Path(entry).stat() if known else None
        digest.update(
            f"{key} {status and (status.st_size, status.st_mtime_ns)}\n".encode()
        )
    # Without markers, and without what is only a report.
    tables = [
        p
        for p in data.path.iterdir()
        if p.is_file() and p.name[0] != "." and p.name not in REPORTS
    ]
    names = "sample_rate min_seconds max_seconds on_error multi_channel allow_pipe"
    return Stage(
        options.output_dir,
        inputs=[*sorted(tables), options.emotions],
        settings={
            **{name: getattr(options, name) for name in names.split()},
            "audio": digest.hexdigest(),
        },
        code=[data_code, speech],
    )


def _forget_other_settings(folder: Path, fingerprint: str) -> None:
    """Keep the files of an interrupted run only if it was this very work."""
    note = folder / ".fingerprint"
    if not note.exists() or note.read_text("utf-8").strip() != fingerprint:
        shutil.rmtree(folder, ignore_errors=True)
    write_lines(note, [fingerprint])


def _format_all(data: DataDirectory, options: FormatDataOptions) -> list[Outcome]:
    one = partial(format_recording, data=data, options=options)
    groups = by_recording(data).items()
    # libsndfile and soxr let go of Python's lock.
    with ThreadPoolExecutor(options.nj) as pool:
        each = chain.from_iterable(pool.map(one, groups))
        outcomes = list(progress(each, len(data.utterances), "formatting"))
    return sorted(outcomes, key=lambda outcome: outcome.utterance)


def _write(
    data: DataDirectory, outcomes: Sequence[Outcome], options: FormatDataOptions
) -> None:
    """Write the tables of what is kept and the list of what is not."""
    output = options.output_dir
    kept = {o.utterance: o for o in outcomes if o.entry}
    reasons = {o.utterance: o.dropped or o.fault for o in outcomes if not o.entry}
    write_lines(
        output / "dropped.tsv",
        ["utterance\treason", *(f"{u}\t{why}" for u, why in sorted(reasons.items()))],
    )
    kinds = Counter(
        o.dropped.partition(":")[0] or "unusable audio" for o in outcomes if not o.entry
    )
    for kind, count in kinds.items():
        logging.warning("dropped, %s: %d (see %s/dropped.tsv)", kind, count, output)
    if not kept:
        raise ValueError(f"{data.path}: nothing left, see {output / 'dropped.tsv'}")
    formatted = data.subset(kept)
    formatted.segments = {}
    formatted.wav = {u: o.entry for u, o in kept.items()}
    formatted.extra |= {
        RATES: {u: str(o.rate) for u, o in kept.items()},
        BANDS: {u: str(o.band) for u, o in kept.items()},
    }
    formatted.write(output)
    audio = band_metadata(formatted, sample_rate=options.sample_rate)
    if "note" in audio:
        logging.warning("%s: %s", data.path, audio["note"])
    write_table(output / "utt2num_samples", {u: o.n_samples for u, o in kept.items()})
    speakers = set(formatted.speaker.values())
    for name in further_tables(data.path, "spk2"):
        if name != "spk2utt":
            table = read_table(data.path / name)
            write_table(
                output / name, {s: v for s, v in table.items() if s in speakers}
            )


def _log_kept(data: DataDirectory, emotions: Sequence[str]) -> None:
    counts = Counter(data.emotion.values())
    logging.info(
        "%d utterances of %d speakers: %s",
        len(data.utterances),
        len(set(data.speaker.values())),
        ", ".join(f"{emotion} {counts[emotion]}" for emotion in emotions),
    )

"""Encode a set of utterances: one job of an array, or the merge that ends it."""

import heapq
import logging
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np

from emoq_plugin.batches import in_batches
from emoq_plugin.devices import pick_device
from emoq_plugin.files import read_json, read_table
from emoq_plugin.options import Count
from emoq_plugin.presets import config_of
from emoq_plugin.progress import Progress
from emoq_plugin.recipe.stage import Stage
from emoq_plugin.speech.encoders.encoder import Encoder
from emoq_plugin.speech.encoders.registry import (
    build_encoder,
    encoder_class,
    read_feature_config,
)
from emoq_plugin.speech.golden import golden_features
from emoq_plugin.speech.store import (
    JOB_MARKERS,
    merge_feature_jobs,
    remove_job_files,
    write_features,
    write_golden,
)

# Audio held in memory at a time; within it the encoder batches as it likes.
WINDOW_SECONDS = 300


@dataclass(frozen=True, kw_only=True)
class DumpFeaturesOptions:
    """Options of stage 3.

    Attributes
    ----------
    data_dir : Path
        Formatted set, dump/raw/<set>.
    output_dir : Path
        dump/<feature>/<set>.
    config : Path
        File or name of conf/features.
    model_dir : Path, optional
        Local model directory, instead of the config's model.
    nj : int
        Number of jobs.
    job : int
        Number of this job, from 1.
    merge : bool
        Join finished jobs.
    device : {"cpu", "cuda", "auto"}
        Where it is computed.
    """

    data_dir: Path
    output_dir: Path
    config: Annotated[Path, config_of("features")]
    model_dir: Path | None = None
    nj: Count = 1
    job: Count = 1
    merge: bool = False
    device: Literal["cpu", "cuda", "auto"] = "cpu"


def dump_features(options: DumpFeaturesOptions) -> None:
    """Do one job, or merge."""
    if not 1 <= options.job <= options.nj:
        raise ValueError(f"--job {options.job}, expected 1 to --nj {options.nj}")
    name, conf = read_feature_config(options.config)
    if options.model_dir and not options.model_dir.is_dir():
        raise FileNotFoundError(f"--model_dir {options.model_dir}: no such directory")
    whole, of_job = _stages(options, name, conf)
    if whole.is_done():
        if options.merge and any(options.output_dir.glob(JOB_MARKERS)):
            whole.hold()  # a merge was killed at its end
            remove_job_files(options.output_dir)
        return
    if options.merge:
        _merge(options, whole, [of_job(job) for job in range(1, options.nj + 1)])
        return
    stage = of_job(options.job)
    if stage.is_done():
        return
    stage.start()
    whole.withdraw()
    _run_job(options, name, conf, stage)


def split_by_duration(
    samples: Mapping[str, int], n_jobs: int, *, job: int
) -> list[str]:
    """List the utterances of one job so that all jobs have about as much audio.

    The longest utterance goes to the job with the least so far (Graham 1969, LPT).

    Parameters
    ----------
    samples : mapping of str to int
        Duration of each utterance, samples.
    n_jobs : int
    job : int
        From 1.

    Examples
    --------
    >>> split_by_duration({"a": 5, "b": 3, "c": 2}, 2, job=2)
    ['b', 'c']
    """
    loads = [(0, number) for number in range(1, n_jobs + 1)]
    chosen = []
    for utterance in sorted(samples, key=lambda u: (-samples[u], u)):
        load, number = heapq.heappop(loads)
        if number == job:
            chosen.append(utterance)
        heapq.heappush(loads, (load + samples[utterance], number))
    return sorted(chosen)


def _stages(
    options: DumpFeaturesOptions, name: str, conf: dict[str, Any]
) -> tuple[Stage, Callable[[int], Stage]]:
    """Return the stage of the whole set, and a function of a job to its stage."""
    if options.model_dir:
        conf = conf | {"model": str(options.model_dir)}
    encoder = encoder_class(name, **conf)
    files = encoder.input_files(**conf)
    settings = {"encoder": name, "conf": dict(conf), "version": encoder.VERSION}
    if files:
        # The content of a local model counts, not its place.
        settings["conf"].pop("model", None)
    inputs = [options.data_dir, *files]
    whole = Stage(options.output_dir, inputs=inputs, settings=settings)

    def of_job(job: int) -> Stage:
        return Stage(
            options.output_dir,
            inputs=inputs,
            settings=settings | {"nj": options.nj, "job": job},
            marker=f".done.{job}.json",
        )

    return whole, of_job


def _read_slice(options: DumpFeaturesOptions) -> tuple[dict[str, str], dict[str, int]]:
    wav = read_table(options.data_dir / "wav.scp")
    path = options.data_dir / "utt2num_samples"
    if not path.exists():
        raise FileNotFoundError(f"{path} is missing: run the format stage first")
    samples = {utt: int(count) for utt, count in read_table(path).items()}
    differ = sorted(set(wav) ^ set(samples))
    if differ:
        raise ValueError(
            f"{options.data_dir}: utterance '{differ[0]}' is in only one of "
            f"wav.scp and utt2num_samples ({len(differ)} such): format it again"
        )
    mine = split_by_duration(samples, options.nj, job=options.job)
    return {utt: wav[utt] for utt in mine}, {utt: samples[utt] for utt in mine}


def encode_utterances(
    encoder: Encoder, wav: Mapping[str, str], samples: Mapping[str, int], what: str
) -> Iterator[tuple[str, np.ndarray]]:
    """Read and encode utterances, a window of audio at a time.

    Parameters
    ----------
    encoder : Encoder
    wav : mapping of str to str
        Entries of wav.scp.
    samples : mapping of str to int
        Samples of each utterance, in the order to encode.
    what : str
        Begins the lines of progress, which go by samples.

    Yields
    ------
    (utterance, (T, D) float32 array)
    """
    from emoq_plugin.speech.audio import read_audio

    size, end = WINDOW_SECONDS * encoder.sample_rate, 0
    shown = Progress(sum(samples.values()), what, "samples")
    encoder.on_batch = shown.add
    for window in in_batches(samples.items(), size):
        waves = []
        for utterance in window:
            try:
                wave, _ = read_audio(wav[utterance], sample_rate=encoder.sample_rate)
            except (ValueError, OSError) as error:
                raise ValueError(f"utterance '{utterance}': {error}") from error
            waves.append(wave)
        encoded = encoder(waves, utterances=window)
        end += sum(samples[utterance] for utterance in window)
        shown.reach(end)
        yield from zip(window, encoded)
    shown.close()


def _run_job(
    options: DumpFeaturesOptions, name: str, conf: dict[str, Any], stage: Stage
) -> None:
    start = time.monotonic()
    wav, samples = _read_slice(options)
    device = pick_device(options.device, options.job)
    encoder = build_encoder(name, device=device, model_dir=options.model_dir, **conf)
    if options.job == 1:
        write_golden(options.output_dir, golden_features(encoder))
    what = f"{name} job {options.job} of {options.nj}"
    features = encode_utterances(encoder, wav, samples, what)
    lengths = write_features(
        options.output_dir, encoder.specification, features, job=options.job
    )
    stage.finish(
        utterances=len(lengths),
        frames=sum(lengths.values()),
        seconds=round(time.monotonic() - start, 2),
    )


def _merge(options: DumpFeaturesOptions, whole: Stage, jobs: Sequence[Stage]) -> None:
    whole.start()
    for number, job in enumerate(jobs, 1):
        if (
            not job.marker.exists()
            or read_json(job.marker)["fingerprint"] != job.fingerprint
        ):
            raise FileNotFoundError(
                f"{options.output_dir}: job {number} of {options.nj} is not finished: "
                f"run it with --job {number} (see its log)"
            )
    lengths = merge_feature_jobs(options.output_dir, options.nj)
    whole.finish(utterances=len(lengths), frames=sum(lengths.values()))
    remove_job_files(options.output_dir)
    logging.info(
        "%s: %d utterances, %d frames",
        options.output_dir,
        len(lengths),
        sum(lengths.values()),
    )

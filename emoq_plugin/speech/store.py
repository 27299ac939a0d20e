"""Features on disk: Kaldi arks and what they are, written aside, checked when read."""

import io
import logging
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import BinaryIO

import kaldiio
import numpy as np

from emoq_plugin.files import (
    atomic_write,
    read_json,
    read_places,
    read_table,
    reading,
    write_json,
    write_table,
)
from emoq_plugin.speech.encoders.encoder import FeatureSpecification, first_bad_frame

SPECIFICATION = "feature.json"
SCP = "feats.scp"
LENGTHS = "utt2num_frames"
GOLDEN = "golden.npy"  # features of the golden clip, see speech.golden
# kaldiio would run a pickle that it finds in an ark: only this header is let through.
FLOAT_MATRIX = b"\0BFM "
JOB_MARKERS = ".done.*.json"


def _check(frames: np.ndarray, spec: FeatureSpecification, where: str) -> None:
    if frames.ndim != 2 or len(frames) == 0 or frames.shape[1] != spec.dimension:
        raise ValueError(
            f"{where}: shape {frames.shape}, expected (T, {spec.dimension}) with T > 0 "
            f"as in {SPECIFICATION} of encoder '{spec.encoder}'"
        )
    if (bad := first_bad_frame(frames)) is not None:
        raise ValueError(f"{where}: the features hold NaN or infinity at frame {bad}")


def write_features(
    directory: str | Path,
    specification: FeatureSpecification,
    features: Iterable[tuple[str, np.ndarray]],
    *,
    job: int = 1,
) -> dict[str, int]:
    """Write what one job made: `feats.<job>.ark` and its tables.

    Parameters
    ----------
    directory : str or Path
    specification : FeatureSpecification
    features : iterable of (utterance, (T, D) float32 array)
        Consumed one by one, so it may be a generator.
    job : int, default=1
        Numbered from 1; `merge_feature_jobs` joins the jobs.

    Returns
    -------
    dict of str to int
        Frames in each utterance.

    Raises
    ------
    ValueError
        If an utterance comes twice, has the wrong dimension or holds NaN or infinity.
    """
    directory = Path(directory)
    ark = directory / f"feats.{job}.ark"
    places: dict[str, str] = {}
    lengths: dict[str, int] = {}
    with atomic_write(ark, "wb") as stream:
        for utterance, frames in features:
            where = f"{ark}: utterance '{utterance}'"
            if utterance in places:
                raise ValueError(f"{where}: comes twice")
            _check(frames, specification, where)
            start = stream.tell() + len(utterance.encode()) + 1
            kaldiio.save_ark(stream, {utterance: frames.astype(np.float32, copy=False)})
            places[utterance] = f"{ark}:{start}"
            lengths[utterance] = len(frames)
    write_table(directory / f"feats.{job}.scp", places)
    write_table(directory / f"{LENGTHS}.{job}", lengths)
    write_json(directory / f"feature.{job}.json", specification.to_json())
    return lengths


def write_golden(directory: str | Path, features: np.ndarray) -> None:
    """Write the features (T, D) of the golden clip, see `speech.golden`."""
    whole = io.BytesIO()  # into a file NumPy writes by itself, and hides a full disk
    np.save(whole, features)
    with atomic_write(Path(directory) / GOLDEN, "wb") as stream:
        stream.write(whole.getvalue())


def merge_feature_jobs(directory: str | Path, n_jobs: int) -> dict[str, int]:
    """Join the tables of all jobs to `feats.scp`, `utt2num_frames`, `feature.json`.

    Returns
    -------
    dict of str to int
        Frames in each utterance.

    Raises
    ------
    FileNotFoundError
        If a job has not written its files.
    ValueError
        If two jobs hold the same utterance or were made by different encoders.
    """
    directory = Path(directory)
    places: dict[str, str] = {}
    lengths: dict[str, int] = {}
    first = None
    for job in range(1, n_jobs + 1):
        path = directory / f"feature.{job}.json"
        if not path.exists():
            raise FileNotFoundError(f"{path} is missing: job {job} of {n_jobs} failed")
        spec = FeatureSpecification.from_json(read_json(path), path)
        first = first or spec
        if spec.fingerprint() != first.fingerprint():
            raise ValueError(f"{path}: not the encoder of job 1: {spec} and {first}")
        part = read_table(directory / f"feats.{job}.scp")
        twice = sorted(set(part) & set(places))
        if twice:
            raise ValueError(f"{directory}: job {job} repeats utterance '{twice[0]}'")
        places |= part
        counts = read_table(directory / f"{LENGTHS}.{job}")
        lengths |= {utterance: int(count) for utterance, count in counts.items()}
    if first is None:
        raise ValueError(f"{directory}: {n_jobs} jobs to merge, expected at least 1")
    write_table(directory / LENGTHS, lengths)
    write_json(directory / SPECIFICATION, first.to_json())
    write_table(directory / SCP, places)
    return lengths


def remove_job_files(directory: str | Path) -> None:
    """Remove the tables of merged jobs and the arks of an earlier, larger job count."""
    directory = Path(directory)
    places = read_table(directory / SCP).values()
    kept = {Path(place.rpartition(":")[0]).name for place in places}
    for path in directory.glob("feats.*.ark"):
        if path.name not in kept:
            logging.info("%s is left from an earlier run: removed", path)
            path.unlink()
    # The markers go last: where they exist, this has not come to its end.
    for pattern in (f"{LENGTHS}.*", "feature.*.json", "feats.*.scp", JOB_MARKERS):
        for path in directory.glob(pattern):
            path.unlink(missing_ok=True)


class FeatureStore(Mapping[str, np.ndarray]):
    """Features of one set, read from the arks when asked for.

    Parameters
    ----------
    directory : str or Path
        Holds `feats.scp`, `utt2num_frames`, `feature.json` and the arks; it may have
        been moved since it was written.

    Attributes
    ----------
    specification : FeatureSpecification
    lengths : dict of str to int
        Frames in each utterance.
    utterances : list of str
        In the order of `feats.scp`.

    Raises
    ------
    FileNotFoundError
        If the directory holds no finished features.
    ValueError
        If its tables disagree; and, when an utterance is read, if the ark is truncated
        or garbled, has another shape than the tables say, or holds NaN or infinity.
    """

    def __init__(self, directory: str | Path):
        self.directory = Path(directory)
        for name in (SCP, LENGTHS, SPECIFICATION):
            if not (self.directory / name).exists():
                raise FileNotFoundError(
                    f"{self.directory / name} is missing: run the feature stage first"
                )
        self.specification = FeatureSpecification.from_json(
            read_json(self.directory / SPECIFICATION), self.directory / SPECIFICATION
        )
        self.lengths = self._read_lengths()
        self._places = read_places(self.directory / SCP)
        differ = sorted(set(self._places) ^ set(self.lengths))
        if differ:
            raise ValueError(
                f"{self.directory}: utterance '{differ[0]}' is in only one of "
                f"{SCP} and {LENGTHS} ({len(differ)} such)"
            )
        self.utterances = list(self._places)

    @property
    def golden(self) -> np.ndarray | None:
        """Features of the golden clip; None for a store of before there were any."""
        path = self.directory / GOLDEN
        if not path.exists():
            return None
        remedy = f"remove {self.directory} and run the feature stage again"
        with reading(path, remedy):
            frames = np.load(path, allow_pickle=False)
        _check(frames, self.specification, str(path))
        return frames

    def _read_lengths(self) -> dict[str, int]:
        path = self.directory / LENGTHS
        table = read_table(path)
        for number, (utterance, count) in enumerate(table.items(), 1):
            if not re.fullmatch("[0-9]{1,18}", count):
                raise ValueError(
                    f"{path}:{number}: '{utterance}' has '{count}' frames, "
                    "expected a number"
                )
        return {utterance: int(count) for utterance, count in table.items()}

    def _read(self, stream: BinaryIO, ark: Path, utterance: str) -> np.ndarray:
        where = f"{ark}: utterance '{utterance}'"
        offset = self._places[utterance][1]
        stream.seek(offset)
        if stream.read(len(FLOAT_MATRIX)) != FLOAT_MATRIX:
            raise ValueError(
                f"{where}: no float32 matrix at byte {offset}, the ark is truncated or "
                f"garbled: remove {self.directory} and run the feature stage again"
            )
        stream.seek(offset)
        try:
            frames = kaldiio.matio.read_kaldi(stream)
        except Exception as error:  # kaldiio's own depends on where the bytes end
            raise ValueError(
                f"{where}: the ark is truncated or garbled ({error}): remove "
                f"{self.directory} and run the feature stage again"
            ) from error
        _check(frames, self.specification, where)
        if len(frames) != self.lengths[utterance]:
            raise ValueError(
                f"{where}: {len(frames)} frames, expected {self.lengths[utterance]} "
                f"as in {LENGTHS}"
            )
        return frames if frames.flags.writeable else frames.copy()

    def __getitem__(self, utterance: str) -> np.ndarray:
        """Read one utterance, `(T, D) float32`."""
        ark = self._places[utterance][0]
        with _open_ark(ark, utterance) as stream:
            return self._read(stream, ark, utterance)

    def __iter__(self) -> Iterator[str]:
        return iter(self.utterances)

    def __len__(self) -> int:
        return len(self.utterances)

    def items(
        self, utterances: Iterable[str] | None = None
    ) -> Iterator[tuple[str, np.ndarray]]:
        """Read all (or the given) utterances, in the order of `keys` (or as given)."""
        stream, current = None, None
        try:
            for utterance in self.utterances if utterances is None else utterances:
                ark = self._places[utterance][0]
                if ark != current:
                    if stream is not None:
                        stream.close()
                    stream, current = _open_ark(ark, utterance), ark
                yield utterance, self._read(stream, ark, utterance)
        finally:
            if stream is not None:
                stream.close()

    def values(self) -> Iterator[np.ndarray]:
        """Read all utterances, in the order of `keys`."""
        return (frames for _, frames in self.items())


def _open_ark(ark: Path, utterance: str) -> BinaryIO:
    if not ark.exists():
        raise FileNotFoundError(
            f"{ark} is missing, it holds utterance '{utterance}': run the feature stage"
        )
    return open(ark, "rb")

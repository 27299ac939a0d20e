"""Training clips in any form as a mapping that is read again in every pass."""

import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import kaldiio
import numpy as np
import torch

from emoq_plugin.files import read_places
from emoq_plugin.speech.encoders.encoder import first_bad_frame

# Headers of Kaldi's matrices: float32, float64, and compressed.
MATRICES = (b"\0BFM", b"\0BDM", b"\0BCM")
ArrayLike = Any  # an array, a tensor or nested lists


def as_frames(clip: ArrayLike, name: str, dimension: int | None = None) -> np.ndarray:
    """Return the frames of one clip as a (T, D) float32 array.

    Parameters
    ----------
    clip : (T, D) array, Tensor or nested list
    name : str
        For the message.
    dimension : int, optional
        D of the clips before.

    Raises
    ------
    ValueError
        For another shape or dimension, no frames, or a NaN or infinite value.
    """
    if isinstance(clip, torch.Tensor):
        clip = clip.detach().cpu().float()
    try:
        frames = np.ascontiguousarray(clip, dtype=np.float32)
    except (TypeError, ValueError) as error:
        raise ValueError(f"clip {name}: no (T, D) array of numbers: {error}") from error
    if frames.ndim != 2 or not frames.size:
        raise ValueError(
            f"clip {name} has shape {frames.shape}, expected (frames, dimensions) with "
            "at least one frame"
        )
    if dimension is not None and frames.shape[1] != dimension:
        raise ValueError(
            f"clip {name} has {frames.shape[1]} dimensions, expected {dimension} as "
            "the first clip"
        )
    if (bad := first_bad_frame(frames)) is not None:
        raise ValueError(f"clip {name}, frame {bad}: NaN or infinite")
    return frames


class SpooledClips(Mapping[str, np.ndarray]):
    """Clips of a generator, which can be read once only, in a temporary file.

    Parameters
    ----------
    clips : iterable of (T, D) array or Tensor

    Raises
    ------
    ValueError
        See `as_frames`.
    """

    def __init__(self, clips: Iterable[ArrayLike]):
        self._file = tempfile.TemporaryFile()  # noqa: SIM115 (as long as this lives)
        self.dimension: int | None = None
        self.lengths: dict[str, int] = {}
        self._start: dict[str, int] = {}
        for number, clip in enumerate(clips):
            frames = as_frames(clip, str(number), self.dimension)
            self.dimension = frames.shape[1]
            self._start[str(number)] = self._file.tell()
            self.lengths[str(number)] = len(frames)
            self._file.write(frames.data)
        self._file.flush()

    def __getitem__(self, name: str) -> np.ndarray:
        return np.memmap(
            self._file,
            dtype=np.float32,
            mode="c",
            offset=self._start[name],
            shape=(self.lengths[name], self.dimension),
        )

    def __iter__(self) -> Iterator[str]:
        return iter(self.lengths)

    def __len__(self) -> int:
        return len(self.lengths)


def open_clips(features: Any) -> tuple[Mapping[str, np.ndarray], dict[str, int]]:
    """Make a mapping of clips by name, and their frames.

    Parameters
    ----------
    features : sequence, mapping, iterator, str or Path
        (T, D) arrays or tensors, a (B, T, D) array, the same by name, a generator of
        them (kept in a temporary file), or the path of a `feats.scp` (read again in
        every pass). Clips without names are called by their number.

    Returns
    -------
    clips : mapping of str to (T, D) float32 array
    lengths : dict of str to int

    Raises
    ------
    ValueError
        For no clips, or a clip that is none, with its name.
    """
    if isinstance(features, str | Path):
        clips, lengths = _open_scp(Path(features))
    elif isinstance(getattr(features, "lengths", None), Mapping):
        clips, lengths = features, dict(features.lengths)  # such as a FeatureStore
    elif isinstance(features, Iterator):
        clips = SpooledClips(features)
        lengths = clips.lengths
    else:
        named = features
        if not isinstance(features, Mapping):
            named = {str(n): clip for n, clip in enumerate(features)}
        clips, dimension = {}, None
        for name, clip in named.items():
            clips[name] = as_frames(clip, name, dimension)
            dimension = clips[name].shape[1]
        lengths = {name: len(clip) for name, clip in clips.items()}
    if not lengths:
        raise ValueError("found no clips, expected at least one")
    return clips, lengths


def by_name(values: Any, names: Sequence[str], what: str) -> Any:
    """Put values in the order of the clips; as many as there are clips.

    Parameters
    ----------
    values : sequence or mapping by name
    names : sequence of str
        Of the clips.
    what : str
        For messages: ``speakers``.

    Raises
    ------
    ValueError
        For clips without a value, or another number of values, with both numbers.
    """
    if isinstance(values, Mapping):
        if missing := [name for name in names if name not in values]:
            raise ValueError(
                f"{what} lack {len(missing)} of {len(names)} clips, such as "
                f"'{missing[0]}'"
            )
        return [values[name] for name in names]
    if isinstance(values, torch.Tensor):
        values = values.cpu().numpy()
    if len(values) != len(names):
        raise ValueError(f"{len(values)} {what} for {len(names)} clips")
    return values


class ScpFeatures(Mapping[str, np.ndarray]):
    """Feature matrices of any Kaldi `feats.scp`, read when asked for.

    Parameters
    ----------
    path : str or Path
        Lines ``<utterance> <ark>:<byte>``.

    Raises
    ------
    ValueError
        For another form; and, when it is read, for what is no matrix of numbers.
    """

    def __init__(self, path: str | Path):
        self.path = Path(path)
        self._places = read_places(self.path)
        self.lengths: dict[str, int] = {}
        dimension = None
        for name in self._places:
            frames = as_frames(self[name], name, dimension)
            self.lengths[name], dimension = frames.shape

    def __getitem__(self, name: str) -> np.ndarray:
        ark, offset = self._places[name]
        where = f"{ark}: utterance '{name}'"
        if not ark.exists():
            raise ValueError(f"{where}: the ark is missing, {self.path} names it")
        with open(ark, "rb") as stream:
            stream.seek(offset)
            # kaldiio would run a pickle that it finds in an ark.
            if stream.read(4) not in MATRICES:
                raise ValueError(f"{where}: no matrix of numbers at byte {offset}")
            stream.seek(offset)
            try:
                frames = kaldiio.matio.read_kaldi(stream)
            except Exception as error:  # kaldiio's own depends on where bytes end
                raise ValueError(f"{where}: truncated or garbled: {error}") from error
        return np.array(frames, np.float32)  # a copy that may be written to

    def __iter__(self) -> Iterator[str]:
        return iter(self._places)

    def __len__(self) -> int:
        return len(self._places)


def _open_scp(path: Path) -> tuple[Mapping[str, np.ndarray], dict[str, int]]:
    from emoq_plugin.speech.store import SCP, SPECIFICATION, FeatureStore

    folder = path if path.is_dir() else path.parent
    if path.name in (SCP, folder.name) and (folder / SPECIFICATION).exists():
        store = FeatureStore(folder)
        return store, dict(store.lengths)
    if not path.is_file():
        raise ValueError(f"{path} is no file: expected a feats.scp")
    clips = ScpFeatures(path)
    return clips, clips.lengths

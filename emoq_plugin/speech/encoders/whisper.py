"""Whisper's encoder layer by layer: in its 30-s window, or not longer than the clip."""

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import torch

WINDOWS = ("full", "clip")
# Share of the full window that is silence behind a clip: 1 s of 30. Whisper was trained
# with silence behind what is said; without any the last frames come out otherwise.
TAIL = 1 / 30
CONV_STRIDE = 2  # of the second convolution


class WhisperLayers:
    """Hidden layers of waves that are not longer than Whisper's window.

    Parameters
    ----------
    encoder : torch.nn.Module
        `WhisperEncoder` of transformers.
    extractor : WhisperFeatureExtractor
    window : {"full", "clip"}
        Silence follows a wave up to the end of the full window, or for `TAIL` of it.

    Attributes
    ----------
    shift : int
        Samples from frame to frame.
    longest : int
        Samples of the full window.
    """

    def __init__(self, encoder: "torch.nn.Module", extractor: Any, window: str):
        self._encoder = encoder
        self._extractor = extractor
        self._positions = encoder.config.max_source_positions
        self._tail = self._positions
        if window == "clip":
            self._tail = max(1, round(TAIL * self._positions))
        self.shift = CONV_STRIDE * extractor.hop_length
        self.longest = self._positions * self.shift

    def window_frames(self, samples: int) -> int:
        """Return the frames that are computed for a wave, those of silence too."""
        return min(self._positions, -(-samples // self.shift) + self._tail)

    def cut(self, wave: np.ndarray) -> Iterator[np.ndarray]:
        """Cut a wave into pieces that fit the window; what is below a frame is left."""
        for start in range(0, len(wave) // self.shift * self.shift, self.longest):
            yield wave[start : start + self.longest]

    def __call__(
        self, waves: Sequence[np.ndarray], last: int
    ) -> "dict[int, torch.Tensor]":
        """Compute the layers of one batch up to `last`, (B, T, D) by number."""
        from torch.nn.functional import gelu

        encoder = self._encoder
        n_frames = [self.window_frames(len(wave)) for wave in waves]
        mel = self._mel(waves, max(n_frames) * self.shift)  # (B, bins, 2 T)
        keep = _mask(n_frames, mel.device)
        # A wave alone has zeros, which the convolutions pad with, behind its window.
        around = keep.repeat_interleave(CONV_STRIDE, dim=1)[:, None]
        x = gelu(encoder.conv1(mel * around)) * around
        x = gelu(encoder.conv2(x)).transpose(1, 2)
        x = x + encoder.embed_positions.weight[: x.shape[1]]
        mask = None
        if not keep.all():
            mask = x.new_zeros(keep.shape).masked_fill(~keep, float("-inf"))
            mask = mask[:, None, None]  # (B, heads, queries, keys)
        layers = {0: x}
        for number, block in enumerate(encoder.layers[:last], 1):
            layers[number] = x = block(x, mask)
        if last == len(encoder.layers):
            layers[last] = encoder.layer_norm(x)
        return layers

    def _mel(self, waves: Sequence[np.ndarray], samples: int) -> "torch.Tensor":
        import torch

        with torch.autocast("cpu", enabled=False):  # a spectrum wants float32
            mel = self._extractor(
                waves,
                sampling_rate=self._extractor.sampling_rate,
                max_length=samples,
                do_normalize=getattr(self._extractor, "do_normalize", None),
                return_tensors="pt",
            ).input_features
        return mel.to(self._encoder.conv1.weight.device)


def _mask(n_frames: Sequence[int], device: "torch.device") -> "torch.Tensor":
    """Return (B, T) of bool, True within the window of a wave."""
    import torch

    lengths = torch.tensor(n_frames, device=device)
    return torch.arange(max(n_frames), device=device) < lengths[:, None]

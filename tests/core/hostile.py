"""Frames and codebooks on which bounds and rounding could go wrong."""

import torch

KINDS = (
    "noise",
    "clusters",
    "equal norms",
    "duplicates",
    "whole numbers",
    "huge",
    "tiny",
    "vanishing",
    "all scales",
    "offset",
    "on codewords",
    "zero",
)


def hostile(kind, seed, n_frames, size, dimension):
    """Give (N, D) frames and a (K, D) codebook of a kind."""
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape):
        return torch.randn(shape, generator=generator)

    frames, codebook = normal(n_frames, dimension), normal(size, dimension)
    if kind == "clusters":
        spectrum = (1.0 + torch.arange(dimension)).rsqrt()
        codebook = 3 * codebook * spectrum
        frames = codebook[torch.arange(n_frames) % size] + frames * spectrum
    elif kind == "equal norms":
        frames, codebook = (v / v.norm(dim=1, keepdim=True) for v in (frames, codebook))
    elif kind == "duplicates":
        codebook = codebook[torch.arange(size) % (1 + size // 3)]
    elif kind == "whole numbers":  # exact ties
        frames, codebook = (v.round() for v in (frames, codebook))
    elif kind in ("huge", "tiny", "vanishing"):
        scale = {"huge": 1e30, "tiny": 1e-20, "vanishing": 1e-38}[kind]
        frames, codebook = frames * scale, codebook * scale
    elif kind == "all scales":
        frames, codebook = (
            v * 10.0 ** (12 * torch.rand(len(v), 1, generator=generator) - 6)
            for v in (frames, codebook)
        )
    elif kind == "offset":
        frames, codebook = frames + 1e4, codebook + 1e4
    elif kind == "on codewords":
        frames = codebook[torch.arange(n_frames) % size] + 0
    elif kind == "zero":
        frames, codebook = frames * 0, codebook * 0
    return frames, codebook

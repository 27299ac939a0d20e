"""CPU and GPU give the same codes, ties excepted."""

import pytest
import torch

from emoq_plugin.core.encoding import decode_frames, encode_frames

needs_gpu = pytest.mark.skipif(
    not torch.cuda.is_available(), reason="no GPU on this machine"
)


@needs_gpu
def test_the_gpu_gives_the_codes_of_the_cpu_except_for_ties():
    generator = torch.Generator().manual_seed(0)
    frames = torch.randn(20_000, 96, generator=generator)
    codebooks = [
        torch.randn(128, 96, generator=generator) * 0.7**level for level in range(4)
    ]
    here = encode_frames(frames, codebooks)
    there = encode_frames(frames.cuda(), [c.cuda() for c in codebooks]).cpu()
    differ = (here != there).any(dim=1)
    assert differ.float().mean() < 1e-3
    for codes in (here[differ], there[differ]):
        errors = (frames[differ] - decode_frames(codes, codebooks)).square().sum(dim=1)
        assert errors.isfinite().all()
    # Where the first level differs, both codewords are equally near.
    first = here[:, 0] != there[:, 0]
    near = [
        (frames[first] - codebooks[0][codes[first, 0]]).square().sum(dim=1)
        for codes in (here, there)
    ]
    torch.testing.assert_close(*near, rtol=1e-5, atol=1e-5)

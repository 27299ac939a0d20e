"""The search of large codebooks is exact whatever bounds spare."""

from unittest import mock

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from emoq_plugin.core import bounds, nearest
from emoq_plugin.core.nearest import SearchTable, nearest_codewords
from emoq_plugin.devices import has_bfloat16
from tests.core.hostile import KINDS, hostile

cases = settings(max_examples=60, deadline=None)
seeds = st.integers(0, 10**6)
kinds = st.sampled_from(KINDS)
needs_bfloat16 = pytest.mark.skipif(
    not has_bfloat16(), reason="a processor without bfloat16"
)


def bounded():
    """Let every codebook be searched with bounds, also where bfloat16 is emulated."""
    return mock.patch.object(nearest, "is_bounded", lambda *_: True)


def distances(frames, codebook):
    """Squared distances in float64, (N, K)."""
    return (frames.double()[:, None] - codebook.double()).square().sum(dim=2)


def assert_nearest(codes, frames, codebook):
    """Nearest to the rounding of float64; of equal codewords the first."""
    far = distances(frames, codebook)
    found = far.gather(1, codes[:, None])
    rounding = (frames.shape[1] + 16) * 2.0**-52
    assert (found <= far.amin(dim=1, keepdim=True) * (1 + rounding)).all()
    first = [int((codebook == codebook[k]).all(dim=1).nonzero()[0]) for k in codes]
    assert codes.tolist() == first


@cases
@given(kinds, seeds, st.integers(1, 70), st.integers(1, 40), st.integers(1, 40))
def test_the_nearest_codeword_is_found(kind, seed, n, size, dimension):
    frames, codebook = hostile(kind, seed, n, size, dimension)
    rest = torch.empty_like(frames)
    with bounded():
        codes, scores = nearest_codewords(frames, codebook, rest=rest)
    assert_nearest(codes, frames, codebook)
    assert torch.equal(rest, frames - codebook[codes])
    if kind not in ("huge", "vanishing"):  # squares that float32 holds
        right = 0.5 * (
            frames.double().square().sum(1) - distances_of(codes, frames, codebook)
        )
        scale = (frames.norm(dim=1) + codebook.norm(dim=1).amax()).square()
        assert ((scores - right).abs() <= 1e-5 * scale + 1e-30).all()


def distances_of(codes, frames, codebook):
    """Squared distances of frames to their codewords in float64."""
    return distances(frames, codebook).gather(1, codes[:, None]).squeeze(1)


@pytest.mark.parametrize("kind", KINDS)
def test_frames_are_searched_alike_alone_and_together(kind):
    frames, codebook = hostile(kind, 0, 300, 130, 96)
    with bounded():
        together = nearest_codewords(frames, codebook)
        parts = [nearest_codewords(part, codebook) for part in frames.split(7)]
    for left, right in zip(together, map(torch.cat, zip(*parts))):
        torch.testing.assert_close(left, right, rtol=0, atol=0, equal_nan=True)


@cases
@given(seeds, st.integers(2, 40), st.integers(1, 40))
def test_codes_are_those_of_the_plain_search_where_its_rounding_cannot_matter(
    seed, size, dimension
):
    frames, codebook = hostile("noise", seed, 50, size, dimension)
    table = SearchTable(codebook, nearest.half_squared_norms(codebook))
    plain, scores = nearest_codewords(frames, table)
    with bounded():
        codes, found = nearest_codewords(frames, codebook)
    error = bounds.score_error(
        frames.norm(dim=1), codebook.norm(dim=1).amax(), dimension
    )
    far = distances(frames, codebook).topk(2, dim=1, largest=False).values
    clear = 0.5 * (far[:, 1] - far[:, 0]) > 2 * error
    assert torch.equal(codes[clear], plain[clear])
    assert ((scores - found).abs() <= 2 * error).all()


@pytest.mark.parametrize("scale", [1e-25, 1.0, 1e30])
def test_bounds_in_bfloat16_hold_and_decide_where_they_can(scale):
    frames, codebook = hostile("noise", 1, 500, 60, 64)
    frames, codebook = frames * scale, codebook * scale
    compared = []

    def watch(*arguments):
        compared.append(arguments[5][0])
        return compare(*arguments)

    compare = nearest.compare
    with bounded(), mock.patch.object(nearest, "compare", watch):
        codes, _ = nearest_codewords(frames, codebook)
    assert_nearest(codes, frames, codebook)
    if scale == 1.0:
        assert 0 < len(compared[0].unique()) < 0.2 * len(frames)


def test_codewords_that_rounding_hardly_tells_apart_cost_one_more_search():
    frames, _ = hostile("noise", 0, 200, 60, 64)
    codebook = torch.cat([frames[:30] * 1e-9, frames[100:130]])
    wrapped = mock.Mock(wraps=bounds.decide, side_effect=bounds.decide)
    with bounded(), mock.patch.object(nearest, "decide", wrapped):
        codes, _ = nearest_codewords(frames, codebook)
    pairs = sum(len(call.args[3]) for call in wrapped.call_args_list)
    assert pairs < 8 * len(frames)  # not thirty times the frames near zero
    assert_nearest(codes, frames, codebook)


def test_frames_that_bfloat16_leaves_open_are_searched_in_float32():
    frames, codebook = hostile("offset", 0, 200, 60, 64)
    with (
        bounded(),
        mock.patch.object(nearest, "_bounded", wraps=nearest._bounded) as used,
    ):
        codes, _ = nearest_codewords(frames, codebook)
    tables = [call.kwargs.get("table", call.args[-1]) for call in used.call_args_list]
    assert [table.low is None for table in tables] == [False, True]
    assert_nearest(codes, frames, codebook)


@pytest.mark.parametrize("value", [torch.nan, torch.inf, -torch.inf])
@pytest.mark.parametrize("size", [1, 5])
def test_what_is_not_a_number_is_refused_with_its_place(value, size):
    frames, codebook = torch.randn(9, 4), torch.randn(size, 4)
    bad_frames, bad_codebook = frames.clone(), codebook.clone()
    bad_frames[6, 2] = value
    bad_codebook[size - 1, 0] = value
    with bounded():
        with pytest.raises(ValueError, match="frame 6 is NaN or infinite"):
            nearest_codewords(bad_frames, codebook)
        with pytest.raises(ValueError, match=f"codeword {size - 1} is NaN or infinite"):
            nearest_codewords(frames, bad_codebook)


def test_no_frames_have_no_codes():
    with bounded():
        codes, scores = nearest_codewords(torch.empty(0, 4), torch.randn(3, 4))
    assert codes.shape == scores.shape == (0,)


@needs_bfloat16
def test_only_large_codebooks_are_searched_with_bounds():
    assert SearchTable.of(torch.randn(512, 512)).bounded
    small = SearchTable.of(torch.randn(64, 80))
    frames = torch.randn(3000, 80)
    assert not small.bounded
    scores = nearest.score_table(frames, small.codebook, small.half_norms).max(dim=1)
    codes, found = nearest_codewords(frames, small)
    assert torch.equal(codes, scores.indices) and torch.equal(found, scores.values)


def test_keys_keep_the_order_of_bfloat16():
    values = torch.rand(5000) * 10.0 ** torch.arange(5000).remainder(60).sub(30)
    low = torch.cat([values, -values, torch.zeros(1)]).bfloat16()
    order = bounds.sort_keys(low.clone()).argsort(stable=True)
    assert torch.equal(low[order].float(), low.float().sort().values)

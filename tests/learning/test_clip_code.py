"""Learning of clip codes: bits, relevance, votes, and what the clips cannot support."""

import math

import numpy as np
import pytest
import torch

from emoq_plugin.core.clip_code import entropy_bits
from emoq_plugin.core.clip_statistics import STATISTICS, clip_statistics
from emoq_plugin.learning.clip_code import (
    ClipCodeSettings,
    allocate_bits,
    fit_clip_code,
    lloyd_max,
    relevance_metric,
    relevant_directions,
)

DIMENSION = 6


def clips(n_clips=200, *, spread=(5.0, 4.0, 3.0, 2.0, 1.0, 0.2), apart=0.0, seed=0):
    """Statistics of constant clips: mean frames with the given deviations.

    Clips of two classes lie `apart` deviations apart in the last dimension.
    """
    random = np.random.default_rng(seed)
    labels = np.arange(n_clips) % 2
    means = random.normal(size=(n_clips, DIMENSION))
    means[:, -1] += apart * (labels - 0.5)
    means *= spread
    frames = torch.from_numpy(means).float()[:, None].expand(-1, 3, -1)
    return clip_statistics(frames), labels


def mean_error(code, statistics, dimensions=slice(0, DIMENSION)):
    decoded = code.decode(code.encode(statistics))[:, dimensions].double()
    return float((decoded - statistics[:, dimensions]).square().mean())


@pytest.mark.parametrize("aware", [False, True])
@pytest.mark.parametrize("n_bits", [1, 3, 4, 5, 8, 15])
def test_the_bits_asked_for_are_the_bits_of_the_alphabets(n_bits, aware):
    statistics, labels = clips(apart=1.0)
    shares = np.eye(2)[labels] if aware else None
    code = fit_clip_code(statistics, shares, n_bits=n_bits)
    codes = code.encode(statistics)
    assert code.bits == n_bits
    assert math.log2(math.prod(code.sizes)) == pytest.approx(n_bits)
    assert codes.min() >= 0
    assert (codes < torch.tensor(code.sizes)).all()
    assert 0 < entropy_bits(codes) <= n_bits


def test_more_bits_never_raise_the_training_distortion():
    statistics, _ = clips()
    errors = []
    for n_bits in range(3, 16):
        code = fit_clip_code(statistics, n_bits=n_bits)
        # Standardised dimensions weigh equally in learning, so they do here.
        left = (code.decode(code.encode(statistics)) - statistics) / code.scale
        errors.append(float(left[:, :DIMENSION].square().mean()))
    assert all(b <= a + 1e-9 for a, b in zip(errors, errors[1:]))
    assert errors[-1] < 0.5 * errors[0]


def test_without_labels_bits_go_to_variance_and_with_them_to_what_separates_classes():
    # All dimensions but the last follow one another, so they share a large component.
    random = np.random.default_rng(1)
    labels = np.arange(200) % 2
    common = random.normal(size=(200, 1)) + 0.1 * random.normal(size=(200, DIMENSION))
    common[:, -1] = (labels - 0.5) + 0.2 * random.normal(size=200)
    statistics = clip_statistics(torch.from_numpy(common).float()[:, None])
    plain = ClipCodeSettings(token_bits=0)
    errors = {}
    for name, shares in (("blind", None), ("aware", np.eye(2)[labels])):
        code = fit_clip_code(statistics, shares, n_bits=2, settings=plain)
        last = slice(DIMENSION - 1, DIMENSION)
        errors[name] = mean_error(code, statistics, last) / common[:, -1].var()
    assert errors["blind"] > 0.9
    assert errors["aware"] < 0.3


def test_one_hot_votes_are_hard_labels_and_a_tie_pulls_to_neither_side():
    statistics, labels = clips(apart=2.0)
    rows = ((statistics - statistics.mean(0)) / statistics.std(0).clamp_min(1)).numpy()
    rows = rows[:, :DIMENSION]
    hard = np.eye(2)[labels]
    votes = np.stack([5 * (labels == 0), 5 * (labels == 1)], axis=1) / 5
    assert np.array_equal(
        relevant_directions(rows, hard, C=0.01),
        relevant_directions(rows, votes, C=0.01),
    )
    undecided = np.full((len(rows), 2), 0.5)
    assert np.abs(relevant_directions(rows, undecided, C=0.01)).max() < 1e-3


def test_a_class_without_clips_changes_nothing():
    statistics, labels = clips(apart=1.0)
    two = fit_clip_code(statistics, np.eye(2)[labels], n_bits=12)
    three = fit_clip_code(statistics, np.eye(3)[labels], n_bits=12)
    assert torch.equal(two.encode(statistics), three.encode(statistics))


def test_the_metric_stretches_relevant_directions_and_nothing_else():
    rows = np.random.default_rng(0).normal(size=(50, 4)) * [4.0, 1.0, 1.0, 1.0]
    directions = np.zeros((4, 2))
    directions[1] = [-1.0, 1.0]
    stretch, shrink = relevance_metric(rows, directions, 9.0)
    assert np.allclose(stretch @ shrink, np.eye(4))
    gain = np.diag(stretch)
    assert np.allclose(stretch, np.diag(gain))
    assert np.allclose(gain[[0, 2, 3]], 1.0)
    ratio = (rows @ stretch).var(axis=0)[1] / rows.var(axis=0).max()
    assert ratio == pytest.approx(9.0, rel=0.2)


def test_levels_are_centroids_and_one_more_bit_always_helps():
    values = np.random.default_rng(0).standard_t(3, size=500)
    ladder = lloyd_max(values, 4)
    errors = []
    for levels in ladder:
        nearest = np.abs(values[:, None] - levels).argmin(axis=1)
        errors.append(np.square(values - levels[nearest]).mean())
        assert (np.diff(levels) >= 0).all()
    assert errors[0] == pytest.approx(values.var())
    assert (np.diff(errors) < 0).all()
    best = ladder[1]
    cells = np.abs(values[:, None] - best).argmin(axis=1)
    assert best == pytest.approx([values[cells == i].mean() for i in (0, 1)], abs=1e-3)


def test_bits_go_where_the_distortion_falls_most():
    rows = np.random.default_rng(0).normal(size=(400, 3)) * [8.0, 2.0, 0.1]
    bits, levels = allocate_bits(rows, 4, 3)
    assert bits.tolist() == [3, 1, 0]
    assert [len(values) for values in levels] == [8, 2]


def test_the_same_clips_give_the_same_code():
    statistics, labels = clips()
    first, second = (
        fit_clip_code(statistics, np.eye(2)[labels], n_bits=14) for _ in range(2)
    )
    for name, tensor in first.tensors().items():
        assert torch.equal(tensor, second.tensors()[name])


def test_mean_alone_ignores_the_other_statistics():
    statistics, _ = clips()
    other = statistics.clone()
    other[:, DIMENSION:] += torch.randn(200, (STATISTICS - 1) * DIMENSION)
    code = fit_clip_code(statistics, n_bits=12)
    assert torch.equal(code.encode(statistics), code.encode(other))
    settings = ClipCodeSettings(statistics="all")
    code = fit_clip_code(other, n_bits=12, settings=settings)
    assert not torch.equal(code.encode(statistics), code.encode(other))


@pytest.mark.parametrize("n_bits", [0, -3])
def test_less_than_one_bit_is_refused(n_bits):
    with pytest.raises(ValueError, match=f"{n_bits} bits, expected at least 1"):
        fit_clip_code(clips()[0], n_bits=n_bits)


def test_more_bits_than_the_clips_support_are_refused_with_both_numbers():
    statistics, _ = clips(20)
    supported = 1 + 2 * DIMENSION  # token of 2 codewords, 4 levels a component
    fit_clip_code(statistics, n_bits=supported)
    message = f"{supported + 1} bits asked for, but 20 .* support {supported}"
    with pytest.raises(ValueError, match=message):
        fit_clip_code(statistics, n_bits=supported + 1)
    same = statistics[:1].expand(200, -1)
    with pytest.raises(ValueError, match="but 1 different training clips support 0"):
        fit_clip_code(same, n_bits=1)


@pytest.mark.parametrize(
    "shares, message",
    [
        (np.ones((200, 1)), "clips of two classes"),
        (np.ones((200, 2)), r"shares of clip 0 are \[1.0, 1.0\]"),
        (np.eye(2), "one row for each of 200 clips"),
    ],
)
def test_shares_that_do_not_fit_are_refused(shares, message):
    with pytest.raises(ValueError, match=message):
        fit_clip_code(clips()[0], shares, n_bits=8)


def test_statistics_that_do_not_fit_are_refused():
    statistics, _ = clips()
    with pytest.raises(ValueError, match=r"shape \(200, 53\), expected clips x 9 D"):
        fit_clip_code(statistics[:, :-1], n_bits=8)
    statistics[7, 3] = math.nan
    with pytest.raises(ValueError, match="statistics of clip 7 hold NaN"):
        fit_clip_code(statistics, n_bits=8)
    with pytest.raises(ValueError, match="expected 'mean' or 'all'"):
        ClipCodeSettings(statistics="median")

"""Who learns from what: the weights of every expert set, computed by hand."""

import numpy as np
import pytest

from emoq_plugin.learning.weighting import expert_weights

EMOTIONS = ["angry", "happy", "sad"]
LENGTHS = np.array([10, 20, 5, 40, 25, 30])
HARD = np.eye(3)[[0, 0, 1, 1, 2, 2]]
VOTES = np.array(
    [
        [0.8, 0.2, 0.0],
        [0.5, 0.0, 0.5],
        [0.1, 0.9, 0.0],
        [0.0, 1.0, 0.0],
        [0.0, 0.4, 0.6],
        [1 / 3, 1 / 3, 1 / 3],
    ]
)
both = pytest.mark.parametrize("targets", [HARD, VOTES], ids=["hard", "votes"])


def learn(expert_sets, targets, **options):
    names, weights = expert_weights(
        expert_sets, targets, LENGTHS, emotions=EMOTIONS, **options
    )
    return dict(zip(names, weights.T, strict=True))


def test_balanced_gives_every_class_the_same_mass():
    weight = learn(["balanced"], HARD)["balanced"]
    mass = HARD.T @ (weight * LENGTHS)
    np.testing.assert_allclose(mass, mass[0], rtol=1e-6)
    # One class has 30, 45 and 55 of 130 frames.
    np.testing.assert_allclose(weight[:2], 130 / 3 / 30, rtol=1e-6)


def test_balanced_with_votes_is_the_formula():
    weight = learn(["balanced"], VOTES)["balanced"]
    expected = (VOTES / (VOTES.T @ LENGTHS)).sum(axis=1)
    np.testing.assert_allclose(weight / weight[0], expected / expected[0], rtol=1e-5)


@both
def test_specific_weighs_by_the_share_of_the_class(targets):
    found = learn(["specific"], targets)
    assert list(found) == ["specific/angry", "specific/happy", "specific/sad"]
    for column, name in enumerate(found):
        np.testing.assert_allclose(found[name], targets[:, column], rtol=1e-6)


@pytest.mark.parametrize(("percent", "ratio"), [("95", 0.95), ("99.5", 0.995)])
def test_biased_gives_the_target_exactly_its_ratio(percent, ratio):
    found = learn([f"biased{percent}"], HARD)
    assert list(found) == [f"biased{percent}/{e}" for e in EMOTIONS]
    for column, weight in enumerate(found.values()):
        mass = HARD.T @ (weight * LENGTHS)
        share = mass / mass.sum()
        assert share[column] == pytest.approx(ratio, rel=1e-5)
        others = np.delete(share, column)
        np.testing.assert_allclose(others, (1 - ratio) / 2, rtol=1e-4)


def test_biased_with_votes_is_the_formula():
    weight = learn(["biased80"], VOTES)["biased80/sad"]
    share = VOTES / (VOTES.T @ LENGTHS)
    expected = 0.8 * share[:, 2] + 0.1 * (share[:, 0] + share[:, 1])
    np.testing.assert_allclose(weight / weight[4], expected / expected[4], rtol=1e-5)


def test_capacity_is_a_random_partition_weighed_as_balanced():
    found = learn(["balanced", "capacity"], VOTES, seed=3)
    parts = np.stack([found[f"capacity/{i}"] for i in range(3)])
    assert ((parts > 0).sum(axis=0) == 1).all()
    assert ((parts > 0).sum(axis=1) == 2).all()  # six clips in three equal parts
    np.testing.assert_allclose(parts.sum(axis=0), found["balanced"])
    other = learn(["capacity"], VOTES, seed=4)
    again = learn(["capacity"], VOTES, seed=3)
    assert any((again[k] != other[k]).any() for k in again)


@both
def test_equal_budgets_cut_everybody_to_the_poorest(targets):
    expert_sets = ["balanced", "specific", "biased95", "capacity"]
    found = learn(expert_sets, targets, equal_budget=True)
    free = learn(expert_sets, targets)
    poorest = min(LENGTHS[w > 0].sum() for w in free.values())
    used = {name: LENGTHS[w > 0].sum() for name, w in found.items()}
    assert max(used.values()) <= poorest
    for name, weight in found.items():
        assert set(weight) <= {0.0, 1.0}
        assert (free[name][weight > 0] > 0).all()  # no clip of somebody else


def test_a_budget_is_drawn_in_proportion_to_weight():
    lengths, targets = np.full(3000, 10), np.eye(3)[np.arange(3000) % 3]
    names, weights = expert_weights(
        ["specific", "biased80"], targets, lengths, emotions=EMOTIONS, equal_budget=True
    )
    chosen = weights[:, names.index("biased80/sad")] > 0
    assert chosen.sum() == 1000
    # Without replacement the target runs short of 80 %, but it stays the largest part.
    assert 0.6 < targets[chosen, 2].mean() < 0.82
    assert abs(targets[chosen, 0].mean() - targets[chosen, 1].mean()) < 0.05


def test_a_class_without_clips_is_named():
    with pytest.raises(ValueError, match="no training clip of sad"):
        learn(["balanced"], np.eye(3)[[0, 0, 1, 1, 0, 1]])


@pytest.mark.parametrize("expert_set", ["blend", "biased", "biased100", "specific/sad"])
def test_an_unknown_group_names_those_that_exist(expert_set):
    with pytest.raises(
        ValueError, match=f"'{expert_set}', expected one of balanced, spec"
    ):
        learn([expert_set], HARD)

"""Similarity and distance figures: invariances, known cases, naive formulas."""

import numpy as np
import pytest

from emoq_plugin.evaluation.geometry import (
    cosine,
    distance_correlation,
    drift,
    linear_cka,
)


def rows(n=30, p=6, seed=0):
    return np.random.default_rng(seed).normal(size=(n, p))


def test_cosine_is_zero_for_a_zero_vector():
    a = np.array([[1.0, 0], [1, 1], [0, 0]])
    b = np.array([[2.0, 0], [1, -1], [1, 0]])
    np.testing.assert_allclose(cosine(a, b), [1, 0, 0], atol=1e-12)


def test_cka_ignores_rotation_scale_and_shift():
    x = rows()
    rotation, _ = np.linalg.qr(rows(6, 6, seed=1))
    assert linear_cka(x, 3 * x @ rotation + 5) == pytest.approx(1)
    assert linear_cka(x, x * [10, 1, 1, 1, 1, 1]) < 0.95


def test_cka_is_its_feature_formula():
    x, y = rows(), rows(p=4, seed=1) + rows()[:, :4]
    a, b = x - x.mean(0), y - y.mean(0)
    norms = [np.linalg.norm(m) for m in (b.T @ a, a.T @ a, b.T @ b)]
    assert linear_cka(x, y) == pytest.approx(norms[0] ** 2 / (norms[1] * norms[2]))
    assert linear_cka(x, np.ones((30, 2))) == 0


def test_a_class_that_arrives_at_neutral_has_drifted_by_one():
    angry, neutral = rows() + 3, rows(seed=1)
    way = neutral.mean(0) - angry.mean(0)
    assert drift(angry, angry + way, neutral) == pytest.approx(1)
    assert drift(angry, angry - way / 2, neutral) == pytest.approx(-0.5)
    side = np.array([way[1], -way[0], 0, 0, 0, 0])
    assert drift(angry, angry + 7 * side, neutral) == pytest.approx(0, abs=1e-9)


def naive_distance_correlation(x, y):
    """Sum over all pairs, as in Szekely and Rizzo (2013), definitions 2 and 3."""
    n = len(x)

    def centred(z):
        d = [[np.linalg.norm(z[i] - z[j]) for j in range(n)] for i in range(n)]
        total = sum(map(sum, d))
        return [
            [
                (
                    0.0
                    if i == j
                    else d[i][j]
                    - sum(d[i]) / (n - 2)
                    - sum(d[j]) / (n - 2)
                    + total / ((n - 1) * (n - 2))
                )
                for j in range(n)
            ]
            for i in range(n)
        ]

    a, b = centred(x), centred(y)

    def inner(u, v):
        return sum(u[i][j] * v[i][j] for i in range(n) for j in range(n))

    return inner(a, b) / np.sqrt(inner(a, a) * inner(b, b))


def test_distance_correlation_is_its_definition():
    x, y = rows(9, 3), np.abs(rows(9, 3)[:, :1]) + rows(9, 1, seed=2)
    expected = naive_distance_correlation(x, y)
    assert distance_correlation(x, y) == pytest.approx(expected)


def test_distance_correlation_of_a_scaled_copy_is_one():
    x = rows()
    assert distance_correlation(x, 4 * x + 1) == pytest.approx(1)


def test_distance_correlation_finds_what_correlation_misses():
    x = rows(300, 1)
    y = x**2
    assert abs(np.corrcoef(x[:, 0], y[:, 0])[0, 1]) < 0.3
    assert distance_correlation(x, y) > 0.2


def test_independence_has_no_bias_even_in_many_dimensions():
    found = [
        distance_correlation(rows(20, 100, seed=s), rows(20, 80, seed=1000 + s))
        for s in range(40)
    ]
    # Without the correction this is about 0.9.
    assert abs(np.mean(found)) < 0.03


def test_distance_correlation_of_too_few_or_equal_rows_is_undefined():
    assert distance_correlation(rows(3), rows(3)) is None
    assert distance_correlation(rows(8), np.ones((8, 2))) is None

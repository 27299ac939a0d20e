"""The probe: class-balanced learning from shares, routes as decisions, guards."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

from emoq_plugin.core import CodebookBank, Normalization
from emoq_plugin.core.batch_encoding import pool
from emoq_plugin.data.folds import Fold
from emoq_plugin.evaluation.emotion_probe import (
    ProbeTask,
    decoded_pooled,
    probe_continuous,
    probe_systems,
    route_posteriors,
)
from emoq_plugin.routing.pooled import PooledClassifier
from emoq_plugin.routing.systems import System
from emoq_plugin.units.rates import Rate
from emoq_plugin.units.store import UnitWriter, write_cards

RATE = Rate(6, 1)
EMOTIONS = ["angry", "happy", "sad"]


def data(seed=0, n_clips=90):
    random = np.random.default_rng(seed)
    label = random.choice(3, size=n_clips, p=[0.6, 0.3, 0.1])
    label[:3] = range(3)
    pooled = random.normal(size=(n_clips, 4)) + np.eye(3, 4)[label] * 1.5
    return pooled.astype(np.float32) * [1, 10, 0.1, 1], label


@pytest.mark.parametrize("n_classes", [2, 3])
@pytest.mark.parametrize("C", [0.01, 1.0])
def test_on_hard_labels_it_is_balanced_logistic_regression(n_classes, C):
    pooled, label = data()
    pooled, label = pooled[label < n_classes], label[label < n_classes]
    found = PooledClassifier(C=C).fit(pooled, np.eye(n_classes)[label])
    scaled = StandardScaler().fit_transform(pooled)
    reference = LogisticRegression(C=C, class_weight="balanced", max_iter=500)
    expected = reference.fit(scaled, label).predict_proba(scaled)
    np.testing.assert_allclose(found.predict_proba(pooled), expected, atol=1e-6)


def test_a_share_counts_as_that_part_of_a_clip():
    pooled, label = data()
    # Every share is a quarter, so a clip is the same as four clips of hard labels.
    quarters = np.random.default_rng(1).multinomial(
        4, [0.5, 0.3, 0.2], size=len(pooled)
    )
    soft = PooledClassifier(C=0.1).fit(pooled, quarters / 4)
    clip = np.repeat(np.arange(len(pooled)), 4)
    hard = np.repeat(np.tile(np.arange(3), len(pooled)), quarters.ravel())
    # Four clips for one count fourfold against the penalty.
    repeated = PooledClassifier(C=0.1 / 4).fit(pooled[clip], np.eye(3)[hard])
    np.testing.assert_allclose(
        soft.predict_proba(pooled), repeated.predict_proba(pooled), atol=1e-4
    )


@pytest.mark.parametrize("n_classes", [2, 3])
def test_its_parameters_give_its_posteriors(n_classes):
    pooled, label = data()
    pooled, label = pooled[label < n_classes], label[label < n_classes]
    probe = PooledClassifier(C=1.0).fit(pooled, np.eye(n_classes)[label])
    p = probe.parameters()
    assert p["weight"].shape == (n_classes, 4)
    logits = (pooled - p["mean"]) / p["scale"] @ p["weight"].T + p["bias"]
    # Two classes: the difference of the logits is twice that of scikit-learn.
    logits = logits if n_classes > 2 else logits / 2
    expected = torch.from_numpy(logits).softmax(dim=1).numpy()
    np.testing.assert_allclose(probe.predict_proba(pooled), expected, atol=1e-6)


def test_a_class_without_clips_is_refused():
    pooled, label = data()
    with pytest.raises(ValueError, match="class 2 has no training clip"):
        PooledClassifier().fit(pooled[label < 2], np.eye(3)[label[label < 2]])


def test_a_route_decides_for_the_class_of_its_expert():
    routes = [
        {"specific/sad": 1.0},
        {"specific/angry": 0.75, "specific/happy": 0.25},
        {"balanced": 1.0},
    ]
    expected = [[0, 0, 1], [0.75, 0.25, 0], [1 / 3, 1 / 3, 1 / 3]]
    np.testing.assert_allclose(route_posteriors(routes, EMOTIONS), expected)


def test_experts_that_are_no_classes_decide_nothing():
    assert route_posteriors([{"capacity/0": 1.0}], EMOTIONS) is None
    assert route_posteriors([{"capacity/0": 1.0}], ["0", "1"]) is None


def make_bank(seed=0):
    generator = torch.Generator().manual_seed(seed)
    experts = ["balanced", *(f"specific/{e}" for e in EMOTIONS)]
    codebooks = [torch.randn(4, 6, 2, generator=generator)]
    norm = Normalization("corpus", torch.zeros(2), torch.ones(2))
    return CodebookBank(experts, codebooks, norm, emotions=EMOTIONS)


def write_units(folder, bank, utterances, system="specific-oracle"):
    random = np.random.default_rng(0)
    experts = ["balanced"] if system == "balanced" else bank.expert_set("specific")
    routed = system != "balanced"
    with UnitWriter(folder, size=6, n_levels=1, routed=routed) as writer:
        for i, u in enumerate(utterances):
            route = {experts[i % len(experts)]: 1.0}
            writer.write(u, random.integers(6, size=(5, 1)), route)
    card = {
        "experts": experts,
        "n_levels": 1,
        "system": system,
        "codebooks_sha256": bank.codebooks_sha256,
    }
    rates = {"nominal": 1.0, "entropy": 0.5, "side_info": 0.0, "used_share": [1.0]}
    write_cards(folder, card, rates)


def test_units_of_other_codebooks_are_refused(tmp_path):
    write_units(tmp_path, make_bank(), ["a", "b"])
    units = SimpleNamespace(
        directory="dump/x", card={"codebooks_sha256": make_bank(1).codebooks_sha256}
    )
    with pytest.raises(ValueError, match="dump/x was encoded with other codebooks"):
        decoded_pooled(make_bank(), units, ["a"])


@pytest.fixture
def fold(tmp_path):
    """Return a task of 18 clips, their features and units of two systems."""
    names = [f"u{i:02d}" for i in range(18)]
    bank = make_bank()
    for system in ("balanced", "specific-oracle"):
        write_units(tmp_path / "6x1" / system, bank, names, system)
    task = ProbeTask(
        fold=Fold("1", tuple(names[:12]), (), tuple(names[12:])),
        train=names[:12],
        targets=np.eye(3)[np.arange(12) % 3],
        emotions=EMOTIONS,
        options={"C": 1.0},
    )
    random = np.random.default_rng(0)
    features = {u: random.normal(size=(5, 2)).astype(np.float32) for u in names}
    return SimpleNamespace(task=task, bank=bank, features=features, units=tmp_path)


def at_a_rate(*systems):
    return [(RATE, System.parse(system)) for system in systems]


def test_every_system_has_its_heads_on_the_test_clips(fold):
    frozen, bound = probe_continuous(
        fold.task, fold.bank, fold.features, lambda u: None
    )
    found = list(
        probe_systems(
            fold.task,
            fold.bank,
            fold.units,
            conditions=at_a_rate("balanced", "specific-oracle"),
            cheapest=RATE,
            frozen=frozen,
        )
    )
    assert [(p.system, p.head) for p in found] == [
        ("balanced", "retrained"),
        ("balanced", "frozen"),
        ("specific-oracle", "retrained"),
        ("specific-oracle", "frozen"),
        ("specific-oracle", "route"),
    ]
    assert (bound.rate, bound.system, bound.bitrate_bps) == (
        "continuous",
        "continuous",
        None,
    )
    for prediction in [*found, bound]:
        assert prediction.utterances == list(fold.task.fold.test)
        assert prediction.emotions == EMOTIONS
        np.testing.assert_allclose(prediction.posteriors.sum(axis=1), 1.0)
    assert set(found[0].bitrate_bps) == {"nominal", "entropy", "side_info"}
    # Test clips 12, 13, ... are routed to classes 0, 1, ... by `write_units`.
    assert found[-1].posteriors.argmax(axis=1).tolist() == [0, 1, 2, 0, 1, 2]


def test_test_clips_do_not_move_the_heads(fold):
    pooled = {u: pool(torch.from_numpy(f)).numpy() for u, f in fold.features.items()}
    changed = pooled | {u: v * 1e3 for u, v in pooled.items() if u >= "u12"}
    first, second = (fold.task.head(p).parameters() for p in (pooled, changed))
    assert all((first[k] == second[k]).all() for k in first)


def test_the_retrained_head_hears_the_route(fold):
    # Codes are noise; only the route, dealt out like the classes, gives the class.
    frozen, _ = probe_continuous(fold.task, fold.bank, fold.features, lambda u: None)
    found = {
        p.system: p.posteriors.argmax(axis=1)
        for p in probe_systems(
            fold.task,
            fold.bank,
            fold.units,
            conditions=at_a_rate(
                "balanced", "specific-oracle", "balanced+specific-oracle"
            ),
            cheapest=RATE,
            frozen=frozen,
        )
        if p.head == "retrained"
    }
    truth = np.arange(12, 18) % 3
    assert (found["specific-oracle"] == truth).all()
    assert (found["balanced+specific-oracle"] == truth).all()
    assert (found["balanced"] != truth).any()


def test_a_route_weighs_as_much_as_its_scale_says():
    random = np.random.default_rng(0)
    label = np.arange(60) % 3
    pooled, routes = random.normal(size=(60, 4)), np.eye(3)[label]
    confidence = [
        PooledClassifier(C=0.01, route_scale=scale)
        .fit(pooled, np.eye(3)[label], routes)
        .predict_proba(pooled, routes)[np.arange(60), label]
        .mean()
        for scale in (0.0, 1.0, 10.0)
    ]
    assert confidence[0] < 0.5 < confidence[2]
    assert confidence == sorted(confidence)

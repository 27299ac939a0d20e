"""The calibrated router: context, weights of evidence, clips it has not heard."""

import numpy as np
import pytest
import torch
from torch import distributed

from emoq_plugin.core.clip_encoding import ClipEncoding
from emoq_plugin.learning.learner import learn_residual_codebooks
from emoq_plugin.learning.sources import ArraySource
from emoq_plugin.routing.calibrated import (
    PREFIX,
    CalibratedSettings,
    evidence,
    fit_calibrated,
    fit_weights,
    in_context,
    posteriors,
    statistics_over_time,
)
from emoq_plugin.routing.routers import Facts
from emoq_plugin.routing.systems import Arm

SMALL = CalibratedSettings(dimensions=4, codewords=16, context=(-0.02, 0.0, 0.02))


def sweeps(n_clips, *, seed=0):
    """Clips of two classes: the same frames, forward or backward in time."""
    random = np.random.default_rng(seed)
    clips, labels = [], []
    for i in range(n_clips):
        start = random.uniform(0, 2 * np.pi)
        angle = start + np.linspace(0, 6 * np.pi, 40)
        frames = np.stack([np.cos(angle), np.sin(angle), np.zeros(40)], axis=1)
        frames += random.normal(0, 0.05, frames.shape)
        clips.append(torch.from_numpy(frames[:: 1 - 2 * (i % 2)].copy()).float())
        labels.append(i % 2)
    return clips, np.array(labels)


def fit(clips, labels, speakers, n_classes=2, settings=SMALL):
    return fit_calibrated(
        lambda: iter(clips),
        np.eye(n_classes)[labels],
        speakers,
        n_frames=sum(map(len, clips)),
        frame_rate_hz=50.0,
        settings=settings,
    )


def classify(parameters, clips):
    found = torch.stack([evidence(parameters, clip) for clip in clips])
    return posteriors(parameters, found).argmax(dim=1).numpy()


def test_neighbours_stand_beside_a_frame_and_ends_repeat():
    frames = torch.arange(3.0)[:, None]
    expected = [[0.0, 0.0, 1.0], [0.0, 1.0, 2.0], [1.0, 2.0, 2.0]]
    assert in_context(frames, [-1, 0, 1]).tolist() == expected


@pytest.mark.parametrize("n_frames", [1, 2, 50])
def test_statistics_are_finite_for_clips_of_any_length(n_frames):
    pooled = statistics_over_time(torch.randn(n_frames, 4))
    assert pooled.shape == (9 * 4 + 3,)
    assert pooled.isfinite().all()


def test_classes_that_differ_only_in_the_order_of_frames_are_told_apart():
    clips, labels = sweeps(40)
    parameters, unheard = fit(clips, labels, [f"s{i // 4}" for i in range(40)])
    new_clips, new_labels = sweeps(20, seed=1)
    assert (classify(parameters, new_clips) == new_labels).mean() == 1.0
    assert (unheard.argmax(axis=1) == labels).mean() == 1.0
    # Single frames say nothing: without context it is a guess.
    alone = CalibratedSettings(dimensions=3, codewords=16, context=(0.0,))
    parameters, _ = fit(clips, labels, [f"s{i // 4}" for i in range(40)], 2, alone)
    assert (classify(parameters, new_clips) == new_labels).mean() < 0.9


def test_posteriors_of_training_clips_come_from_routers_that_have_not_heard_them():
    random = np.random.default_rng(0)
    # A speaker's clips are alike and share one meaningless label.
    speakers = [f"s{i // 5}" for i in range(60)]
    labels = np.repeat(random.permutation(12) % 2, 5)
    voices = random.normal(0, 3, (12, 3))
    clips = [
        torch.from_numpy(voices[i // 5] + random.normal(0, 0.1, (30, 3))).float()
        for i in range(60)
    ]
    parameters, unheard = fit(clips, labels, speakers)
    heard = torch.stack([evidence(parameters, clip)[:, 0] for clip in clips])
    assert (heard.argmax(dim=1).numpy() == labels).mean() > 0.9
    assert (unheard.argmax(axis=1) == labels).mean() < 0.8


def test_evidence_weighs_what_it_is_worth_and_is_never_turned_round():
    random = np.random.default_rng(0)
    targets = np.eye(3)[random.integers(0, 3, 200)]
    good = targets + random.normal(0, 0.3, targets.shape)
    noise = random.normal(0, 1, targets.shape)
    against = -targets + random.normal(0, 0.3, targets.shape)
    weights = fit_weights(np.stack([good, noise, against], axis=2), targets)
    assert weights[0] > 10 * weights[1]
    assert 0 < weights[2] < 0.01 * weights[0]


def test_an_offset_of_all_classes_of_a_clip_changes_no_weight():
    random = np.random.default_rng(0)
    targets = np.eye(3)[random.integers(0, 3, 100)]
    found = (targets + random.normal(0, 1, targets.shape))[:, :, None]
    offset = random.normal(0, 100, (100, 1, 1))
    assert fit_weights(found + offset, targets) == pytest.approx(
        fit_weights(found, targets), rel=1e-4
    )


def test_a_class_of_one_speaker_still_gets_a_router(caplog):
    clips, labels = sweeps(16)
    parameters, _ = fit(clips, labels, [f"s{label}" for label in labels])
    assert "too few speakers" in caplog.text
    new_clips, new_labels = sweeps(20, seed=1)
    assert (classify(parameters, new_clips) == new_labels).mean() > 0.9


def test_a_class_of_one_clip_is_told():
    clips, labels = sweeps(8)
    with pytest.raises(ValueError, match="two or more clips"):
        fit(clips[::2] + clips[1:2], np.array([0, 0, 0, 0, 1]), list("abcde"))


def test_many_clips_are_thinned_out_and_still_told_apart():
    clips, labels = sweeps(40)
    few = CalibratedSettings(dimensions=4, codewords=8, max_frames=500)
    parameters, _ = fit(clips, labels, [f"s{i // 4}" for i in range(40)], 2, few)
    new_clips, new_labels = sweeps(20, seed=1)
    assert (classify(parameters, new_clips) == new_labels).mean() > 0.9


@pytest.fixture
def routed(make_bank):
    clips = [
        torch.randn(30, 2, generator=torch.Generator().manual_seed(i)) + 4.0 * (i % 3)
        for i in range(30)
    ]
    labels = np.arange(30) % 3
    parameters, _ = fit(clips, labels, [f"s{i // 3}" for i in range(30)], 3)
    return make_bank(router_parameters={PREFIX + k: v for k, v in parameters.items()})


def test_a_clip_goes_to_the_expert_of_its_class(routed):
    arm = Arm.parse("specific-calibrated")
    for label, emotion in enumerate(routed.emotions):
        frames = torch.randn(25, 2) + 4.0 * label
        route = arm.route(ClipEncoding(routed, frames), Facts())
        assert route == {f"specific/{emotion}": 1.0}


def test_a_training_clip_is_routed_as_if_it_had_not_been_heard(routed):
    clip = ClipEncoding(routed, torch.randn(25, 2))
    facts = Facts(unheard=np.array([0.1, 0.2, 0.7]))
    route = Arm.parse("specific-calibrated").route(clip, facts)
    assert route == {"specific/sad": 1.0}


def test_a_bank_without_the_router_says_so(bank):
    clip = ClipEncoding(bank, torch.zeros(3, 2))
    with pytest.raises(ValueError, match="no calibrated router"):
        Arm.parse("specific-calibrated").route(clip, Facts())


def test_settings_with_an_unknown_name_or_a_wrong_type_are_refused():
    with pytest.raises(ValueError, match="level.yaml: calibrated.*words"):
        CalibratedSettings.read({"words": 3}, "level.yaml: calibrated")
    with pytest.raises(ValueError, match="codewords"):
        CalibratedSettings.read({"codewords": "many"}, "level.yaml: calibrated")


@pytest.mark.parametrize(
    "options",
    [
        {"context": []},
        {"context": [0.0, float("inf")]},
        {"dimensions": 0},
        {"whitening": -0.1},
        {"whitening": 0.7},
        {"codewords": 1},
        {"parts": 1},
        {"max_frames": 0},
        {"seed": -1},
    ],
    ids=str,
)
def test_settings_out_of_range_are_refused_with_their_file(options):
    [name] = options
    with pytest.raises(ValueError, match=f"level.yaml: calibrated: {name} is .*expect"):
        CalibratedSettings.read(options, "level.yaml: calibrated")


def test_the_router_is_fitted_without_the_group_that_shares_the_learning(monkeypatch):
    """As with nccl: a group that takes no tensor of the CPU, where the router is."""

    def refuse(*_, **__):
        raise RuntimeError("No backend type associated with device type cpu")

    clips, labels = sweeps(16)
    speakers = [f"s{i // 4}" for i in range(16)]
    expected, unheard = fit(clips, labels, speakers)
    monkeypatch.setattr(distributed, "is_initialized", lambda: True)
    monkeypatch.setattr(distributed, "get_rank", lambda: 0)
    monkeypatch.setattr(distributed, "get_world_size", lambda: 2)
    for name in ("all_reduce", "all_gather", "broadcast", "barrier"):
        monkeypatch.setattr(distributed, name, refuse)
    with pytest.raises(RuntimeError, match="No backend"):
        learn_residual_codebooks(ArraySource(np.eye(4)), [2])
    found, again = fit(clips, labels, speakers)
    assert np.array_equal(again, unheard)
    for name, value in expected.items():
        assert torch.equal(found[name], value), name

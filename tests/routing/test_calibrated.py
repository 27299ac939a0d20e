"""The calibrated router: context, weights of evidence, clips it has not heard."""

import numpy as np
import pytest
import torch
from torch import distributed

from emoq_plugin.core.batch_encoding import batch_encoding
from emoq_plugin.learning.learner import learn_residual_codebooks
from emoq_plugin.learning.sources import ArraySource
from emoq_plugin.routing.base import RoutingInputs
from emoq_plugin.routing.evidence import (
    evidence,
    in_context,
    posteriors,
    statistics_over_time,
)
from emoq_plugin.routing.fit_calibrated import (
    CalibratedSettings,
    fit_calibrated,
    fit_weights,
)
from emoq_plugin.routing.systems import System

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
    return posteriors(parameters, evidence_of(parameters, clips)).argmax(dim=1).numpy()


def evidence_of(parameters, clips):
    lengths = torch.tensor([len(clip) for clip in clips])
    x = torch.nn.utils.rnn.pad_sequence(clips, batch_first=True, padding_value=1e9)
    return evidence(parameters, x, lengths)


def route(bank, frames, **options):
    inputs = RoutingInputs(batch_encoding(bank, frames[None]), **options)
    places, _ = System.parse("specific-calibrated").route(inputs)
    return bank.experts[int(places[0, 0])]


def test_neighbours_are_beside_a_frame_and_ends_repeat():
    frames = torch.arange(4.0)[None, :, None]
    offsets, lengths = torch.tensor([-1, 0, 1]), torch.tensor([3])  # one is padding
    expected = [[0.0, 0.0, 1.0], [0.0, 1.0, 2.0], [1.0, 2.0, 2.0]]
    assert in_context(frames, offsets, lengths)[0, :3].tolist() == expected


@pytest.mark.parametrize("n_frames", [1, 2, 50])
def test_statistics_are_finite_for_clips_of_any_length(n_frames):
    lengths = torch.tensor([n_frames])
    pooled = statistics_over_time(torch.randn(1, n_frames, 4), lengths)
    assert pooled.shape == (1, 9 * 4 + 3)
    assert pooled.isfinite().all()


def test_statistics_are_those_of_numpy_and_padding_is_not_seen():
    frames = np.random.default_rng(0).normal(size=(2, 40, 3)).astype(np.float32)
    lengths = torch.tensor([40, 23])
    found = statistics_over_time(torch.from_numpy(frames), lengths)
    for row, clip, n in zip(found, frames.astype(np.float64), lengths.tolist()):
        clip, moved = clip[:n], np.diff(clip[:n], axis=0)
        level, moved_level = clip.mean(axis=1), moved.mean(axis=1)
        expected = [
            clip.mean(axis=0),
            clip.std(axis=0),
            np.quantile(clip, [0.05, 0.25, 0.5, 0.75, 0.95], axis=0).ravel(),
            moved.std(axis=0),
            np.abs(moved).mean(axis=0),
            [level.std(), np.abs(moved_level).mean(), np.log(n)],
        ]
        np.testing.assert_allclose(row, np.concatenate(expected), rtol=1e-4, atol=1e-6)


def test_classes_that_differ_only_in_the_order_of_frames_are_distinguished():
    clips, labels = sweeps(40)
    parameters, held_out = fit(clips, labels, [f"s{i // 4}" for i in range(40)])
    new_clips, new_labels = sweeps(20, seed=1)
    assert (classify(parameters, new_clips) == new_labels).mean() == 1.0
    assert (held_out.argmax(axis=1) == labels).mean() == 1.0
    # Single frames say nothing: without context it is a guess.
    alone = CalibratedSettings(dimensions=3, codewords=16, context=(0.0,))
    parameters, _ = fit(clips, labels, [f"s{i // 4}" for i in range(40)], 2, alone)
    assert (classify(parameters, new_clips) == new_labels).mean() < 0.9


def test_posteriors_of_training_clips_come_from_routers_without_their_speaker():
    random = np.random.default_rng(0)
    # A speaker's clips are alike and share one meaningless label.
    speakers = [f"s{i // 5}" for i in range(60)]
    labels = np.repeat(random.permutation(12) % 2, 5)
    voices = random.normal(0, 3, (12, 3))
    clips = [
        torch.from_numpy(voices[i // 5] + random.normal(0, 0.1, (30, 3))).float()
        for i in range(60)
    ]
    parameters, held_out = fit(clips, labels, speakers)
    heard = evidence_of(parameters, clips)[:, :, 0]
    assert (heard.argmax(dim=1).numpy() == labels).mean() > 0.9
    assert (held_out.argmax(axis=1) == labels).mean() < 0.8


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


def test_a_class_of_one_clip_is_reported():
    clips, labels = sweeps(8)
    with pytest.raises(ValueError, match="two or more clips"):
        fit(clips[::2] + clips[1:2], np.array([0, 0, 0, 0, 1]), list("abcde"))


def test_many_clips_are_thinned_out_and_still_distinguished():
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
    return make_bank(
        router_parameters={f"calibrated.{k}": v for k, v in parameters.items()}
    )


def test_a_clip_goes_to_the_expert_of_its_class(routed):
    for label, emotion in enumerate(routed.emotions):
        frames = torch.randn(25, 2) + 4.0 * label
        assert route(routed, frames) == f"specific/{emotion}"


def test_a_training_clip_is_routed_by_its_speaker_held_out_posteriors(routed):
    frames = torch.randn(25, 2)
    held_out = {"calibrated": torch.tensor([[0.1, 0.2, 0.7]])}
    assert route(routed, frames, held_out=held_out) == "specific/sad"
    # A clip that has none is routed by the router itself.
    none = {"calibrated": torch.full((1, 3), torch.nan)}
    assert route(routed, frames, held_out=none) == route(routed, frames)


def test_a_bank_without_the_router_says_so(bank):
    with pytest.raises(ValueError, match="no calibrated router"):
        route(bank, torch.zeros(3, 2))


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
    expected, held_out = fit(clips, labels, speakers)
    monkeypatch.setattr(distributed, "is_initialized", lambda: True)
    monkeypatch.setattr(distributed, "get_rank", lambda: 0)
    monkeypatch.setattr(distributed, "get_world_size", lambda: 2)
    for name in ("all_reduce", "all_gather", "broadcast", "barrier"):
        monkeypatch.setattr(distributed, name, refuse)
    with pytest.raises(RuntimeError, match="No backend"):
        learn_residual_codebooks(ArraySource(np.eye(4)), [2])
    found, again = fit(clips, labels, speakers)
    assert np.array_equal(again, held_out)
    for name, value in expected.items():
        assert torch.equal(found[name], value), name

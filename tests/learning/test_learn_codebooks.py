"""What learning residual codebooks promises, whatever the kernels do."""

import json
import logging
from typing import get_type_hints

import numpy as np
import pytest
import torch

from emoq_plugin.core.encoding import decode_frames, encode_frames
from emoq_plugin.learning.learner import learn_residual_codebooks
from emoq_plugin.learning.lloyd import draw_distant, lloyd_pass, update
from emoq_plugin.learning.portions import LevelCache
from emoq_plugin.learning.settings import LearningSettings
from emoq_plugin.learning.sources import ArraySource, UtteranceSource

FEW = LearningSettings(max_iterations=3, tolerance=0.0)


def blobs(n_frames=240, dimension=3, seed=0):
    random = np.random.default_rng(seed)
    centers = random.normal(scale=4, size=(5, dimension))
    frames = centers[random.integers(5, size=n_frames)]
    return (frames + random.normal(size=frames.shape)).astype(np.float32)


def two_experts(n_frames=240, seed=1):
    random = np.random.default_rng(seed)
    weights = random.uniform(0.5, 2.0, size=(n_frames, 2))
    weights[: n_frames // 3, 1] = 0.0
    weights[n_frames // 2 :, 0] *= random.integers(2, size=n_frames - n_frames // 2)
    return weights


def utterances(frames, n_utterances=7):
    cuts = np.linspace(0, len(frames), n_utterances + 1).astype(int) ** 2
    cuts = (cuts / cuts[-1] * len(frames)).astype(int)
    cuts = np.unique(np.maximum(cuts, np.arange(len(cuts))))
    return {f"u{i}": frames[a:b] for i, (a, b) in enumerate(zip(cuts, cuts[1:]))}


def stream(clips, weights=None, **options):
    lengths = {name: len(frames) for name, frames in clips.items()}
    if weights is None:
        weights = np.ones((len(clips), 1))
    return UtteranceSource(
        lambda names: ((n, clips[n]) for n in names),
        lengths,
        weights=weights,
        **options,
    )


def assert_same(found, expected, atol=0.0):
    assert len(found) == len(expected)
    for left, right in zip(found, expected):
        torch.testing.assert_close(left, right, rtol=0.0, atol=atol)


def one_step(frames, weights, codebook):
    """Return codebook and objective after one Lloyd iteration of one expert."""
    source, cache = ArraySource(frames, weights, chunk_frames=7), LevelCache()
    (found,) = lloyd_pass(source, [], codebook[None], active=[0], cache=cache).values()
    drawn = draw_distant(source, codebook[None], experts=[0], cache=cache, seed=0)
    return update(codebook, found, drawn[0].frames), found.n_dead, found


def test_four_frames_give_the_codebooks_that_one_computes_by_hand():
    frames = np.array([[0.0], [1.0], [10.0], [11.0]])
    coarse, fine = learn_residual_codebooks(ArraySource(frames), [2, 2])
    assert coarse.shape == (1, 2, 1)
    assert sorted(coarse.flatten().tolist()) == [0.5, 10.5]
    assert sorted(fine.flatten().tolist()) == [-0.5, 0.5]


def test_weights_move_the_mean():
    frames = np.array([[0.0], [1.0], [10.0], [11.0]])
    weights = np.array([[1.0], [3.0], [1.0], [1.0]])
    (codebook,) = learn_residual_codebooks(ArraySource(frames, weights), [2])
    assert sorted(codebook.flatten().tolist()) == [0.75, 10.5]


def test_a_frame_of_weight_three_equals_the_frame_three_times():
    frames = blobs(60)
    counts = np.random.default_rng(0).integers(1, 5, size=len(frames))
    codebook = torch.from_numpy(frames[:6].copy())
    weighted, _, once = one_step(frames, counts[:, None], codebook)
    repeated, _, often = one_step(np.repeat(frames, counts, axis=0), None, codebook)
    torch.testing.assert_close(weighted, repeated, rtol=0, atol=1e-5)
    assert once.objective == pytest.approx(often.objective, rel=1e-5)
    torch.testing.assert_close(once.mass, often.mass)


@pytest.mark.parametrize("init", ["k-means++", "random"])
@pytest.mark.parametrize("factor", [8.0, 1000.0])
def test_the_scale_of_the_weights_changes_nothing(factor, init):
    frames, weights = blobs(), two_experts()
    settings = LearningSettings(max_iterations=3, tolerance=0.0, init=init)
    plain, scaled = (
        learn_residual_codebooks(ArraySource(frames, w), [6, 4], settings=settings)
        for w in (weights, weights * factor)
    )
    assert_same(scaled, plain, atol=1e-5)


def test_frames_without_weight_do_not_exist():
    frames, weights = blobs(), two_experts()
    far = np.full((50, 3), 1e4)
    with_ghosts = ArraySource(
        np.concatenate([frames, far]), np.concatenate([weights, np.zeros((50, 2))])
    )
    found = learn_residual_codebooks(with_ghosts, [6, 4], settings=FEW)
    expected = learn_residual_codebooks(
        ArraySource(frames, weights), [6, 4], settings=FEW
    )
    assert_same(found, expected, atol=1e-5)


@pytest.mark.parametrize("expert", [0, 1])
def test_an_expert_learns_in_the_joint_pass_what_it_learns_alone(expert):
    frames, weights = blobs(), two_experts()
    joint = learn_residual_codebooks(
        ArraySource(frames, weights, chunk_frames=50), [6, 4], settings=FEW
    )
    alone = learn_residual_codebooks(
        ArraySource(frames, weights[:, [expert]]), [6, 4], settings=FEW
    )
    assert_same([c[[expert]] for c in joint], alone, atol=1e-5)


@pytest.mark.parametrize("prefetch", [0, 1, 3])
def test_streaming_equals_memory(prefetch):
    frames = blobs()
    clips = utterances(frames)
    per_clip = np.random.default_rng(2).uniform(0.5, 1.0, size=(len(clips), 2))
    per_frame = np.repeat(per_clip, [len(c) for c in clips.values()], axis=0)
    found = learn_residual_codebooks(
        stream(clips, per_clip, chunk_frames=64, prefetch=prefetch),
        [6, 4],
        settings=FEW,
    )
    expected = learn_residual_codebooks(
        ArraySource(frames, per_frame, chunk_frames=64), [6, 4], settings=FEW
    )
    assert_same(found, expected)


@pytest.mark.parametrize("chunk_frames", [1, 17, 239, 240, 8192])
def test_the_size_of_the_chunks_does_not_show(chunk_frames):
    frames, weights = blobs(), two_experts()
    found, expected = (
        learn_residual_codebooks(
            ArraySource(frames, weights, chunk_frames=c), [6, 4], settings=FEW
        )
        for c in (chunk_frames, 100)
    )
    assert_same(found, expected, atol=1e-5)


def test_a_dead_codeword_comes_back_as_a_distant_frame():
    frames = np.array([[0.0], [0.0], [10.0], [14.0]])
    codebook = torch.tensor([[0.0], [12.0], [1e6]])
    moved, n_dead, _ = one_step(frames, None, codebook)
    assert n_dead == 1
    assert moved[2].item() in (10.0, 14.0)  # those with distortion, never the zeros
    _, n_dead, again = one_step(frames, None, moved)
    assert n_dead == 0
    assert again.used == 3


def test_many_dead_codewords_take_different_frames():
    frames = np.arange(12.0)[:, None]
    codebook = torch.tensor([[5.0], [1e5], [1e6], [1e7]])
    moved, n_dead, _ = one_step(frames, None, codebook)
    assert n_dead == 3
    assert len(moved.unique()) == 4


def test_every_codeword_is_in_use_at_the_end(tmp_path):
    frames = np.repeat(blobs(40), 5, axis=0)
    log = tmp_path / "learning.jsonl"
    learn_residual_codebooks(ArraySource(frames), [32], log_file=log)
    assert json.loads(log.read_text().splitlines()[-1])["used"] == 32


def test_total_distortion_never_grows_with_a_level():
    frames = torch.from_numpy(blobs())
    codebooks = learn_residual_codebooks(ArraySource(frames.numpy()), [4, 3, 5, 2])
    codebooks = [c[0] for c in codebooks]
    distortion = [frames.square().sum().item()]
    for depth in range(1, 5):
        codes = encode_frames(frames, codebooks[:depth])
        decoded = decode_frames(codes, codebooks)
        distortion.append((frames - decoded).square().sum().item())
    assert all(b <= a * (1 + 1e-6) for a, b in zip(distortion, distortion[1:]))
    assert distortion[-1] < 0.2 * distortion[1]


def test_fewer_frames_than_codewords_is_an_error_with_both_numbers():
    weights = np.ones((9, 2))
    weights[5:, 1] = 0
    source = ArraySource(blobs(9), weights)
    with pytest.raises(ValueError, match="'sad' has 5 .* K = 8"):
        learn_residual_codebooks(source, [8], experts=["all", "sad"])


@pytest.mark.parametrize("init", ["k-means++", "random"])
def test_fewer_distinct_frames_than_codewords_is_an_error_with_both_numbers(init):
    frames = np.repeat(blobs(3), 10, axis=0)
    with pytest.raises(ValueError, match="'all'.* 3 distinct frames .* 4 codewords"):
        learn_residual_codebooks(
            ArraySource(frames),
            [4],
            experts=["all"],
            settings=LearningSettings(init=init),
        )


@pytest.mark.parametrize("prefetch", [0, 2])
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_frames_that_are_not_numbers_are_named_by_utterance(value, prefetch):
    clips = utterances(blobs())
    clips["u4"] = clips["u4"].copy()
    clips["u4"][1, 2] = value
    with pytest.raises(ValueError, match="utterance 'u4': frame 1 is NaN or inf"):
        learn_residual_codebooks(
            stream(clips, prefetch=prefetch, chunk_frames=16), [4], settings=FEW
        )


def test_frames_in_memory_that_are_not_numbers_are_named_by_position():
    frames = blobs(20)
    frames[13, 0] = np.nan
    with pytest.raises(ValueError, match="frame 13"):
        ArraySource(frames)


def test_a_padded_utterance_is_refused():
    clips = utterances(blobs())
    lengths = {name: len(c) for name, c in clips.items()}
    clips["u2"] = np.pad(clips["u2"], ((0, 3), (0, 0)))
    source = UtteranceSource(
        lambda names: ((n, clips[n]) for n in names), lengths, weights=np.ones((7, 1))
    )
    with pytest.raises(ValueError, match=f"'u2' has {lengths['u2'] + 3} frames"):
        learn_residual_codebooks(source, [4])


class Interrupted(ArraySource):
    """Breaks off in the middle of the pass number `at`."""

    def __init__(self, *arguments, at, **options):
        super().__init__(*arguments, **options)
        self.at, self.passes = at, 0

    def chunks(self, order_seed=None):
        self.passes += 1
        for number, chunk in enumerate(super().chunks(order_seed)):
            if self.passes == self.at and number == 1:
                raise KeyboardInterrupt
            yield chunk


@pytest.mark.parametrize(
    "settings",
    [
        LearningSettings(max_iterations=2, tolerance=0.0),
        LearningSettings(max_iterations=4, algorithm="ema", dead_threshold=0.5),
    ],
    ids=["lloyd", "ema"],
)
def test_an_interrupted_call_resumes_to_the_same_bits(tmp_path, settings):
    data = {"frames": blobs(), "weights": two_experts(), "chunk_frames": 60}
    whole = learn_residual_codebooks(ArraySource(**data), [6, 4], settings=settings)
    at, interrupted = 2, True
    while interrupted:
        checkpoint = tmp_path / f"{at}.safetensors"
        source = Interrupted(**data, at=at)
        try:
            learn_residual_codebooks(
                source, [6, 4], settings=settings, checkpoint=checkpoint
            )
            interrupted = False
        except KeyboardInterrupt:
            resumed = learn_residual_codebooks(
                ArraySource(**data), [6, 4], settings=settings, checkpoint=checkpoint
            )
            assert_same(resumed, whole)
        at += 1
    assert at > 6  # some passes were interrupted, and none after the last one


def test_a_finished_call_starts_from_its_checkpoint(tmp_path):
    checkpoint = tmp_path / "checkpoint.safetensors"
    source = Interrupted(blobs(), at=0)
    first = learn_residual_codebooks(source, [6, 4], checkpoint=checkpoint)
    passes, source.passes = source.passes, 0
    again = learn_residual_codebooks(source, [6, 4], checkpoint=checkpoint)
    assert_same(again, first)
    assert source.passes < passes / 2


@pytest.mark.parametrize("change", ["frames", "weights", "sizes", "settings"])
def test_the_checkpoint_of_another_call_is_ignored(tmp_path, caplog, change):
    checkpoint = tmp_path / "checkpoint.safetensors"
    frames, weights = blobs(), two_experts()
    learn_residual_codebooks(
        ArraySource(frames, weights), [6, 4], settings=FEW, checkpoint=checkpoint
    )
    frames = frames * 2 if change == "frames" else frames
    weights = weights**2 if change == "weights" else weights
    sizes = [6, 5] if change == "sizes" else [6, 4]
    seed = 1 if change == "settings" else 0
    settings = LearningSettings(max_iterations=3, tolerance=0.0, seed=seed)
    fresh = learn_residual_codebooks(
        ArraySource(frames, weights), sizes, settings=settings
    )
    with caplog.at_level(logging.WARNING):
        found = learn_residual_codebooks(
            ArraySource(frames, weights),
            sizes,
            settings=settings,
            checkpoint=checkpoint,
        )
    assert_same(found, fresh)
    assert "another call" in caplog.text


def test_the_log_has_every_pass(tmp_path):
    log = tmp_path / "learning.jsonl"
    learn_residual_codebooks(
        ArraySource(blobs(), two_experts()),
        [6, 4],
        experts=["calm", "wild"],
        settings=FEW,
        log_file=log,
    )
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    assert {line["expert"] for line in lines} == {"calm", "wild"}
    assert {line["level"] for line in lines} == {0, 1}
    for level, size in ((0, 6), (1, 4)):
        for expert in ("calm", "wild"):
            mine = [x for x in lines if (x["level"], x["expert"]) == (level, expert)]
            assert [x["iteration"] for x in mine] == list(range(len(mine)))
            objectives = [x["objective"] for x in mine]
            assert objectives == sorted(objectives, reverse=True)
            for line in mine:
                assert 0 < line["used"] <= size
                assert 1 <= line["perplexity"] <= size + 1e-6
                assert 0 <= line["moved"] <= 1
                assert line["used"] + line["dead"] == size
                assert line["seconds"] >= 0


def test_learning_is_repeatable_and_allowed_under_deterministic_algorithms():
    source = ArraySource(blobs(), two_experts())
    torch.set_deterministic_debug_mode("error")
    try:
        first, second = (
            learn_residual_codebooks(source, [6, 4], settings=FEW) for _ in range(2)
        )
    finally:
        torch.set_deterministic_debug_mode("default")
    assert_same(first, second)


def test_learning_goes_on_from_codebooks_that_are_given():
    frames = np.array([[0.0], [1.0], [10.0], [11.0]])
    initial = [torch.tensor([[[11.0], [0.0]]]), torch.tensor([[[0.4], [-0.4]]])]
    given = [table.clone() for table in initial]
    coarse, fine = learn_residual_codebooks(
        ArraySource(frames), [2, 2], initial=initial
    )
    assert coarse.flatten().tolist() == [10.5, 0.5]
    assert fine.flatten().tolist() == [0.5, -0.5]
    assert_same(initial, given)
    with pytest.raises(ValueError, match="initial codebooks have shapes"):
        learn_residual_codebooks(ArraySource(frames), [2, 1], initial=initial)


def test_another_seed_gives_another_codebook():
    found = [
        learn_residual_codebooks(
            ArraySource(blobs()), [7], settings=LearningSettings(seed=seed)
        )[0]
        for seed in (0, 1)
    ]
    assert not torch.equal(*found)


@pytest.mark.parametrize(
    "options", [{"algorithm": "annealing"}, {"init": "zeros"}], ids=str
)
def test_an_unknown_setting_names_the_allowed_ones(options):
    with pytest.raises(ValueError, match="expected one of"):
        LearningSettings(**options)


def test_weights_must_be_finite_and_not_negative():
    for bad in (-1.0, np.nan, np.inf):
        weights = np.ones((20, 1))
        weights[3] = bad
        with pytest.raises(ValueError, match="finite and not negative"):
            ArraySource(blobs(20), weights)


def test_the_number_of_weights_must_fit():
    with pytest.raises(ValueError, match="19 rows of weights for 20 frames"):
        ArraySource(blobs(20), np.ones((19, 1)))
    with pytest.raises(ValueError, match="6 rows of weights for 7 utterances"):
        stream(utterances(blobs()), np.ones((6, 1)))


@pytest.mark.parametrize(
    "options",
    [
        {"max_iterations": 0},
        {"tolerance": -1e-3},
        {"tolerance": float("nan")},
        {"tolerance": float("inf")},
        {"sample_per_code": 0},
        {"seed": -1},
        {"seed": 2**32},
        {"decay": -0.1},
        {"decay": 1.0},
        {"decay": 1.5},
        {"dead_threshold": -1.0},
        {"dead_threshold": float("inf")},
        {"patience": 0},
    ],
    ids=str,
)
def test_a_setting_out_of_range_is_named_with_its_value(options):
    [(name, value)] = options.items()
    with pytest.raises(ValueError, match=f"^{name} is {value}, expected"):
        LearningSettings(**options)


def test_every_number_of_the_settings_has_a_range():
    for name, kind in get_type_hints(LearningSettings).items():
        wrong = {int: -1, float: float("nan"), str: "?"}[kind]
        with pytest.raises(ValueError, match=f"^{name} is"):
            LearningSettings(**{name: wrong})

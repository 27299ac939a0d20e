"""Learning by exponential moving averages."""

import json

import numpy as np
import torch

from emoq_plugin.learning.ema import ema_update
from emoq_plugin.learning.learner import learn_residual_codebooks
from emoq_plugin.learning.settings import LearningSettings
from emoq_plugin.learning.sources import ArraySource

SETTINGS = LearningSettings(
    algorithm="ema", init="random", max_iterations=12, decay=0.9, dead_threshold=0.5
)


def blobs(n_frames=400, seed=0):
    random = np.random.default_rng(seed)
    centers = random.normal(scale=5, size=(8, 3))
    frames = centers[random.integers(8, size=n_frames)]
    return (frames + 0.3 * random.normal(size=frames.shape)).astype(np.float32)


def step(codebook, counts, frames, **options):
    arguments = {"decay": 0.5, "dead_threshold": 0.0} | options
    sums = codebook * counts[:, None]
    weights = arguments.pop("weights", torch.ones(len(frames)))
    moved, n_dead = ema_update(
        codebook,
        counts,
        sums,
        residual=frames,
        weights=weights,
        codes=torch.cdist(frames, codebook).argmin(dim=1),
        generator=torch.Generator().manual_seed(0),
        **arguments,
    )
    return moved, n_dead, sums


def test_one_step_is_the_average_that_one_computes_by_hand():
    codebook, counts = torch.tensor([[0.0], [10.0]]), torch.tensor([2.0, 2.0])
    frames = torch.tensor([[1.0], [3.0], [11.0], [9.0]])
    moved, n_dead, _ = step(codebook, counts, frames)
    # n = 0.5 * 2 + 0.5 * 2 = 2; m = 0.5 * 0 + 0.5 * 4 = 2; and 0.5 * 20 + 0.5 * 20.
    assert moved.flatten().tolist() == [1.0, 10.0]
    assert counts.tolist() == [2.0, 2.0]
    assert n_dead == 0


def test_a_dead_codeword_becomes_a_frame_and_stays_it():
    codebook, counts = torch.tensor([[0.0], [1e3]]), torch.tensor([4.0, 1.0])
    frames = torch.tensor([[1.0], [3.0], [2.0]])
    moved, n_dead, sums = step(codebook, counts, frames, dead_threshold=1.0)
    assert n_dead == 1
    assert moved[1].item() in (1.0, 3.0, 2.0)
    assert counts[1] == 1.0
    assert sums[1] == moved[1]  # the averages agree with it: nothing overwrites it


def test_the_first_codebook_is_not_thrown_away_at_the_first_chunk(tmp_path):
    # 16 frames for each codeword in a chunk: all alive by a threshold of 2.
    frames = np.repeat(np.arange(8.0), 16)[:, None] * 100
    log = tmp_path / "learning.jsonl"
    settings = LearningSettings(algorithm="ema", max_iterations=1, dead_threshold=2.0)
    (codebook,) = learn_residual_codebooks(
        ArraySource(frames), [8], settings=settings, log_file=log
    )
    assert json.loads(log.read_text())["dead"] == 0
    assert sorted(codebook.flatten().round().tolist()) == [100.0 * i for i in range(8)]


def test_the_objective_falls(tmp_path):
    log = tmp_path / "learning.jsonl"
    learn_residual_codebooks(
        ArraySource(blobs(), chunk_frames=50), [8, 4], settings=SETTINGS, log_file=log
    )
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    last = [line["objective"] for line in lines if line["level"] == 1]
    assert min(last) < 0.7 * last[0]


def test_the_codebooks_of_the_best_pass_are_kept():
    frames = torch.from_numpy(blobs())
    few, many = (
        learn_residual_codebooks(
            ArraySource(frames.numpy(), chunk_frames=50),
            [8],
            settings=LearningSettings(
                algorithm="ema", init="random", max_iterations=n, decay=0.9
            ),
        )[0][0]
        for n in (1, 12)
    )

    def distortion(codebook):
        return torch.cdist(frames, codebook).square().amin(dim=1).mean()

    assert distortion(many) < distortion(few)


def test_learning_stops_when_patience_is_over(tmp_path):
    log = tmp_path / "learning.jsonl"
    frames = np.repeat(np.arange(4.0), 10)[:, None]
    settings = LearningSettings(
        algorithm="ema", max_iterations=50, patience=3, dead_threshold=0.1
    )
    learn_residual_codebooks(ArraySource(frames), [4], settings=settings, log_file=log)
    assert len(log.read_text().splitlines()) < 10

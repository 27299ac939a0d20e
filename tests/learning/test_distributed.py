"""Several processes that share the stream learn what one process learns."""

import os
from unittest import mock

import numpy as np
import pytest
import torch
from torch import distributed

from emoq_plugin.core import nearest
from emoq_plugin.learning.learner import learn_residual_codebooks
from emoq_plugin.learning.pruning import RotatedTable
from emoq_plugin.learning.settings import LearningSettings
from emoq_plugin.learning.sources import ArraySource, UtteranceSource

SETTINGS = LearningSettings(max_iterations=3, tolerance=0.0)
BOUNDED = "passes with bounds"


def sources():
    random = np.random.default_rng(0)
    frames = random.normal(size=(90, 3)).astype(np.float32)
    weights = random.uniform(size=(90, 2))
    weights[::2, 1] = 0  # shard 0 of 2 holds nothing for expert 1
    clips = {"short": frames[:5], "long": frames[5:70], "middle": frames[70:]}

    def stream(names):
        return UtteranceSource(
            lambda asked: ((n, clips[n]) for n in asked),
            {n: len(clips[n]) for n in names},
            weights=np.ones((len(names), 1)),
            chunk_frames=16,
        )

    # The script runs outside of pytest, where tests is no package.
    spectrum = (1.0 + np.arange(128)) ** -0.5
    centres = 3 * spectrum * random.normal(size=(256, 128))
    clusters = centres[random.integers(256, size=8000)]
    clusters += spectrum * random.normal(size=clusters.shape)

    return {
        BOUNDED: ArraySource(clusters),
        "an expert without frames in a shard": ArraySource(frames, weights),
        "uneven shards": stream(["short", "long", "middle"]),
        "an empty shard": stream(["long"]),
    }


def learn(case):
    if case != BOUNDED:
        return learn_residual_codebooks(sources()[case], [5, 4], settings=SETTINGS)
    with mock.patch.object(nearest, "is_bounded", lambda *_: True):
        return learn_residual_codebooks(sources()[case], [256], settings=SETTINGS)


def learn_all():
    with mock.patch.object(
        RotatedTable, "search", autospec=True, side_effect=RotatedTable.search
    ) as used:
        found = {case: learn(case) for case in sources()}
    return found | {"bounded": used.call_count}


def work(rank, folder):
    distributed.init_process_group(
        "gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2
    )
    found = learn_all()
    try:
        ema = LearningSettings(algorithm="ema")
        learn_residual_codebooks(ArraySource(np.eye(9)), [2], settings=ema)
    except ValueError as error:
        found["ema"] = str(error)
    torch.save(found, f"{folder}/{rank}.pt")
    distributed.destroy_process_group()


@pytest.fixture(scope="module")
def two_processes(tmp_path_factory, run_ranks):
    folder = tmp_path_factory.mktemp("gloo")
    run_ranks(__file__, cwd=folder)
    return [torch.load(folder / f"{rank}.pt") for rank in range(2)]


@pytest.mark.parametrize("case", list(sources()))
def test_two_processes_learn_the_codebooks_of_one(two_processes, case):
    expected = learn(case)
    for found in two_processes:
        for left, right in zip(found[case], expected, strict=True):
            torch.testing.assert_close(left, right, rtol=0, atol=1e-5)


def test_bounds_are_used_in_every_process(two_processes):
    for found in two_processes:
        assert found["bounded"] > 0


def test_ema_in_several_processes_is_refused(two_processes):
    for found in two_processes:
        assert "one process, found 2" in found["ema"]


if __name__ == "__main__":
    work(int(os.environ["RANK"]), os.getcwd())

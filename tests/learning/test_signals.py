"""SIGTERM during learning: stop after the pass, go on to the same bits."""

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
import torch

from emoq_plugin.learning.learner import learn_residual_codebooks
from emoq_plugin.learning.settings import LearningSettings
from emoq_plugin.learning.sources import ArraySource
from emoq_plugin.learning.stopping import HeldSigterm

ROOT = Path(__file__).parents[2]
LLOYD = LearningSettings(max_iterations=3, tolerance=0.0)
EMA = LearningSettings(max_iterations=4, algorithm="ema", dead_threshold=0.5)


class Terminated(ArraySource):
    """The process gets SIGTERM in the middle of the pass number `at`."""

    def __init__(self, *, at=0):
        frames = np.random.default_rng(0).normal(size=(90, 3)).astype(np.float32)
        super().__init__(frames, chunk_frames=40)
        self.at, self.passes = at, 0

    def chunks(self, order_seed=None):
        self.passes += 1
        for number, chunk in enumerate(super().chunks(order_seed)):
            if self.passes == self.at and number == 1:
                os.kill(os.getpid(), signal.SIGTERM)
            yield chunk


@pytest.fixture(autouse=True)
def not_held():
    """A signal that nobody holds back ends its test, not the process of all tests."""
    before = signal.signal(signal.SIGTERM, lambda *_: pytest.fail("SIGTERM came"))
    yield
    signal.signal(signal.SIGTERM, before)


@pytest.mark.parametrize("settings", [LLOYD, EMA], ids=["lloyd", "ema"])
def test_sigterm_in_any_pass_stops_after_it_and_the_same_call_ends_in_the_same_bits(
    tmp_path, caplog, settings
):
    caplog.set_level("INFO")

    def learn(source, checkpoint=None):
        return learn_residual_codebooks(
            source, [6, 4], settings=settings, checkpoint=checkpoint
        )

    undisturbed = Terminated()
    whole = learn(undisturbed)
    # The first passes fingerprint the call and draw the sample; the last ones learn.
    for at in range(2, undisturbed.passes + 1):
        checkpoint = tmp_path / f"{at}.safetensors"
        source = Terminated(at=at)
        with pytest.raises(
            InterruptedError, match="stopped by SIGTERM, same command resumes at level"
        ) as stop:
            learn(source, checkpoint)
        place = str(stop.value).partition("resumes at ")[2]
        assert (
            source.passes <= at + 1
        )  # the sample is no pass that ends in a checkpoint
        caplog.clear()
        resumed = learn(Terminated(), checkpoint)
        assert f"resuming at {place}" in caplog.messages
        for left, right in zip(resumed, whole, strict=True):
            assert torch.equal(left, right)


def test_the_message_says_where_the_work_resumes(tmp_path):
    checkpoint = tmp_path / "checkpoint.safetensors"
    with pytest.raises(InterruptedError, match="level 0, iteration 2"):
        learn_residual_codebooks(
            Terminated(at=4), [6], settings=LLOYD, checkpoint=checkpoint
        )


def test_without_a_checkpoint_sigterm_ends_the_process_at_once():
    code = "from test_signals import *; learn_residual_codebooks(Terminated(at=3), [6])"
    place = os.pathsep.join([str(Path(__file__).parent), str(ROOT)])
    environment = {**os.environ, "PYTHONPATH": place}
    ended = subprocess.run([sys.executable, "-c", code], env=environment, check=False)
    assert ended.returncode == -signal.SIGTERM


def test_a_signal_that_nobody_answered_is_delivered_after_the_block():
    heard = []
    before = signal.signal(signal.SIGTERM, lambda *_: heard.append("after"))
    try:
        with HeldSigterm() as held:
            os.kill(os.getpid(), signal.SIGTERM)
            assert held.came and not heard
        assert heard == ["after"]
    finally:
        signal.signal(signal.SIGTERM, before)


def test_other_threads_may_learn_with_a_checkpoint(tmp_path):
    found = []

    def learn():
        checkpoint = tmp_path / "checkpoint.safetensors"
        found.extend(learn_residual_codebooks(Terminated(), [6], checkpoint=checkpoint))

    thread = threading.Thread(target=learn)
    thread.start()
    thread.join()
    assert found[0].shape == (1, 6, 3)

"""What a log shows of a long loop."""

import logging
from types import SimpleNamespace

import pytest

from emoq_plugin import progress as module
from emoq_plugin.progress import Progress, progress


@pytest.fixture
def clock(monkeypatch):
    """Let time stand still; gives the seconds, which a test may change."""
    seconds = [0.0]
    monkeypatch.setattr(module, "time", SimpleNamespace(monotonic=lambda: seconds[0]))
    return seconds


def shown(caplog):
    return [record.getMessage().split(" %)")[0] for record in caplog.records]


def test_a_log_has_a_line_a_tenth(caplog, clock):
    with caplog.at_level(logging.INFO):
        for _ in progress(range(40), 40, "walk"):
            clock[0] += 1
    assert shown(caplog) == [f"walk: {4 * n} of 40 ({10 * n}" for n in range(1, 11)]


def test_a_quick_loop_has_its_last_line_alone(caplog, clock):
    with caplog.at_level(logging.INFO):
        assert list(progress(range(40), 40, "walk")) == list(range(40))
    assert shown(caplog) == ["walk: 40 of 40 (100"]


def test_parts_and_their_sum_count_once(caplog, clock):
    meter = Progress(100, "walk", "samples")
    with caplog.at_level(logging.INFO):
        for amount in (15, 20):
            clock[0] += 1
            meter.add(amount)
        clock[0] += 1
        meter.reach(30)  # known already
        meter.reach(80)
    assert shown(caplog) == [
        f"walk: {n} of 100 samples ({n // 10 * 10}" for n in (15, 35, 80)
    ]

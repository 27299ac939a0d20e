"""What a log shows of a long loop."""

import logging

from emoq_plugin.progress import Progress, progress


def shown(caplog):
    return [record.getMessage().split(" %)")[0] for record in caplog.records]


def test_a_log_has_a_line_a_tenth(caplog):
    with caplog.at_level(logging.INFO):
        assert list(progress(range(40), 40, "walk")) == list(range(40))
    assert shown(caplog) == [f"walk: {4 * n} of 40 ({10 * n}" for n in range(1, 11)]


def test_parts_and_their_sum_count_once(caplog):
    meter = Progress(100, "walk", "samples")
    with caplog.at_level(logging.INFO):
        for amount in (15, 20):
            meter.add(amount)
        meter.reach(30)  # known already
        meter.reach(80)
    assert shown(caplog) == [
        f"walk: {n} of 100 samples ({n // 10 * 10}" for n in (15, 35, 80)
    ]

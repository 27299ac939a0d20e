"""Files of predictions: what goes in comes out, what is wrong is named by line."""

import json

import numpy as np
import pytest

from emoq_plugin.evaluation.predictions import (
    Prediction,
    read_predictions,
    write_predictions,
)

BITS = {"nominal": 300.0, "entropy": 271.5, "side_info": 0.7}


def fields(**changes):
    return {
        "fold": "0",
        "rate": "64x1",
        "system": "specific-distortion",
        "head": "retrained",
        "bitrate_bps": BITS,
        "emotions": ["angry", "sad"],
        "utterances": ["a", "b"],
        "posteriors": [[0.25, 0.75], [1.0, 0.0]],
        **changes,
    }


def test_predictions_survive_a_round_trip(tmp_path):
    path = tmp_path / "new" / "probe.jsonl"
    third = [[1 / 3, 2 / 3], [1, 0]]
    conditions = [
        Prediction(**fields()),
        Prediction(
            **fields(fold="1", posteriors=third, ratings={"valence": [1.5, 2.0]})
        ),
    ]
    write_predictions(path, conditions)
    back = read_predictions(path)
    assert len(path.read_text().splitlines()) == len(back) == 2
    assert back[0].key == "64x1/specific-distortion/retrained"
    assert back[1].fold == "1" and back[1].bitrate_bps == BITS
    np.testing.assert_allclose(back[1].posteriors, third, atol=1e-8)
    assert back[0].posteriors.shape == (2, 2)
    assert back[0].ratings is None and back[1].ratings == {"valence": [1.5, 2.0]}
    assert back[1].only(["b"]).ratings == {"valence": [2.0]}


def test_the_continuous_bound_needs_no_bitrate_and_names_no_system():
    condition = Prediction(
        **fields(rate="continuous", system="continuous", bitrate_bps=None)
    )
    assert condition.key == "continuous/retrained"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"posteriors": [[0.5, 0.5]]}, r"shape \(1, 2\), expected \(2, 2\)"),
        ({"posteriors": [[0.5, 0.5], [0.5]]}, "not a matrix of numbers"),
        ({"posteriors": [["x", 1], [0, 1]]}, "not a matrix of numbers"),
        ({"posteriors": [[0.5, 0.5], [0.5, 0.6]]}, "row 1 .* sum 1.1"),
        ({"posteriors": [[1.5, -0.5], [0, 1]]}, "row 0 is not a distribution"),
        ({"posteriors": [[float("nan"), 1], [0, 1]]}, "row 0 is not a distribution"),
        ({"posteriors": [[float("inf"), 1], [0, 1]]}, "row 0 is not a distribution"),
        ({"utterances": ["a", "a"]}, r"utterances names \['a'\] more than once"),
        ({"utterances": []}, "at least one name"),
        ({"head": "oracle"}, "head is 'oracle', expected one of"),
        ({"fold": 0}, "fold is 0"),
        ({"system": "a/b"}, "without '/'"),
        ({"ratings": {"arousal": [1.0]}}, "ratings: 1 of 'arousal', expected a finite"),
        ({"ratings": {"arousal": [1, float("nan")]}}, "ratings: 2 of 'arousal'"),
        ({"ratings": {"anger": [1.0, 2.0]}}, "ratings: 2 of 'anger', expected"),
        ({"ratings": [1.0, 2.0]}, "ratings is"),
        ({"bitrate_bps": None}, "rate 64x1 needs bitrate_bps"),
        ({"bitrate_bps": {"nominal": 300}}, r"lacks \['entropy', 'side_info'\]"),
        ({"bitrate_bps": {**BITS, "entropy": -1}}, "bitrate_bps.entropy is -1"),
    ],
)
def test_a_wrong_line_is_named_by_file_and_line(tmp_path, changes, message):
    path = tmp_path / "probe.jsonl"
    lines = [fields(), fields(**{"fold": "1", **changes})]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    with pytest.raises(ValueError, match=rf"probe.jsonl:2: .*{message}"):
        read_predictions(path)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('{"fold": "0", ', ":1: "),
        ("[1, 2]", r":1: found \[1, 2\], expected \['bitrate_bps'"),
        ('{"fold": "0"}', r":1: found \['fold'\], expected"),
        ("", "no predictions"),
    ],
)
def test_a_file_that_is_not_predictions_is_refused(tmp_path, line, message):
    path = tmp_path / "probe.jsonl"
    path.write_text(line)
    with pytest.raises(ValueError, match=message):
        read_predictions(path)


def test_a_failed_write_leaves_the_old_file(tmp_path):
    path = tmp_path / "probe.jsonl"
    write_predictions(path, [Prediction(**fields())])
    before = path.read_text()

    def broken():
        yield Prediction(**fields(fold="1"))
        raise RuntimeError("stop")

    with pytest.raises(RuntimeError):
        write_predictions(path, broken())
    assert path.read_text() == before
    assert [p.name for p in tmp_path.iterdir()] == ["probe.jsonl"]

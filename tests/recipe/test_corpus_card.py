"""The card of a corpus: true numbers, commands and segments, many speakers, notes."""

import xml.etree.ElementTree as ElementTree
from pathlib import Path

import numpy as np
import pytest
import soundfile

from emoq_plugin.bin import data_from_csv, format_data, prepare_corpus
from emoq_plugin.data.directory import DataDirectory
from emoq_plugin.recipe.corpus_card import MOST_ROWS, REPORTS, write_card


def make_data(path, speakers, **more):
    utterances = [f"{s}-{n}" for s in speakers for n in range(3)]
    return DataDirectory(
        path,
        utterances=utterances,
        wav=more.pop("wav", {u: f"{path}/{u}.wav" for u in utterances}),
        speaker={u: u.split("-")[0] for u in utterances},
        emotion={u: "happy" if u.endswith("2") else "sad" for u in utterances},
        emotions=["happy", "sad"],
        **more,
    )


def card_of(path, data, **more):
    write_card(path, "TOY & CO", data, **more)
    return (path / "README.md").read_text()


def widths(path):
    """Return the widths of the bars of each row of the picture."""
    found = {}
    for box in ElementTree.parse(path / "classes.svg").getroot():
        if box.tag.endswith("rect") and box.get("height") == "14.0":
            found.setdefault(box.get("y"), []).append(float(box.get("width")))
    return list(found.values())


def test_seconds_rates_and_classes_are_those_of_the_files(tmp_path):
    data = make_data(tmp_path, ["ann", "ben"])
    for n, path in enumerate(data.wav.values()):
        rate = 8000 if n == 0 else 16000
        soundfile.write(path, np.zeros(rate * (n + 1)), rate)
    text = card_of(tmp_path, data, notes=["read by hand"])
    assert "6 clips, 2 speakers" in text
    assert "0.3 minutes; a clip has 1.0 to 6.0 s, half of them at most 3.5 s" in text
    assert "8000 Hz: 1, 16000 Hz: 5" in text and "- read by hand" in text
    assert "| ben | 1 | 2 | 3 |\n| all 2 | 2 | 4 | 6 |" in text
    assert "![Classes by speaker](classes.svg)" in text
    assert "no majority" not in text
    for row in widths(tmp_path):  # happy is a third of every bar
        assert row[0] == pytest.approx(sum(row) / 3, abs=0.1)
    assert len(widths(tmp_path)) == 3


def test_what_cannot_be_read_here_is_counted_and_segments_have_their_seconds(tmp_path):
    names = [f"ann-{n}" for n in range(3)]
    data = make_data(
        tmp_path,
        ["ann"],
        wav={"film": "ffmpeg -i film.mp4 |"},
        segments={u: ("film", 2.0 * n, 2.0 * n + 1) for n, u in enumerate(names)},
    )
    text = card_of(tmp_path, data)
    assert "1 files are commands, or have headers that cannot be read here" in text
    assert "a clip has 1.0 to 1.0 s" in text and "sampling rates" not in text


def test_votes_and_clips_without_a_majority_are_counted(tmp_path):
    votes = {f"ann-{n}": np.array([n, 2.0]) for n in range(3)}
    data = make_data(tmp_path, ["ann"], votes=votes)
    del data.emotion["ann-2"]  # two against two
    text = card_of(tmp_path, data)
    # 2 of 2, 2 of 3, 2 of 4.
    assert "3 clips have votes, 3.0 on average" in text and "has 72 % of them" in text
    assert "1 clips have votes without a majority" in text
    assert "| speaker | happy | sad | no majority | clips |" in text
    assert "| ann | 0 | 2 | 1 | 3 |" in text


def test_many_speakers_are_one_row(tmp_path):
    names = [f"s{n:03}" for n in range(MOST_ROWS + 1)]
    text = card_of(tmp_path, make_data(tmp_path, names))
    assert f"| all {len(names)} |" in text and "| s000 |" not in text
    assert len(widths(tmp_path)) == 1


def test_stage_1_writes_it_for_a_known_corpus(miniature, tmp_path):
    prepare_corpus.main(
        ["--corpus", "emodb", "--corpus_dir", str(miniature("emodb"))]
        + ["--output_dir", str(tmp_path)]
    )
    text = (tmp_path / "all/README.md").read_text()
    assert "24 clips, 6 speakers" in text and "fold 1: train" in text
    assert "recognised the intended class in 62 % of cases" in text
    assert "differs from what is published" in text
    ElementTree.parse(tmp_path / "all/classes.svg")


def test_from_csv_says_in_it_what_the_table_was(miniature, tmp_path, monkeypatch):
    audio = miniature("nemo") / "samples"
    rows = [f"{p};{p.name[:3]};{p.name.split('_')[1]};9" for p in audio.iterdir()]
    table = tmp_path / "clips.csv"
    table.write_text("\n".join(["file;speaker;emotion;age", *rows]) + "\n")
    monkeypatch.chdir(tmp_path)
    data_from_csv.main(["--csv", "clips.csv", "--map", "anger=angry"])
    text = Path("data/all/README.md").read_text()
    assert "36 rows divided by semicolons, 36 clips, folds by speakers" in text
    assert "passed over: age" in text and "renamed: anger=angry" in text


def test_a_report_that_changes_makes_no_features_stale(miniature, tmp_path, caplog):
    prepare_corpus.main(
        ["--corpus", "emodb", "--corpus_dir", str(miniature("emodb"))]
        + ["--output_dir", str(tmp_path)]
    )
    command = [
        *(
            "--data_dir",
            str(tmp_path / "all"),
            "--emotions",
            str(tmp_path / "emotions"),
        ),
        *("--output_dir", str(tmp_path / "raw")),
    ]
    format_data.main(command)
    for name in REPORTS:
        (tmp_path / "all" / name).write_text("another")
    caplog.set_level("INFO")
    format_data.main(command)
    assert "nothing to do" in caplog.text

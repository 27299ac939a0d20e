"""A corpus described by one CSV file."""

import pytest

from emoq_plugin.bin import main as emoq
from emoq_plugin.data.directory import DataDirectory, read_emotions
from emoq_plugin.data.folds import check_speaker_disjoint, read_folds


@pytest.fixture
def table(miniature, tmp_path, monkeypatch):
    """Write a CSV file beside a link to nEMO's audio; give a function that reads it."""
    (tmp_path / "wav files").symlink_to(miniature("nemo") / "samples")
    monkeypatch.chdir(tmp_path)
    names = sorted(p.stem for p in (tmp_path / "wav files").iterdir())

    def write(header, line):
        rows = [line(name, *name.split("_")[:2]) for name in names]
        path = tmp_path / "clips.csv"
        path.write_text("\n".join([header, *rows]) + "\n")

        def run(*options):
            emoq.main(["data", "from-csv", "--csv", str(path), *options])
            emotions = read_emotions("data/emotions")
            data = DataDirectory.read("data/all", emotions)
            data.validate(emotions)
            for fold in read_folds("data/folds"):
                check_speaker_disjoint(fold, data.speaker)
            return data

        return run

    return write


def plain(name, speaker, emotion):
    return f"wav files/{name}.wav,{speaker},{emotion}"


def test_three_columns_are_enough(table):
    data = table("file,speaker,emotion", plain)()
    assert data.utterances[0] == "clipsEB0-wav_files_EB0_anger_1"
    assert data.emotion["clipsEB0-wav_files_EB0_anger_1"] == "anger"
    assert len(data.utterances) == 36 and data.votes == {}
    assert len(read_folds("data/folds")) == 5


def test_labels_are_merged_chosen_and_ordered(table):
    run = table("file,speaker,emotion", plain)
    data = run("--classes", "sad", "happy", "--map", "happiness=happy", "sadness=sad")
    assert read_emotions("data/emotions") == ["sad", "happy"]
    assert len(data.utterances) == 12


def test_votes_give_the_majority_and_ties_are_left_out_or_kept(table):
    def voted(name, speaker, emotion):
        counts = {"anger": "3,1", "fear": "2,2"}.get(emotion, "0,4")
        return f"wav files/{name}.wav,{speaker},,{counts},x"

    run = table("file,speaker,emotion,votes_angry,votes_calm,age", voted)
    data = run()
    assert data.emotion["clipsEB0-wav_files_EB0_anger_1"] == "angry"
    assert data.votes["clipsEB0-wav_files_EB0_anger_1"].tolist() == [3, 1]
    assert len(data.utterances) == 30
    kept = run("--no_majority", "keep")
    assert len(kept.utterances) == 36 and len(kept.emotion) == 30


def test_labels_are_merged_before_the_majority_is_taken(table):
    def voted(name, speaker, emotion):
        counts = "2,2,3" if emotion == "anger" else "0,0,4"
        return f"wav files/{name}.wav,{speaker},{counts}"

    run = table("file,speaker,votes_excited,votes_happy,votes_sad", voted)
    data = run("--map", "excited=happy")
    assert list(data.emotion.values()).count("happy") == 6
    assert data.votes["clipsEB0-wav_files_EB0_anger_1"].tolist() == [4, 3]


def test_own_groups_and_own_parts_become_folds(table):
    groups = {"EB0": "a", "KD0": "a", "KS0": "b", "MP0": "b", "WR0": "c", "IC0": "c"}
    run = table("file,speaker,emotion,group", lambda *r: plain(*r) + "," + groups[r[1]])
    run()
    assert len(read_folds("data/folds")) == 3
    parts = {"a": "train", "b": "valid", "c": "test"}
    line = lambda *r: plain(*r) + "," + parts[groups[r[1]]]  # noqa: E731
    table("file,speaker,emotion,part", line)()
    (fold,) = read_folds("data/folds")
    assert len(fold.train) == len(fold.valid) == len(fold.test) == 12


def test_missing_files_are_left_out_and_named(table, caplog):
    def moved(name, speaker, emotion):
        return plain(name.replace("EB0_anger", "gone"), speaker, emotion)

    data = table("file,speaker,emotion", moved)()
    assert len(data.utterances) == 35
    assert "1 without their audio file" in caplog.text and "gone_1.wav" in caplog.text


@pytest.mark.parametrize(
    "header, line, options, message",
    [
        ("path,speaker,emotion", plain, (), "clips.csv:1: no column file"),
        (
            "file,speaker,emotion",
            lambda *r: "a.wav,,x",
            (),
            "clips.csv:2: speaker must not be empty",
        ),
        ("file,speaker", lambda *r: "a.wav,b", (), "csv:1: no column emotion and none"),
        ("file,speaker,emotion", lambda *r: "a.wav,b,", (), "neither an emotion nor"),
        ("file,speaker,emotion", lambda *r: "a.wav,b,NaN", (), "neither an emotion"),
        (
            "file,speaker,votes_sad",
            lambda *r: "a.wav,b,many",
            (),
            "clips.csv:2: column 'votes_sad' counts raters, found 'many'",
        ),
        ("file,speaker,votes_sad", lambda *r: "a.wav,b,-1", (), "must be finite"),
        ("file,speaker,emotion", plain, ("--classes", "joy", "fear"), "joy: no such"),
        ("file,speaker,emotion", plain, ("--map", "joy=happy"), "joy: no such label"),
        ("file,speaker,emotion", plain, ("--n_folds", "7"), "number of speakers, 6"),
    ],
)
def test_what_is_wrong_is_named(table, caplog, header, line, options, message):
    with pytest.raises(SystemExit):
        table(header, line)(*options)
    assert message in caplog.text


def test_a_csv_file_that_is_not_there_is_named(tmp_path, caplog):
    with pytest.raises(SystemExit):
        emoq.main(["data", "from-csv", "--csv", str(tmp_path / "none.csv")])
    assert "none.csv: no such CSV file" in caplog.text

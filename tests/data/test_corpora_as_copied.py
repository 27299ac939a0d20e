"""Corpora as people copy and save them: links, hidden files, ids, guesses."""

import dataclasses
import shutil

import numpy as np
import pytest
import soundfile

from emoq_plugin.data import corpora
from emoq_plugin.data.corpora.corpus import Clip, build, genders
from emoq_plugin.data.corpora.finding import find_clips

VOTES = "processedResults/tabulatedVotes.csv"


def find(name, directory, **options):
    return find_clips(corpora.load(name), directory, **options)


# --------------------------------------------------------------------- linked folders


@pytest.mark.parametrize("name", corpora.names())
@pytest.mark.parametrize("depth", [1, 2, 3])
def test_folders_on_another_disk_give_the_same_clips_without_endless_loops(
    name, depth, copy, tmp_path
):
    place = copy(name)
    expected = [(c.speaker, c.name, c.text, c.votes) for c in find(name, place)]
    disk = tmp_path / "disk"
    disk.mkdir()
    folders = [p for p in place.glob("/".join("*" * depth)) if p.is_dir()]
    for n, folder in enumerate(folders):
        shutil.move(folder, disk / str(n))
        folder.symlink_to(disk / str(n))
        (disk / str(n) / "up").symlink_to(place)
    found = find(name, place)
    assert [(c.speaker, c.name, c.text, c.votes) for c in found] == expected
    assert all(c.audio.is_file() for c in found)


@pytest.mark.parametrize("name", corpora.names())
def test_hidden_copies_of_audio_and_tables_change_nothing_and_are_counted(
    name, copy, caplog
):
    place = copy(name)
    expected = find(name, place)
    audio = (".wav", ".webm", ".avi", ".mp4")
    for path in [p for p in place.rglob("[!.]*.*") if p.is_file()]:
        (path.parent / f"._{path.name}").write_bytes(b"\0\5\x16\7")
    counted = sum(path.suffix in audio for path in place.rglob("._*"))
    caplog.clear()
    assert find(name, place) == expected
    assert f"{counted} hidden (" in caplog.text


# ----------------------------------------------------------- what is left out is said


def test_one_line_says_how_many_clips_are_used_and_what_is_left_out_and_why(
    copy, caplog
):
    place = copy("ravdess")
    shutil.copy(place / "Actor_01/03-01-01-01-01-01-01.wav", place / "my copy.wav")
    shutil.copytree(place / "Actor_02", place / "again" / "Actor_02")
    (place / "gone.wav").symlink_to("nowhere.wav")
    (place / "Actor_99.zip").touch()
    clips = find("ravdess", place)
    [line] = [r.getMessage() for r in caplog.records if "clips used" in r.getMessage()]
    assert len(clips) == 48 and line.startswith("RAVDESS: 48 of 57 clips used")
    assert "label 48, votes 0, text 48, gender 48" in line
    for reason in (
        "8 duplicate takes (",
        "1 songs or sound of films (",
        "1 audio files of other names or in no table (my copy.wav)",
        "1 links that lead nowhere, or no files (gone.wav)",
        "1 archives, which are not unpacked (Actor_99.zip)",
        "1 hidden (Actor_01/._03-01-05-01-01-01-01.wav)",
    ):
        assert reason in line


def test_where_no_clip_is_found_the_message_says_what_is_there(tmp_path):
    soundfile.write(tmp_path / "happy 1.wav", np.zeros(9), 16000)
    with pytest.raises(FileNotFoundError, match=r"1 audio files.*\(happy 1.wav\)"):
        find("ravdess", tmp_path)


def test_clips_without_votes_are_not_clips_without_majority(copy, caplog):
    place = copy("crema_d")
    table = place / VOTES
    lines = table.read_text().splitlines()
    table.write_text("\n".join(x for x in lines if "1019_IEO_ANG_HI" not in x))
    (place / "AudioWAV" / "1001_IEO_SAD_HI.wav").unlink()
    clips = find("crema_d", place)
    assert "1019_IEO_ANG_HI" not in {c.name for c in clips}
    assert "1 without votes in the table (" in caplog.text
    assert "1 without their audio file (" in caplog.text
    assert "1001_IEO_SAD_HI.wav" in caplog.text


# ------------------------------------------------------------------------- one to one


def test_two_recordings_of_one_id_are_refused_by_name_and_same_ones_are_reported(
    copy, caplog
):
    place = copy("enterface")
    folder = place / "enterface database/subject 2/anger/sentence 1"
    shutil.copy(folder / "s2_an_1.avi", folder / "s2-an-1.avi")
    assert len(find("enterface", place)) == 30
    assert "1 duplicate takes (" in caplog.text
    soundfile.write(folder / "x.wav", np.ones(99) / 2, 16000)
    (folder / "x.wav").rename(folder / "s2 an 1.wav")
    with pytest.raises(ValueError, match="s2.an.1.* and .*s2.an.1.* different record"):
        find("enterface", place)


def test_speakers_and_names_that_give_one_id_together_are_refused(tmp_path):
    audio = [tmp_path / f"{n}.wav" for n in (1, 2)]
    for n, path in enumerate(audio):
        soundfile.write(path, np.full(99, n / 2), 16000)
    clips = [Clip("b-c", audio[0], "a", "Angry"), Clip("c", audio[1], "a-b", "Angry")]
    corpus = dataclasses.replace(corpora.load("esd"), find=lambda directory: clips)
    with pytest.raises(ValueError, match="esda-b-c occurs twice, .*1.wav .*2.wav"):
        find_clips(corpus, tmp_path)


@pytest.mark.parametrize("speaker", ["-", "", "a b", "a/b"])
def test_what_cannot_be_an_id_is_refused(tmp_path, speaker):
    clips = [Clip("c", tmp_path / "1.wav", speaker, "Angry")]
    corpus = dataclasses.replace(corpora.load("esd"), find=lambda directory: clips)
    with pytest.raises(ValueError, match=f"1.wav: speaker '{speaker}' cannot be part"):
        find_clips(corpus, tmp_path)


def test_a_speaker_of_several_genders_has_none_and_a_dash_is_no_gender(
    tmp_path, caplog
):
    said = {
        "a": ("Female", "f"),
        "b": ("male", "female"),
        "c": ("-", "M"),
        "d": ("-",),
    }
    clips = []
    for speaker, words in said.items():
        for n, gender in enumerate(words):
            path = tmp_path / f"{speaker}{n}.wav"
            path.touch()
            clips.append(Clip(path.stem, path, speaker, "Sad", gender=gender, text="-"))
    corpus = dataclasses.replace(corpora.load("esd"), find=lambda directory: clips)
    found = find_clips(corpus, tmp_path)
    assert genders(corpus, found) == {"esda": "f", "esdc": "m"}
    assert "1 speakers have several genders, none is taken: esdb" in caplog.text
    assert {c.text for c in found} == {""}


def test_enterface_subjects_are_found_however_their_folders_are_divided(copy):
    place = copy("enterface")
    expected = {(c.speaker, c.name) for c in find("enterface", place)}
    for n, mark in ((1, "-"), (2, "_"), (3, ""), (6, "  ")):
        folder = place / f"enterface database/subject {n}"
        folder.rename(folder.with_name(f"Subject{mark}{n}"))
    assert {(c.speaker, c.name) for c in find("enterface", place)} == expected


# ---------------------------------------------------------------- guesses are refused


@pytest.mark.parametrize(
    "name, folder, message",
    [
        (
            "enterface",
            "enterface database/subject 1/anger/fear",
            "emotions, anger, fear",
        ),
        ("enterface", "enterface database/subject 1/subject 2/fear", "subjects, 1, 2"),
        ("esd", "0011/Angry/Sad", "emotions, Angry, Sad"),
    ],
)
def test_the_first_of_several_folders_is_not_the_label(copy, name, folder, message):
    place = copy(name)
    (place / folder).mkdir(parents=True)
    (place / folder / "0011_000001.wav").touch()
    with pytest.raises(ValueError, match=f"0011_000001.wav: .*several {message}"):
        find(name, place)


def test_a_dash_is_no_label(copy, caplog):
    table = copy("nemo") / "data.tsv"
    table.write_text(table.read_text().replace("\tfear\t", "\t-\t", 1))
    clips = find("nemo", table.parent)
    data = build(corpora.load("nemo"), clips, class_set="all")
    assert len(clips) == 36 and len(data.utterances) == 35
    assert "no label 1" in caplog.text


@pytest.mark.parametrize("part", ["Dev", "", "held out", "Test 1"])
def test_msp_podcast_refuses_a_part_that_it_does_not_know(copy, part):
    table = copy("msp_podcast") / "Labels" / "labels_consensus.csv"
    table.write_text(table.read_text().replace(",Train\n", f",{part}\n", 1))
    with pytest.raises(
        ValueError, match=f"consensus.csv:2: Split_Set '{part.lower()}'"
    ):
        find("msp_podcast", table.parents[1])


@pytest.mark.parametrize(
    "detailed, message",
    [
        ('[{"a": 1}]', "found [{'a': 1}] as '', expected an object"),
        ('{"a.wav": []}', "found [] as 'a.wav', expected an object"),
        ('{"a.wav": {"W1": 3}}', "a.wav: found 3 as 'W1', expected an object"),
        ('{"a.wav": {"W1": {"EmoAct": 3}}}', "a.wav: W1: no EmoClass_Major"),
    ],
)
def test_msp_podcast_votes_in_json_of_another_form_are_reported(
    copy, caplog, detailed, message
):
    labels = copy("msp_podcast") / "Labels"
    (labels / "labels_detailed.csv").unlink()
    (labels / "labels_detailed.json").write_text(detailed)
    assert not any(c.votes for c in find("msp_podcast", labels.parent))
    assert "no votes are read: " in caplog.text and message in caplog.text


def test_msp_podcast_reports_ratings_that_it_counts_as_other(copy, caplog):
    table = copy("msp_podcast") / "Labels" / "labels_detailed.csv"
    table.write_text(table.read_text().replace("; Angry;", "; Angyr;", 1))
    find("msp_podcast", table.parents[1])
    assert "counted as other: 1 ratings by no known emotion (Angyr)" in caplog.text


@pytest.mark.parametrize(
    "old, new, message",
    [
        ("[1.0000 - 2.0000]", "[1.0000 2.0000]", r"impro01.txt:\d+: '\[1.0000 2"),
        ("C-E1:\tAnger", "C-X1:\tAnger", r"impro01.txt:\d+: 'C-X1"),
        ("impro01_F001\t", "impro01_F000\t", r"impro01_F000' occurs twice"),
    ],
)
def test_iemocap_lines_of_another_form_are_refused(copy, old, new, message):
    table = copy("iemocap") / "Session1/dialog/EmoEvaluation/Ses01F_impro01.txt"
    assert old in table.read_text()
    table.write_text(table.read_text().replace(old, new, 1))
    with pytest.raises(ValueError, match=message):
        find("iemocap", table.parents[3])


def test_meld_names_that_are_spelled_in_two_ways_are_reported(copy, caplog):
    place = copy("meld")
    table = place / "dev_sent_emo.csv"
    text = table.read_bytes().replace(b",Dr. Franzblau,", b",Dr.Franzblau,", 1)
    table.write_bytes(text.replace(b",Monica,", b",#ALL#,", 1))
    clips = find("meld", place)
    assert "['Dr. Franzblau', 'Dr.Franzblau'] are one speaker" in caplog.text
    assert "22 lines that several people speak" in caplog.text
    assert "ALL" not in {c.speaker for c in clips}


@pytest.mark.parametrize(
    "name, table, delimiter",
    [("nemo", "data.tsv", "\t"), ("emns", "metadata.csv", "|")],
)
def test_a_text_that_begins_with_a_quote_swallows_no_row(copy, name, table, delimiter):
    path = copy(name) / table
    expected = find(name, path.parent)
    header, *lines = path.read_text().splitlines()
    at = header.split(delimiter).index("raw_text" if name == "nemo" else "utterance")
    for n in (0, 7):
        values = lines[n].split(delimiter)
        values[at] = '"' + values[at]
        lines[n] = delimiter.join(values)
    path.write_text("\n".join([header, *lines]))
    found = find(name, path.parent)
    assert [c.audio for c in found] == [c.audio for c in expected]
    assert sum(c.text.startswith('"') for c in found) >= 1

"""Tables of clips as others write them: nothing lost, mixed or guessed in silence."""

import logging
import re

import numpy as np
import pytest
import soundfile

from emoq_plugin.bin import main as emoq
from emoq_plugin.data.clip_table import PARTS, case_twins
from emoq_plugin.data.directory import DataDirectory, read_emotions
from emoq_plugin.data.folds import read_folds
from emoq_plugin.recipe.stages.data_from_csv import COLUMNS, renaming

SPEAKERS = ("anna", "ben", "cleo", "dan")
EMOTIONS = ("angry", "sad")


@pytest.fixture
def run(tmp_path, monkeypatch, caplog):
    """Return a function that writes a table and prepares it; the audio is there."""
    monkeypatch.chdir(tmp_path)
    caplog.set_level(logging.INFO)
    tone = 0.1 * np.sin(np.arange(8000) / 5)
    for speaker in SPEAKERS:
        for emotion in EMOTIONS:
            soundfile.write(f"{speaker}_{emotion}.wav", tone, 16000)

    def prepare(lines, *options, name="clips.csv", encoding="utf-8"):
        text = lines if isinstance(lines, str) else "".join(f"{x}\n" for x in lines)
        (tmp_path / name).write_bytes(text.encode(encoding))
        emoq.main(["data", "from-csv", "--csv", str(tmp_path / name), *options])
        return DataDirectory.read("data/all", read_emotions("data/emotions"))

    return prepare


@pytest.fixture
def refusal(run, caplog):
    """Return a function that must fail; it gives the message."""

    def call(*arguments, **options):
        with pytest.raises(SystemExit) as caught:
            run(*arguments, **options)
        assert caught.value.code == 1
        return caplog.records[-1].getMessage()

    return call


def lines(header="file,speaker,emotion", row="{s}_{e}.wav,{s},{e}", **values):
    """Return a row for every clip; callables in `values` see speaker and emotion."""
    rows = [
        row.format(s=s, e=e, **{name: give(s, e) for name, give in values.items()})
        for s in SPEAKERS
        for e in EMOTIONS
    ]
    return [header, *rows]


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("mark", [",", ";", "\t", "|"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
@pytest.mark.parametrize("name", ["clips.csv", "clips.tsv"])
def test_every_dialect_gives_the_same(run, mark, encoding, name, end):
    text = end.join(lines("File,Speaker,EMOTION")).replace(",", mark) + end
    data = run(text, name=name, encoding=encoding)
    assert len(data.utterances) == 8 and set(data.emotion.values()) == {*EMOTIONS}


def test_the_log_says_what_was_found_used_and_left_out(run, caplog):
    table = lines("File;speaker;emotion;age", "{s}_{e}.wav;{s};{e};30")
    table += ["gone.wav;anna;sad;30", "gone_too.wav;anna;sad;30"]
    table += ["bored.flac;anna;bored;30"]
    soundfile.write("bored.flac", np.full(8000, 0.1), 16000)
    data = run(table, "--classes", *EMOTIONS)
    assert len(data.utterances) == 8
    said = caplog.text
    assert "clips.csv: 11 rows divided by semicolons, 11 clips" in said
    assert "columns used: file, speaker, emotion; passed over: age" in said
    assert "clips.csv: 8 of 11 clips used" in said
    assert re.search("left out: .*2 without their audio file .*gone.wav, ...", said)
    assert re.search("left out: .*1 of 'bored', which is no class .*bored.flac", said)
    assert "'File' is read as 'file'" in caplog.text


def test_a_workbook_is_named(refusal, tmp_path):
    for content in ("PK\x03\x04", "\xd0\xcf\x11\xe0"):
        message = refusal(content, name="clips.xlsx", encoding="latin-1")
        assert "clips.xlsx" in message and "Excel" in message and "CSV" in message


def test_another_encoding_is_declared_not_guessed(run, refusal):
    table = lines("file,speaker,emotion,text", "{s}_{e}.wav,{s},{e},schön")
    message = refusal(table, encoding="cp1252")
    assert "clips.csv:2: not UTF-8" in message and "--encoding cp1252" in message
    data = run(table, "--encoding", "cp1252", encoding="cp1252")
    assert set(data.text.values()) == {"schön"}


RATINGS = [
    "file,speaker,emotion",
    *(f"anna_sad.wav,anna,{e}" for e in ("sad", "sad", "angry")),
    *(f"ben_sad.wav,ben,{e}" for e in ("sad", "angry")),
    *(f"ben_angry.wav,ben,{e}" for e in ("angry", "angry")),
    "./ben_angry.wav,ben,furious",
]


def test_rows_of_raters_are_votes_when_asked(run):
    few = ("--n_valid_speakers", "0")
    count = ("--one_row_per", "rater", "--map", "furious=angry", *few)
    data = run(RATINGS, *count)
    ids = {u.removeprefix("clips"): u for u in data.utterances}
    assert set(ids) == {"anna-anna_sad", "ben-ben_angry"}  # a tie is left out
    assert data.votes[ids["anna-anna_sad"]].tolist() == [1, 2]
    assert data.votes[ids["ben-ben_angry"]].tolist() == [3, 0]
    assert data.emotion[ids["anna-anna_sad"]] == "sad"
    kept = run(RATINGS, *count, "--no_majority", "keep")
    assert kept.votes["clipsben-ben_sad"].tolist() == [1, 1]
    assert "clipsben-ben_sad" not in kept.emotion


def test_rows_of_raters_are_refused_unless_asked(refusal, tmp_path):
    message = refusal(RATINGS)
    assert "clips.csv:3: file " in message and "is in line 2 too" in message
    assert "--one_row_per rater" in message
    for again in ("", "./", f"{tmp_path}/"):
        same = refusal([*lines(), again + lines()[1]])
        assert "clips.csv:10: " in same and "remove one" in same


def test_raters_differ_in_nothing_but_the_emotion(refusal):
    table = [f"{line},{n}" for n, line in enumerate(RATINGS[1:])]
    message = refusal(["file,speaker,emotion,gender", *table], "--one_row_per", "rater")
    assert "clips.csv:3: gender '1'" in message and "'0' in line 2" in message
    votes = [RATINGS[0] + ",votes_sad", *(f"{r},1" for r in RATINGS[1:])]
    assert "votes_<emotion>" in refusal(votes, "--one_row_per", "rater")


@pytest.mark.parametrize("name", [n for names in PARTS.values() for n in names])
def test_usual_part_names_are_known(run, name):
    of_name = next(part for part, names in PARTS.items() if name in names)
    other = {"train": "valid", "valid": "train"}[of_name]
    part = {"anna": name.upper(), "ben": other, "cleo": "Test", "dan": "eval-2"}
    run(lines("file,speaker,emotion,part", "{s}_{e}.wav,{s},{e},{p}",
              p=lambda s, e: part[s]))  # fmt: skip
    first, second = read_folds("data/folds")
    who = {part: {u.split("-")[0] for u in getattr(second, part)} for part in PARTS}
    assert who == {of_name: {"clipsanna"}, other: {"clipsben"}}
    assert {u.split("-")[0] for u in first.test + second.test} == {
        "clipscleo",
        "clipsdan",
    }


@pytest.mark.parametrize("name", ["3", "holdout", "devtest", "fold1", "latest"])
def test_other_part_names_are_refused(refusal, name):
    part = {"anna": "train", "ben": "test"}
    message = refusal(
        lines("file,speaker,emotion,part", "{s}_{e}.wav,{s},{e},{p}",
              p=lambda s, e: part.get(s, name))  # fmt: skip
    )
    assert f"clips.csv:6: part '{name}', expected one of train" in message


@pytest.mark.parametrize("column", ["part", "group"])
def test_a_part_or_group_that_is_empty_here_and_there_is_refused(refusal, column):
    filled = {"anna": "train", "ben": "test"}
    message = refusal(
        lines(f"file,speaker,emotion,{column}", "{s}_{e}.wav,{s},{e},{p}",
              p=lambda s, e: filled.get(s, ""))  # fmt: skip
    )
    assert f"clips.csv:6: column {column} is empty here" in message


def test_part_and_group_are_never_mixed(run, caplog):
    group = {"anna": "a", "ben": "b", "cleo": "c", "dan": "c"}
    header, row = "file,speaker,emotion,part,group", "{s}_{e}.wav,{s},{e},{p},{g}"
    run(lines(header, row, p=lambda s, e: "", g=lambda s, e: group[s]))
    assert len(read_folds("data/folds")) == 3
    assert "folds by groups" in caplog.text and "passed over: part" in caplog.text
    part = {"a": "train", "b": "dev", "c": "test"}
    run(lines(header, row, p=lambda s, e: part[group[s]], g=lambda s, e: group[s]))
    (fold,) = read_folds("data/folds")
    assert len(fold.test) == 4 and len(fold.valid) == len(fold.train) == 2
    assert "folds by parts" in caplog.text and "passed over: group" in caplog.text


def test_a_split_that_leaves_nothing_to_learn_from_is_refused(refusal):
    message = refusal(
        lines("file,speaker,emotion,part", "{s}_{e}.wav,{s},{e},{p}",
              p=lambda s, e: {"sad": "test", "angry": "train"}[e])  # fmt: skip
    )
    assert "fold 1 has no clip to learn from" in message


@pytest.mark.parametrize("label", ["very sad", "sad/down", "a=b", "-"])
def test_labels_that_later_stages_refuse_can_be_mapped(run, refusal, label):
    odd = lines(row="{s}_{e}.wav,{s},{x}", x=lambda s, e: {"sad": label}.get(e, e))
    if label == "-":  # as tables write nothing
        assert "clips.csv:3: neither an emotion nor votes" in refusal(odd)
        return
    message = refusal(odd)
    assert f"label '{label}', expected one emotion name" in message
    option = re.search("'(--map=.*)<class>'", message)[1]
    data = run(odd, f"{option}low")
    assert sorted(set(data.emotion.values())) == ["angry", "low"]
    calm = [*odd, "anna_angry.wav,anna,calm"]
    calm[1:3] = ["anna_angry.wav,anna,angry", "anna_sad.wav,anna,calm"]
    assert run(calm[:-1], "--classes", "angry", "calm").emotions == ["angry", "calm"]


def test_labels_that_differ_only_in_case_are_refused_with_the_option(run, refusal):
    odd = lines(
        row="{s}_{e}.wav,{s},{x}", x=lambda s, e: e.title() if s == "ben" else e
    )
    message = refusal(odd)
    assert "'Angry' (1 clips), 'angry' (3 clips) differ only in case" in message
    data = run(odd, "--map", "Angry=angry", "Sad=sad")
    assert data.emotions == ["angry", "sad"]
    assert case_twins(["e\u0301tat", "\u00e9tat"]) and not case_twins(["a", "b"])


@pytest.mark.parametrize("pair", ["excited", "=happy", "excited="])
def test_a_map_that_is_no_pair_is_refused(refusal, pair):
    assert f"--map '{pair}', expected LABEL=CLASS" in refusal(lines(), "--map", pair)
    with pytest.raises(ValueError, match="'a' becomes both 'b' and 'c'"):
        renaming(["a=b", "a=c"])


@pytest.mark.parametrize("one, other", [("a b.wav", "a_b.wav"), ("a.wav", "a.flac")])
def test_two_files_never_get_one_id(run, refusal, one, other):
    clips = [f"{one},anna,sad", f"{other},anna,sad"]
    message = refusal(lines() + clips)
    assert "clips.csv:11: '" in message and other in message
    assert one in message and "line 10" in message and "column 'id'" in message
    named = ["file,speaker,emotion,id", *(f"{x}," for x in lines()[1:])]
    named += [f"{clip},{n}" for n, clip in enumerate(clips)]
    for file in (one, other):
        soundfile.write(file, np.full(8000, 0.1), 16000)
    assert {"clipsanna-0", "clipsanna-1"} < set(run(named).utterances)


def test_speaker_and_name_together_never_make_one_id(refusal):
    rows = ["c.wav,a-b,sad,", "x.wav,a,sad,b-c"]
    table = ["file,speaker,emotion,id", *(f"{x}," for x in lines()[1:]), *rows]
    assert "has the id 'clipsa-b-c', as" in refusal(table)


def test_two_speakers_never_become_one(run, refusal):
    message = refusal([*lines(), "a.wav,Dr A,sad", "b.wav,Dr_A,sad"])
    assert "clips.csv:11: speaker 'Dr_A' and 'Dr A' of line 10" in message
    sexes = {"angry": "F", "sad": "female"}
    table = lines("file,speaker,emotion,gender", "{s}_{e}.wav,{s},{e},{g}",
                  g=lambda s, e: sexes[e])  # fmt: skip
    assert len(run(table).utterances) == 8
    gender = lines("file,speaker,emotion,gender", "{s}_{e}.wav,{s},{e},{e}")
    assert "clips.csv:3: gender 'sad' of speaker 'anna'" in refusal(gender)


def test_speakers_that_differ_only_in_case_are_reported(run, caplog):
    odd = lines(row="{s}_{e}.wav,{x},{e}", x=lambda s, e: {"ben": "Anna"}.get(s, s))
    assert len(set(run(odd).speaker.values())) == 4
    assert "speakers Anna, anna differ only in case: they count as 2" in caplog.text


RATED = "file,speaker,emotion,Arousal,valence"
SCALE = ("--rating_scale", "1", "7")


def test_ratings_are_read_on_their_scale_and_written_with_it(run):
    table = lines(RATED, "{s}_{e}.wav,{s},{e},{a},{v}",
                  a=lambda s, e: "6.5" if e == "angry" else "2",
                  v=lambda s, e: "-" if s == "ben" else "1")  # fmt: skip
    data = run(table, *SCALE)
    assert data.rating_scale == (1, 7) and len(data.ratings) == len(data.utterances)
    by_clip = {u.split("-")[-1]: row for u, row in data.ratings.items()}
    np.testing.assert_array_equal(by_clip["anna_angry"], [6.5, 1, np.nan])
    np.testing.assert_array_equal(by_clip["ben_sad"], [2, np.nan, np.nan])


def test_ratings_of_raters_are_averaged(run):
    table = [RATED]
    for n, e in enumerate(EMOTIONS):
        table += [f"{s}_{e}.wav,{s},{e},{a},{n + 1}" for s in SPEAKERS for a in (2, 5)]
    data = run(table, "--one_row_per", "rater", *SCALE)
    for u, row in data.ratings.items():
        valence = 1 if u.endswith("angry") else 2
        np.testing.assert_array_equal(row, [3.5, valence, np.nan])


@pytest.mark.parametrize(
    "value, why",
    [
        ("0.5", "arousal 0.5 is outside the scale, expected 1 to 7"),
        ("7.5", "arousal 7.5 is outside the scale"),
        ("inf", "arousal inf is outside the scale"),
        ("high", "arousal 'high', expected a number"),
    ],
)
def test_a_rating_that_is_none_is_refused_with_its_line(refusal, value, why):
    table = lines(RATED, "{s}_{e}.wav,{s},{e},{a},4",
                  a=lambda s, e: value if (s, e) == ("anna", "sad") else 3)  # fmt: skip
    message = refusal(table, *SCALE)
    assert "clips.csv:3: " in message and why in message


def test_ratings_without_a_scale_are_passed_over_and_that_is_said(run, caplog):
    data = run(lines(RATED, "{s}_{e}.wav,{s},{e},9,high"))
    assert not data.ratings and data.rating_scale is None
    assert "ratings of arousal, valence are passed over" in caplog.text


@pytest.mark.parametrize("ends", [("1",), ("5", "1"), ("1", "nan"), ("1", "3", "5")])
def test_what_is_no_scale_is_refused(refusal, ends):
    message = refusal(lines(), "--rating_scale", *ends)
    assert "--rating_scale: rating scale '" in message and "two ends" in message


def test_genders_that_are_not_mixed_are_reported(run, caplog):
    table = lines("file,speaker,emotion,gender", "{s}_{e}.wav,{s},{e},{g}",
                  g=lambda s, e: "" if s == "dan" else "f")  # fmt: skip
    run(table)
    assert "genders are not mixed in the folds, as 1 of 4 speakers have none: " in (
        caplog.text
    )


def test_folds_are_counted_of_speakers_that_are_used(run, refusal):
    few = [*lines(), "gone.wav,eve,sad"]
    run(few)
    assert len(read_folds("data/folds")) == 4
    group = lines("file,speaker,emotion,group", "{s}_{e}.wav,{s},{e},{s}")
    assert "--n_folds 2 counts folds of speakers" in refusal(group, "--n_folds", "2")


def test_names_too_long_for_files_are_refused_with_the_way_out(run, refusal, tmp_path):
    folders = "/".join(["folder" * 6] * 7)
    (tmp_path / folders).mkdir(parents=True)
    soundfile.write(f"{folders}/a.wav", np.full(8000, 0.1), 16000)
    long = f"{folders}/a.wav,anna,sad"
    message = refusal([*lines(), long])
    assert "clips.csv:10: id 'clipsanna-folder" in message
    assert "expected at most" in message and "column 'id'" in message
    named = ["file,speaker,emotion,id", *(f"{x}," for x in lines()[1:]), f"{long},a"]
    assert "clipsanna-a" in run(named).utterances


@pytest.mark.parametrize("name", ["a b", "a/b"])
def test_an_id_that_would_be_changed_is_refused(refusal, name):
    table = ["file,speaker,emotion,id", f"anna_sad.wav,anna,sad,{name}"]
    assert f"clips.csv:2: id '{name}', expected" in refusal(table)


@pytest.mark.parametrize(
    "table, message",
    [
        (["file,File,speaker,emotion", "a,b,c,d"], "column 'file' occurs twice"),
        (["file,speaker,label", "a,b,c"], "clips.csv:1: no column emotion"),
        (["file,speaker,emotion", "a.wav,b,c,d"], "clips.csv:2: 4 values"),
        (
            ["sep=;", "file;speaker;emotion", "a.wav;b;c"],
            "clips.csv:1: 'sep=;', a note",
        ),
        ([f"file,{'x' * 200_000},speaker,emotion"], "clips.csv:1: field larger"),
        (["file,speaker,emotion"], "clips.csv: no row below the header"),
        ([""], "clips.csv:1: no column emotion"),
        (["file;speaker;votes_sad", "a.wav;b;0,5"], "clips.csv:2: column 'votes_sad'"),
        (lines(row="{s}_{e}.wav,{s},sad"), "clips.csv: one class, sad"),
    ],
)
def test_what_two_columns_or_none_could_fill_is_refused(refusal, table, message):
    assert message in refusal(table)


def test_the_help_names_what_is_read():
    for word in ("file", "speaker", "emotion", "group", "part", "id", "votes_"):
        assert word in COLUMNS

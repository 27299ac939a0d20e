"""What every corpus shares: classes, counts, folds, faults of a distribution."""

import logging
import shutil
import zipfile

import numpy as np
import pytest

from emoq_plugin.bin import prepare_corpus
from emoq_plugin.data import corpora
from emoq_plugin.data.directory import DataDirectory, read_emotions
from emoq_plugin.data.folds import check_speaker_disjoint, read_folds

# Of the miniatures: options, clips of each class (in class order) with these options.
EXPECTED = {
    "crema_d": ((), {"angry": 5, "happy": 4, "neutral": 5, "sad": 6}),
    "emodb": (
        ("--n_folds", "3", "--n_valid_speakers", "1"),
        {"angry": 6, "happy": 6, "neutral": 6, "sad": 6},
    ),
    "emns": ((), {"angry": 11, "happy": 12, "neutral": 12, "sad": 12}),
    "enterface": ((), {"angry": 5, "happy": 5, "sad": 5}),
    "esd": (
        ("--n_folds", "3", "--n_valid_speakers", "1"),
        {"angry": 3, "happy": 3, "neutral": 3, "sad": 3},
    ),
    "iemocap": ((), {"angry": 6, "happy": 12, "neutral": 6, "sad": 5}),
    "jl_corpus": ((), {"angry": 8, "happy": 8, "neutral": 8, "sad": 8}),
    "meld": ((), {"angry": 15, "happy": 15, "neutral": 15, "sad": 14}),
    "msp_podcast": ((), {"angry": 5, "happy": 5, "neutral": 5, "sad": 5}),
    "nemo": ((), {"angry": 6, "happy": 6, "neutral": 6, "sad": 6}),
    "ravdess": ((), {"angry": 6, "happy": 6, "neutral": 6, "sad": 6}),
}


@pytest.fixture
def prepare(tmp_path, miniature, ffmpeg, monkeypatch, caplog):
    """Prepare a miniature and give data directory, output directory and messages."""
    monkeypatch.setenv("PATH", ffmpeg)
    monkeypatch.chdir(tmp_path)
    caplog.set_level(logging.INFO)

    def run(corpus, *options, place=None):
        caplog.clear()
        arguments = [
            "--corpus",
            corpus,
            "--corpus_dir",
            str(place or miniature(corpus)),
        ]
        prepare_corpus.main([*arguments, *options])
        emotions = read_emotions("data/emotions")
        data = DataDirectory.read("data/all", emotions)
        data.validate(emotions, allow_pipe=True)
        return data, tmp_path / "data", caplog.text

    return run


def test_every_corpus_has_an_expectation_here():
    assert sorted(EXPECTED) == corpora.names()


@pytest.mark.parametrize("corpus", EXPECTED)
def test_classes_speakers_and_folds_come_out_of_the_official_tree(prepare, corpus):
    options, counts = EXPECTED[corpus]
    data, output, said = prepare(corpus, *options)
    assert read_emotions(output / "emotions") == list(counts)
    found = list(data.emotion.values())
    assert {emotion: found.count(emotion) for emotion in counts} == counts
    assert all(u.startswith(data.speaker[u] + "-") for u in data.utterances)
    folds = read_folds(output / "folds")
    for fold in folds:
        check_speaker_disjoint(fold, data.speaker)
        assert {data.emotion[u] for u in fold.train} == set(counts)
    if corpus != "msp_podcast":  # its folds are one for each official test part
        tested = sorted(u for fold in folds for u in fold.test)
        assert tested == data.utterances
    assert "differs from what is published" in said  # it is a miniature


@pytest.mark.parametrize("corpus", EXPECTED)
def test_all_class_sets_name_distinct_known_labels(corpus):
    described = corpora.load(corpus)
    assert described.name == corpus
    for class_set in described.labels:
        assert len(described.classes(class_set)) >= 3
    if "paper4" in described.labels:  # one order, so that corpora can be compared
        assert described.classes("paper4") == ["angry", "happy", "neutral", "sad"]
    assert not set(described.others) & set().union(*described.labels.values())


def test_counts_per_speaker_and_class_are_written(prepare):
    _, output, _ = prepare("iemocap", "--no_majority", "keep")
    lines = (output / "all" / "counts.tsv").read_text().splitlines()
    assert lines[0].split("\t")[1:] == [
        "angry",
        "happy",
        "neutral",
        "sad",
        "no_majority",
    ]
    assert lines[1].split("\t") == ["iemocapSes01F", "1", "2", "1", "1", "0"]


def test_a_second_call_does_nothing_and_another_class_set_does(prepare):
    prepare("ravdess")
    _, _, said = prepare("ravdess")
    assert "nothing to do" in said
    data, _, said = prepare("ravdess", "--classes", "all")
    assert "nothing to do" not in said and len(data.utterances) == 48


def test_published_totals_that_agree_are_not_mentioned():
    published = corpora.load("ravdess").published
    clips = [
        corpora.corpus.Clip(f"{n}{label}", None, str(n % 24), label)
        for label, count in published.labels.items()
        for n in range(count)
    ]
    assert published.differences(clips) == []
    assert published.differences(clips[1:]) == [
        "clips 1439 (1440 published)",
        "05 191 (192 published)",
    ]


def test_an_archive_is_unpacked_once(prepare, miniature, tmp_path):
    source = miniature("ravdess")
    archive = tmp_path / "Audio_Speech_Actors_01-24.zip"
    with zipfile.ZipFile(archive, "w") as stream:
        for path in sorted(source.rglob("*.wav")):
            stream.write(path, path.relative_to(source))
    data, _, _ = prepare("ravdess", place=archive)
    assert len(data.utterances) == 24
    _, _, said = prepare("ravdess", place=archive)
    assert "unpacking" not in said and "nothing to do" in said


def test_a_broken_archive_is_named(prepare, tmp_path, caplog):
    archive = tmp_path / "ravdess.zip"
    archive.write_bytes(b"half a download")
    with pytest.raises(SystemExit):
        prepare("ravdess", place=archive)
    assert "ravdess.zip" in caplog.text and "whole zip or tar" in caplog.text


@pytest.mark.parametrize(
    "corpus, options, message",
    [
        ("enterface", ("--classes", "paper4"), "paper3: angry happy sad"),
        ("ravdess", ("--language", "english"), "has no option --language"),
        ("esd", ("--language", "latin"), "expected one of: english mandarin both"),
        ("esd", (), "should be >= 2 and <= the number of speakers, 3"),
    ],
)
def test_an_option_that_does_not_fit_the_corpus_is_refused(
    prepare, caplog, corpus, options, message
):
    with pytest.raises(SystemExit):
        prepare(corpus, *options)
    assert message in caplog.text


def test_an_unknown_corpus_is_answered_with_the_known_ones(prepare, tmp_path, caplog):
    with pytest.raises(SystemExit):
        prepare("savee", place=tmp_path)
    assert "iemocap" in caplog.text and "docs/new_corpus.md" in caplog.text


@pytest.mark.parametrize("corpus", EXPECTED)
def test_an_empty_directory_is_answered_with_layout_and_source(
    prepare, tmp_path, caplog, corpus
):
    empty = tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(SystemExit):
        prepare(corpus, place=empty)
    assert "is expected as distributed" in caplog.text and "http" in caplog.text


def test_a_git_lfs_pointer_is_not_taken_for_audio(prepare, miniature, tmp_path, caplog):
    place = tmp_path / "crema"
    shutil.copytree(miniature("crema_d"), place)
    sha256 = "0" * 64
    pointer = f"version https://git-lfs.github.com/spec/v1\noid sha256:{sha256}\n"
    pointer += "size 9\n"
    (place / "AudioWAV" / "1019_IEO_ANG_HI.wav").write_text(pointer)
    with pytest.raises(SystemExit):
        prepare("crema_d", place=place)
    assert "1019_IEO_ANG_HI.wav" in caplog.text and "git lfs pull" in caplog.text


def test_films_without_ffmpeg_are_refused_with_what_to_do(
    prepare, caplog, monkeypatch, tmp_path
):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(SystemExit):
        prepare("meld")
    assert "ffmpeg, which is not on the PATH" in caplog.text


def test_votes_follow_the_label_map(prepare):
    data, _, _ = prepare("iemocap")
    emotions = read_emotions("data/emotions")
    # Two raters said Excited, one shared the vote with Other, which is no class.
    excited = next(u for u in data.utterances if u.endswith("Ses01F_impro01_F004"))
    assert data.emotion[excited] == "happy"
    np.testing.assert_allclose(data.votes[excited], [0, 2.5, 0, 0])
    assert data.targets([excited], emotions).tolist() == [[0, 1, 0, 0]]

"""EMO-DB: the official layout, agreement of listeners, the corpus where it is."""

import os
from collections import Counter
from pathlib import Path

import pytest

from emoq_plugin.data import corpora
from emoq_plugin.data.corpora.corpus import build, genders, make_folds
from emoq_plugin.data.corpora.finding import find_clips

SHARED = Path(__file__).resolve().parents[3] / "shared" / "data" / "emodb"
CORPUS = corpora.load("emodb")


def test_labels_speakers_and_agreement_come_from_the_official_layout(miniature):
    clips = find_clips(CORPUS, miniature("emodb"))
    data = build(CORPUS, clips, class_set="all")
    assert len(CORPUS.classes("all")) == 7 and len(data.utterances) == 42
    assert data.emotion["emodb03-03a01Wa"] == "angry"
    assert data.emotion["emodb03-03a01Ta"] == "sad"
    assert data.speaker["emodb03-03a01Wa"] == "emodb03"
    assert data.extra["utt2sentence"]["emodb03-03a01Wa"] == "a01"
    assert data.text["emodb03-03a01Wa"].startswith("Der Lappen liegt")
    # Decimal commas and blanks of ISO-8859-1; an agreement is no vote.
    assert set(data.extra["utt2agreement"].values()) == {"0.625"}
    assert data.votes == {}


@pytest.mark.parametrize("name", ["hello.wav", "04a01Wa.wav", "03a01Xa.wav"])
def test_a_file_not_named_as_in_the_corpus_is_refused(tmp_path, name):
    (tmp_path / "wav").mkdir()
    for file in ("03a01Wa.wav", name):
        (tmp_path / "wav" / file).touch()
    with pytest.raises(ValueError, match=rf"1 file\(s\) not named .* \['{name}'\]"):
        find_clips(CORPUS, tmp_path)


def test_the_published_totals_are_those_of_all_recordings():
    assert sum(CORPUS.published.labels.values()) == 535


def test_the_corpus_gives_five_speaker_disjoint_folds():
    place = Path(os.environ.get("EMODB") or SHARED)
    if not place.is_dir():
        pytest.skip(f"no EMO-DB: EMODB is not set and {SHARED} is missing")
    clips = find_clips(CORPUS, place)
    data = build(CORPUS, clips, class_set="paper4")
    counts = Counter(data.emotion.values())
    assert counts == {"angry": 127, "happy": 71, "neutral": 79, "sad": 62}
    agreement = {u: float(a) for u, a in data.extra["utt2agreement"].items()}
    assert agreement["emodb03-03a01Wa"] == 0.95
    assert all(0 <= a <= 1 for a in agreement.values())
    assert set(data.text) == set(data.utterances)  # every sentence is known
    gender = genders(CORPUS, clips)
    folds = make_folds(CORPUS, clips, data)
    assert len(folds) == 5
    for fold in folds:
        for part in (fold.test, fold.valid):
            speakers = {data.speaker[u] for u in part}
            assert sorted(gender[s] for s in speakers) == ["f", "m"]
            assert {data.emotion[u] for u in part} == set(CORPUS.classes("paper4"))

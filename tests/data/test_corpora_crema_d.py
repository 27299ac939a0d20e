"""CREMA-D: the real vote tables, intended and perceived labels."""

import os
from collections import Counter
from pathlib import Path

import pytest

from emoq_plugin.data import corpora
from emoq_plugin.data.corpora.corpus import build, make_folds
from emoq_plugin.data.corpora.crema_d import perceived, read_voice_votes
from emoq_plugin.data.corpora.finding import find_clips

SHARED = Path(__file__).resolve().parents[3] / "shared" / "data" / "crema_d_votes"


@pytest.fixture(scope="module")
def votes():
    place = Path(os.environ.get("CREMA_D_VOTES") or SHARED)
    if not place.exists():
        pytest.skip(f"no CREMA-D votes: CREMA_D_VOTES is not set, {SHARED} is missing")
    return read_voice_votes(place)


def test_the_real_table_has_the_published_clips_and_majorities(votes):
    heard = {clip: perceived(counts) for clip, counts in votes.items()}
    assert len(votes) == 7442
    assert sum(bool(code) for code in heard.values()) == 6798
    assert Counter(heard.values())["NEU"] == 3897
    assert len({clip[:4] for clip in votes}) == 91


def test_what_was_meant_is_not_what_was_heard(votes):
    meant = Counter(clip.split("_")[2] for clip in votes)
    assert meant == Counter(NEU=1087, ANG=1271, DIS=1271, FEA=1271, HAP=1271, SAD=1271)
    agree = sum(perceived(v) == clip.split("_")[2] for clip, v in votes.items())
    assert agree == 3099


def test_the_five_speaker_ranges_are_the_folds(votes, tmp_path):
    audio = tmp_path / "AudioWAV"
    audio.mkdir()
    for clip in votes:
        (audio / f"{clip}.wav").touch()
    corpus = corpora.load("crema_d")
    place = os.environ.get("CREMA_D_VOTES") or str(SHARED)
    clips = find_clips(corpus, tmp_path, vote_table=place)
    assert corpus.published.differences(clips) == []
    data = build(corpus, clips, class_set="all")
    assert len(data.utterances) == 6798 == len(data.votes)
    kept = build(corpus, clips, class_set="all", no_majority="keep")
    assert len(kept.utterances) == 7442 and len(kept.emotion) == 6798
    folds = make_folds(corpus, clips, data)
    ranges = [{int(data.speaker[u][-4:]) for u in fold.test} for fold in folds]
    assert [(min(r), max(r)) for r in ranges] == [
        (1001, 1018),
        (1019, 1036),
        (1037, 1054),
        (1055, 1072),
        (1073, 1091),
    ]


def test_soft_labels_come_from_the_voice_alone(miniature):
    corpus = corpora.load("crema_d")
    clips = {c.name: c for c in find_clips(corpus, miniature("crema_d"))}
    # Rows of face and both are in the table with other counts.
    angry = clips["1019_IEO_ANG_HI"]
    assert angry.votes["ANG"] == 8 and angry.votes["NEU"] == 2
    assert clips["1001_IEO_HAP_HI"].label == ""  # a tie
    assert clips["1001_IEO_ANG_HI"].gender == "f"


def test_intended_labels_have_no_votes(miniature):
    corpus = corpora.load("crema_d")
    clips = find_clips(corpus, miniature("crema_d"), labels="intended")
    data = build(corpus, clips, class_set="all")
    assert data.votes == {}
    assert data.emotion["cremad1001-1001_IEO_HAP_HI"] == "happy"

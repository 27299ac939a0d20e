"""Odd cases of single corpora, as seen in distributed copies."""

import pytest

from emoq_plugin.data import corpora
from emoq_plugin.data.corpora.corpus import build, make_folds
from emoq_plugin.data.corpora.finding import find_clips


def clips_of(name, directory, **options):
    return {c.name: c for c in find_clips(corpora.load(name), directory, **options)}


def replace(path, old, new):
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


def test_esd_reads_both_releases_and_takes_a_duplicate_once(miniature, caplog):
    clips = clips_of("esd", miniature("esd"))
    assert {c.speaker for c in clips.values()} == {"0011", "0012", "0013"}
    assert "1 duplicate takes" in caplog.text
    assert clips["0013_000001"].text == "The nine the eggs."  # UTF-16 table
    mandarin = clips_of("esd", miniature("esd"), language="mandarin")
    assert {c.speaker for c in mandarin.values()} == {"0001"}


def test_iemocap_takes_external_raters_unless_chosen_otherwise(miniature, caplog):
    clips = clips_of("iemocap", miniature("iemocap"))
    assert "1 without their audio file" in caplog.text
    turn = "Ses01F_impro01_M000"
    assert clips[turn].votes == {"ang": 2.5, "oth": 0.5}
    assert clips[turn].speaker == "Ses01M" and clips[turn].group == "Ses01"
    assert clips[turn].text == "Excuse me."
    everyone = clips_of("iemocap", miniature("iemocap"), raters="all")
    assert everyone[turn].votes == {"ang": 2.5, "oth": 0.5, "sur": 1.0}


def test_iemocap_ratings_are_read_in_its_order_and_odd_ones_reported(copy, caplog):
    place = copy("iemocap")
    table = place / "Session1/dialog/EmoEvaluation/Ses01F_impro01.txt"
    text = table.read_text().replace("[2.5000, 2.5000, 2.5000]", "[1.5, 4.0, 2.0]", 1)
    table.write_text(text.replace("[2.5000, 2.5000, 2.5000]", "[5.5, 3.0]", 1))
    found = {c.name: c.ratings for c in clips_of("iemocap", place).values()}
    first = {"arousal": 4.0, "valence": 1.5, "dominance": 2.0}
    assert found["Ses01F_impro01_F000"] == first
    assert found["Ses01F_impro01_M000"] == {"arousal": 3.0}
    assert found["Ses01F_impro01_F001"] == dict.fromkeys(first, 2.5)
    assert "valence 5.5 is outside the scale, expected 1 to 5" in caplog.text
    assert f"{table.name}:10: " in caplog.text


def test_msp_podcast_ratings_are_read_and_odd_ones_reported(copy, caplog):
    place = copy("msp_podcast")
    table = place / "Labels/labels_consensus.csv"
    table.write_text(table.read_text().replace("4.2,3.1,4.4", "7.2,-,1", 1))
    found = clips_of("msp_podcast", place)
    assert found.pop("MSP-PODCAST_0000_0000").ratings == {"dominance": 1.0}
    ratings = {"arousal": 4.2, "valence": 3.1, "dominance": 4.4}
    assert all(clip.ratings == ratings for clip in found.values())
    assert "labels_consensus.csv:2: arousal 7.2 is outside the scale" in caplog.text


def test_iemocap_without_agreement_is_left_out_or_kept_with_votes(copy):
    place = copy("iemocap")
    table = place / "Session1/dialog/EmoEvaluation/Ses01F_impro01.txt"
    replace(table, "C-E2:\tFear", "C-E2:\tAnger")
    corpus = corpora.load("iemocap")
    clips = find_clips(corpus, place)
    dropped = build(corpus, clips, class_set="paper4")
    kept = build(corpus, clips, class_set="paper4", no_majority="keep")
    extra = set(kept.utterances) - set(dropped.utterances)
    # The other turns without agreement have no vote for one of the four classes.
    assert extra == {f"iemocapSes01{s}-Ses01F_impro01_{s}006" for s in "FM"}
    assert not extra & set(kept.emotion)
    assert all(kept.votes[u].tolist() == [1, 0, 0, 0] for u in extra)


def test_iemocap_names_a_rater_category_that_it_does_not_know(copy):
    place = copy("iemocap")
    table = place / "Session2/dialog/EmoEvaluation/Ses02F_impro01.txt"
    replace(table, "C-E1:\tSadness", "C-E1:\tMelancholy")
    with pytest.raises(ValueError, match=r"Ses02F_impro01.txt:\d+: .*'melancholy'"):
        clips_of("iemocap", place)


def test_iemocap_folds_leave_a_session_out(miniature):
    corpus = corpora.load("iemocap")
    clips = find_clips(corpus, miniature("iemocap"))
    data = build(corpus, clips, class_set="paper4")
    for n, fold in enumerate(make_folds(corpus, clips, data), 1):
        tested = {data.speaker[u] for u in fold.test}
        assert tested == {f"iemocapSes0{n}F", f"iemocapSes0{n}M"}
    assert "excited" in corpus.classes("all")
    without = build(corpus, clips, class_set="paper4_without_excited")
    assert len(without.utterances) == len(data.utterances) - 6


def test_ravdess_calm_is_dropped_merged_or_kept(miniature):
    corpus = corpora.load("ravdess")
    clips = find_clips(corpus, miniature("ravdess"))
    assert all("03-02" not in c.name for c in clips)  # songs
    sizes = {
        name: len(build(corpus, clips, class_set=name).utterances)
        for name in corpus.labels
    }
    assert sizes == {
        "paper4": 24,
        "paper4_calm_is_neutral": 30,
        "all": 48,
        "all_without_calm": 42,
    }
    assert {c.speaker: c.gender for c in clips}["02"] == "f"


def test_msp_podcast_counts_raters_and_secondary_emotions(miniature, caplog):
    clips = clips_of("msp_podcast", miniature("msp_podcast"))
    assert "1 without their audio file" in caplog.text
    angry = "MSP-PODCAST_0001_0000"
    assert clips[angry].votes == {"A": 3.0, "N": 1.0}
    assert clips[angry].text.strip() == "well you know"
    assert clips["MSP-PODCAST_0000_0000"].speaker.startswith("Unknown")
    assert clips["MSP-PODCAST_0000_0004"].label == ""  # no agreement
    shared = clips_of(
        "msp_podcast", miniature("msp_podcast"), votes="primary+secondary"
    )
    assert shared[angry].votes == {"A": 2.5, "S": 0.5, "N": 1.0}


def test_msp_podcast_folds_are_the_official_parts_without_shared_speakers(
    miniature, caplog
):
    corpus = corpora.load("msp_podcast")
    clips = find_clips(corpus, miniature("msp_podcast"))
    data = build(corpus, clips, class_set="paper4")
    first, second = make_folds(corpus, clips, data)
    assert first.train == second.train and first.test != second.test
    assert "fold 1: 1 clips of valid left out" in caplog.text
    assert len(first.valid) == 3 and len(second.valid) == 4


def test_msp_podcast_reads_the_tables_of_other_releases(copy):
    place = copy("msp_podcast")
    labels = place / "Labels"
    (labels / "labels_consensus.csv").rename(labels / "labels_concensus.csv")
    (place / "Audios").rename(place / "Audio")
    rows = ["FileName,Workers,EmoClass_Major,EmoClass_Second"]
    rows += ['MSP-PODCAST_0001_0001.wav,W1,Happy,"Sad,Amused"']
    (labels / "labels_detailed.csv").write_text("\n".join(rows) + "\n")
    clips = clips_of("msp_podcast", place, votes="primary+secondary")
    assert clips["MSP-PODCAST_0001_0001"].votes == {"H": 0.5, "S": 0.5}
    assert clips["MSP-PODCAST_0001_0000"].votes == {}


def test_emns_folds_share_no_sentence(miniature):
    corpus = corpora.load("emns")
    clips = find_clips(corpus, miniature("emns"))
    said = {}
    for clip in clips:
        said.setdefault(clip.text, set()).add(clip.speaker)
    assert all(len(parts) == 1 for parts in said.values())
    assert "one speaker" in corpus.note


def test_enterface_takes_speaker_and_emotion_from_folders(miniature):
    clips = find_clips(corpora.load("enterface"), miniature("enterface"))
    assert sorted({c.speaker for c in clips}) == ["01", "02", "03", "06", "12"]
    first = next(c for c in clips if (c.speaker, c.label) == ("01", "anger"))
    assert first.audio.suffix == ".wav"  # decoded beside the film
    assert len(clips) == 30


def test_meld_leaves_out_lines_of_several_speakers_and_keeps_odd_encodings(
    miniature, caplog
):
    clips = find_clips(corpora.load("meld"), miniature("meld"))
    assert "21 lines that several people speak" in caplog.text
    assert {c.speaker for c in clips} >= {"Dr_Franzblau", "Ross"}
    assert clips[0].text.startswith("It\u2019s me")


def test_nemo_speakers_are_read_without_their_blanks(miniature):
    clips = find_clips(corpora.load("nemo"), miniature("nemo"))
    assert {c.speaker for c in clips} == {"EB0", "KD0", "KS0", "MP0", "WR0", "IC0"}
    assert {c.gender for c in clips} == {"f", "m"}


def test_jl_corpus_secondary_and_primary_emotions(miniature):
    corpus = corpora.load("jl_corpus")
    clips = find_clips(corpus, miniature("jl_corpus"))
    assert len(corpus.classes("primary")) == 5 and len(corpus.classes("all")) == 10
    merged = build(corpus, clips, class_set="paper4_excited_is_happy")
    assert list(merged.emotion.values()).count("happy") == 16
    assert clips[0].text.strip() == "Carl leaps into a jeep."


def test_a_class_without_clips_is_named(miniature):
    corpus = corpora.load("nemo")
    clips = find_clips(corpus, miniature("nemo"))
    with pytest.raises(ValueError, match="no clip of surprise"):
        build(corpus, [c for c in clips if c.label != "surprised"], class_set="all")


def test_a_label_that_no_table_names_is_refused(copy):
    place = copy("nemo")
    replace(place / "data.tsv", "\tfear\t", "\tdread\t")
    with pytest.raises(ValueError, match="label 'dread', expected one of: anger"):
        clips_of("nemo", place)


def test_a_missing_column_is_named_with_its_file(copy):
    place = copy("nemo")
    replace(place / "data.tsv", "speaker_id", "who")
    with pytest.raises(ValueError, match=r"data.tsv:1: no column speaker_id"):
        clips_of("nemo", place)

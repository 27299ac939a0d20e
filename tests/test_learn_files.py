"""`emoq learn`: audio and labels in, a quantizer that encodes audio out."""

import json
import re

import numpy as np
import pytest
import soundfile
import yaml

import emoq_plugin
from emoq_plugin.bin import encode, learn
from emoq_plugin.core.model_card import read_about
from emoq_plugin.data.labelled_audio import read_labels

RATE = 16000
HEADER = "file,emotion,speaker\n"


def rows(speakers=4):
    """Return rows of calm (low) and angry (high) clips of some speakers."""
    for s in range(speakers):
        for n in range(3):
            for emotion in ("angry", "calm"):
                yield f"s{s}/{emotion}{n}.wav,{emotion},s{s}\n"


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    """Hold clips whose spectrum says their label, and a table of them elsewhere."""
    path = tmp_path_factory.mktemp("learn")
    random = np.random.default_rng(0)
    for row in rows():
        name, emotion, _ = row.split(",")
        noise = random.normal(size=RATE // 2)
        if emotion == "angry":
            noise = np.diff(noise, append=0)
        else:
            noise = np.convolve(noise, np.ones(8) / 8, "same")
        (path / "audio" / name).parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(path / "audio" / name, noise / 12, RATE)
    (path / "labels.csv").write_text(HEADER + "".join(rows()))
    return path


def call(corpus, output, *options, labels="labels.csv"):
    audio, table = corpus / "audio", corpus / labels
    options = ["--codebook_size", "4", *options]
    learn.main([str(audio), str(table), "--output", str(output), *options])


@pytest.fixture(scope="module")
def learned(corpus):
    call(corpus, corpus / "mine")
    return corpus / "mine"


def test_what_was_learned_encodes_audio_by_itself(corpus, learned, capsys):
    paths = [corpus / "audio" / "s0" / f"{e}0.wav" for e in ("angry", "calm")]
    encode.main([*map(str, paths), "--quantizer", str(learned), "--format", "jsonl"])
    for line, path in zip(capsys.readouterr().out.splitlines(), paths, strict=True):
        found = json.loads(line)
        assert list(found["route"]) == [f"specific/{path.stem[:-1]}"]
        assert found["frame_rate_hz"] == 50.0 and max(map(max, found["codes"])) < 4
    card = emoq_plugin.load(str(learned)).bank.card
    assert card["audio"]["sampling_rates_hz"] == {str(RATE): len(list(rows()))}
    assert card["training_speakers"] == ["s0", "s1", "s2", "s3"]


def test_experts_rate_and_score_are_printed(corpus, tmp_path, capsys):
    call(corpus, tmp_path / "q", "--n_folds", "2")
    experts, rate, score = capsys.readouterr().out.splitlines()
    assert "angry, calm" in experts and "calibrated" in experts
    # 2 bits a frame at 50 Hz; 1 bit a clip of 24 frames.
    assert rate == "102.1 bit/s, 2.1 of them once a clip"
    assert score == (
        "macro-F1 100.0 % [100.0, 100.0] of 2 classes, on speakers held out in 2 folds"
    )
    assert rate in (card := (tmp_path / "q/README.md").read_text()) and score in card


def test_the_score_is_of_speakers_that_nothing_was_learned_from(
    corpus, tmp_path, capsys, monkeypatch
):
    from emoq_plugin.estimator import EmoQuantizer

    learned_from, tested = [], []
    fit, predict = EmoQuantizer.fit, EmoQuantizer.predict

    def watched_fit(self, features, emotions, *, speakers):
        learned_from.append({speakers[name] for name in features})
        return fit(self, features, emotions, speakers=speakers)

    monkeypatch.setattr(EmoQuantizer, "fit", watched_fit)
    monkeypatch.setattr(
        EmoQuantizer,
        "predict",
        lambda self, clips: (tested.append(len(clips)), predict(self, clips))[1],
    )
    call(corpus, tmp_path / "q", "--n_folds", "2", "--router", "distortion")
    everyone, *folds = learned_from
    assert everyone == folds[0] | folds[1] and not folds[0] & folds[1]
    assert sum(tested) == len(list(rows()))


def test_the_interval_is_over_held_out_speakers(corpus, tmp_path, monkeypatch):
    """One of four speakers is always mistaken: some resamples have more of him."""
    from emoq_plugin.estimator import EmoQuantizer

    predict, calls = EmoQuantizer.predict, []

    def half_of_the_speakers(self, clips):
        calls.append(len(clips))
        return ["calm"] * len(clips) if len(calls) == 1 else predict(self, clips)

    monkeypatch.setattr(EmoQuantizer, "predict", half_of_the_speakers)
    call(corpus, tmp_path / "q", "--n_folds", "2", "--router", "distortion")
    score = emoq_plugin.load(str(tmp_path / "q")).bank.card["held_out"]
    assert calls == [12, 12] and (score["speakers"], score["clips"]) == (4, 24)
    # Angry: 6 of 12 found; calm: 12 of 18 that are called so.
    assert score["macro_f1"]["mean"] == pytest.approx((2 / 3 + 4 / 5) / 2)
    # All four draws may be of speakers that are mistaken, or of the others.
    assert score["macro_f1"]["low"] == pytest.approx(1 / 3)
    assert score["macro_f1"]["high"] == 1.0


def test_a_balanced_codebook_without_a_router(corpus, tmp_path, capsys):
    call(corpus, tmp_path / "q", "--router", "none", "--n_folds", "0")
    experts, rate, score = capsys.readouterr().out.splitlines()
    assert "RoutedQuantizer(balanced" in experts
    assert rate == "100.0 bit/s, 0.0 of them once a clip"
    assert score == "no speaker-held-out score: --n_folds is 0"


def test_without_speakers_there_is_no_score_and_it_is_said(corpus, tmp_path, capsys):
    lines = ["file,emotion\n", *(row.rpartition(",")[0] + "\n" for row in rows())]
    (corpus / "anonymous.csv").write_text("".join(lines))
    call(corpus, tmp_path / "q", labels="anonymous.csv")
    assert "no speaker-held-out score: 0 speakers" in capsys.readouterr().out


def test_votes_are_shares_and_other_labels_are_left_out(corpus, caplog):
    table = corpus / "votes.csv"
    table.write_text(
        "file,speaker,votes_angry,votes_calm,votes_sad\n"
        "s0/angry0.wav,s0,3,1,4\ns0/calm0.wav,s0,0,2,0\ns1/calm0.wav,s1,0,0,1\n"
    )
    found = read_labels(table, corpus / "audio", ["calm", "angry"])
    assert [s.tolist() for s in found.shares.values()] == [[0.25, 0.75], [1.0, 0.0]]
    assert found.labels([*found.paths]) == ["angry", "calm"]
    assert "1 of 3 clips are of no class" in caplog.text


@pytest.mark.parametrize(
    ("table", "options", "message"),
    [
        ("emotion,speaker\nangry,s0\n", [], "no column file"),
        (HEADER + "s0/none.wav,angry,s0\ns0/calm0.wav,calm,s0\n", [], "1 of 2 files"),
        (HEADER + "s0/angry0.wav,angry,s0\n", [], "one class, angry"),
        (HEADER + "".join(rows()) + ",sad,s1\n", [], ":26: file must not be empty"),
        (HEADER + "".join(rows()).replace(",s1\n", ",\n"), [], "6 of 24 clips have no"),
        (HEADER + "".join(rows(1)), [], "found 1 speaker, expected at least 2"),
        (None, ["--classes", "angry", "happy"], "--classes happy: .* angry calm"),
        (None, ["--router", "wrong"], "router 'wrong'"),
        (None, ["--router", "oracle"], "is a control"),
        (None, ["--features", "wrong"], "wrong is missing.* fbank "),
        (None, ["--output", "{corpus}"], "is not empty"),
        (None, ["--about", "{corpus}/labels.csv"], "labels.csv"),
    ],
)
def test_bad_input_is_refused_before_any_work(
    corpus, tmp_path, caplog, monkeypatch, table, options, message
):
    from emoq_plugin.speech.encoders import registry

    monkeypatch.setattr(registry, "build_encoder", None)
    name = "labels.csv" if table is None else "bad.csv"
    if table is not None:
        (corpus / name).write_text(table)
    options = [option.format(corpus=corpus) for option in options]
    with pytest.raises(SystemExit, match="1"):
        call(corpus, tmp_path / "q", *options, labels=name)
    assert not (tmp_path / "q").exists()
    assert re.search(message, caplog.records[-1].getMessage())


def test_the_card_holds_what_only_its_maker_knows(corpus, tmp_path):
    about = tmp_path / "about.yaml"
    about.write_text("license: cc0-1.0\nlanguage: de\nlimits: >-\n  Acted\n  speech.\n")
    options = ["--about", str(about), "--n_folds", "0", "--clip_bits", "4"]
    call(corpus, tmp_path / "q", *options)
    text = (tmp_path / "q/README.md").read_text()
    _, head, body = text.split("---\n", 2)
    assert (
        yaml.safe_load(head).items() >= {"license": "cc0-1.0", "language": "de"}.items()
    )
    assert "## Limits\n\nActed speech.\n" in body
    assert "| clip code | 4 bits every clip |" in body
    about.write_text("licence: cc0-1.0\n")
    with pytest.raises(ValueError, match="about.yaml.*licence.*license"):
        read_about(about)
    about.write_text("language: [de]\n")
    with pytest.raises(ValueError, match="about.yaml.*language"):
        read_about(about)

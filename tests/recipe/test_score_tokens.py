"""`emoq score-tokens`: emotion in units of others, alone and with clip tokens."""

import json
import shutil

import numpy as np
import pytest
import soundfile

from emoq_plugin import EmoQuantizer
from emoq_plugin.bin import clip_tokens, score_tokens
from emoq_plugin.data.folds import Fold, write_folds
from emoq_plugin.evaluation.predictions import read_predictions
from emoq_plugin.evaluation.token_probe import TokenStream, token_bitrates
from emoq_plugin.files import write_table
from emoq_plugin.speech.encoders.registry import build_encoder
from emoq_plugin.units.clip_tokens import ClipVocabulary

RATE, N_UNITS = 16000, 20
EMOTIONS = ("angry", "sad")


def sound(random, emotion):
    """Return noise with a tone whose pitch is the emotion's."""
    tone = np.sin(np.arange(4800) * (0.1 if emotion == "sad" else 0.5))
    return (0.2 * tone + 0.05 * random.normal(size=4800)).astype(np.float32)


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """Hold a corpus, units that say nothing of emotion, and joined tokens."""
    path, random = tmp_path_factory.mktemp("tokens"), np.random.default_rng(0)
    names = [f"s{s}-{e}{n}" for s in range(6) for e in EMOTIONS for n in range(4)]
    waves = {u: sound(random, u[3:-1]) for u in names}
    (path / "wav").mkdir()
    for name, wave in waves.items():
        soundfile.write(path / "wav" / f"{name}.wav", wave, RATE)
    data = path / "data"
    write_table(data / "all/wav.scp", {u: f"{path}/wav/{u}.wav" for u in names})
    write_table(data / "all/utt2spk", {u: u[:2] for u in names})
    write_table(data / "all/utt2emo", {u: u[3:-1] for u in names})
    (data / "emotions").write_text("angry\nsad\n")
    parts = [tuple(u for u in names if u[1] in part) for part in ("0123", "", "45")]
    write_folds(data / "folds", [Fold("1", *parts), Fold("2", parts[2], (), parts[0])])
    units = {u: random.integers(N_UNITS, size=15) for u in names}
    write_table(path / "km", {u: " ".join(map(str, x)) for u, x in units.items()})
    encoder = build_encoder("fbank", num_mel_bins=12)
    learned = {u: encoder([waves[u]])[0] for u in parts[0]}
    quantizer = EmoQuantizer(4, router=None, norm="corpus", clip_bits=4)
    quantizer.fit(
        learned,
        {u: u[3:-1] for u in learned},
        speakers={u: u[:2] for u in learned},
    )
    quantizer.quantizer_.bank.card["feature"] = encoder.specification.to_json()
    quantizer.save_pretrained(path / "quantizer")
    fixed = ["--quantizer", str(path / "quantizer"), "--units", str(path / "km")]
    fixed += ["--n_units", str(N_UNITS), "--output", str(path / "new")]
    clip_tokens.main([str(path / "wav"), *fixed])
    return path


def call(place, tmp_path, *options, tokens="new", fold=("1",)):
    data = place / "data"
    score_tokens.main(
        [
            *("--tokens", str(place / tokens)),
            *("--quantizer", str(place / "quantizer")),
            *("--data_dir", str(data / "all"), "--emotions", str(data / "emotions")),
            *("--folds", str(data / "folds"), "--fold", *fold),
            *("--output_dir", str(tmp_path / "out"), "--n_resamples", "50", *options),
        ]
    )


def refusal(place, tmp_path, caplog, **where):
    with pytest.raises(SystemExit) as caught:
        call(place, tmp_path, **where)
    assert caught.value.code == 1
    return caplog.records[-1].getMessage()


def test_clip_tokens_bring_the_emotion_that_units_lack(place, tmp_path, capsys):
    call(place, tmp_path)
    alone, joined, change = capsys.readouterr().out.splitlines()
    assert alone.startswith("units alone: macro-F1 ")
    # 15 units of 0.3 s, and 4 bits a clip of it.
    assert alone.endswith(f"% at {15 * np.log2(N_UNITS) / 0.3:.1f} bit/s")
    assert joined.startswith("with clip tokens: macro-F1 100.0 ")
    assert joined.endswith(f"% at {(15 * np.log2(N_UNITS) + 4) / 0.3:.1f} bit/s")
    assert float(alone.split()[3]) < 80 and "+" in change
    found = read_predictions(tmp_path / "out/posteriors.jsonl")
    assert [(p.rate, p.system) for p in found] == [
        ("20x1", "balanced"),
        ("20x1", "balanced+clip4"),
    ]
    assert set(found[0].utterances) == {
        u for u in json.loads((place / "new.json").read_text())["seconds"] if u[1] > "3"
    }


def test_speakers_that_the_quantizer_was_learned_from_are_not_tested(
    place, tmp_path, caplog
):
    message = refusal(place, tmp_path, caplog, fold=("2",))
    assert "tests on speaker(s) s0, s1, s2, s3" in message


def test_tokens_of_another_quantizer_or_alone_or_missing_are_refused(
    place, tmp_path, caplog
):
    for name, change, expected in (
        ("other", {"codebooks_sha256": "0" * 64}, "made with another quantizer"),
        ("alone", {"joined": False}, "holds clip tokens alone"),
    ):
        shutil.copy(place / "new", place / name)
        card = json.loads((place / "new.json").read_text()) | change
        (place / f"{name}.json").write_text(json.dumps(card))
        assert expected in refusal(place, tmp_path, caplog, tokens=name)
    shutil.copy(place / "new.json", place / "fewer.json")
    lines = (place / "new").read_text().splitlines(keepends=True)
    (place / "fewer").write_text("".join(lines[1:]))
    message = refusal(place, tmp_path, caplog, tokens="fewer")
    assert "1 utterances of fold 1 have no tokens, the first 's0-angry0'" in message
    (place / "fewer").write_text("".join([*lines[:2], "s0-angry2 3 4\n", *lines[3:]]))
    message = refusal(place, tmp_path, caplog, tokens="fewer")
    assert "fewer:3: 's0-angry2': 0 clip tokens in front" in message


def test_bits_are_those_of_units_and_clip_codes():
    vocabulary = ClipVocabulary(4, [2, 8])
    names = ["a", "b"]
    stream = TokenStream(
        vocabulary,
        {"a": np.array([[0, 7]]), "b": np.array([[1, 3], [0, 0]])},
        {"a": np.array([0, 1, 1]), "b": np.array([3])},
        {"a": 1.0, "b": 3.0},
    )
    alone = token_bitrates(stream, names, names, clip=False)
    joined = token_bitrates(stream, names, names, clip=True)
    assert alone["nominal"] == joined["nominal"] == pytest.approx(4 * 2 / 4)
    assert alone["side_info"] == 0
    assert joined["side_info"] == pytest.approx(3 * (1 + 3) / 4)
    assert joined["side_info"] == pytest.approx(joined["clip_nominal"])

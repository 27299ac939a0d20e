"""Words of Whisper's decoder: a tiny random model, quantizers, sentences, refusals."""

import shutil

import numpy as np
import pytest
import soundfile
import torch

from emoq_plugin.bin.whisper_words import main
from emoq_plugin.core import CodebookBank, Normalization
from emoq_plugin.files import read_json, write_table
from emoq_plugin.recipe.stage import Stage
from emoq_plugin.recipe.stages.whisper_words import (
    WordsSystem,
    plain_words,
    sentence_folds,
    transcribe_all,
)
from emoq_plugin.routing.quantizer import RoutedQuantizer
from emoq_plugin.speech.encoders.registry import build_encoder
from emoq_plugin.speech.store import merge_feature_jobs, write_features
from emoq_plugin.speech.whisper_decoder import END, START, WhisperDecoder
from tests.speech.tiny_models import make_waves, make_whisper

pytest.importorskip("transformers")
tokenizers = pytest.importorskip("tokenizers")
WORDS = ["der", "lappen", "liegt", "auf", "dem", "eis"]
SPECIAL = [END, START, "<|de|>", "<|en|>", "<|transcribe|>", "<|notimestamps|>"]


def make_tokenizer(directory):
    vocabulary = {word: n for n, word in enumerate(WORDS)}
    model = tokenizers.models.WordLevel(vocabulary, unk_token=WORDS[0])
    tokenizer = tokenizers.Tokenizer(model)
    tokenizer.add_special_tokens(SPECIAL)
    tokenizer.save(str(directory / "tokenizer.json"))


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    directory = tmp_path_factory.mktemp("whisper")
    make_whisper(directory)
    make_tokenizer(directory)
    return directory


@pytest.fixture
def data(tmp_path):
    """Clips of three sentences, which take turns."""
    wav, text, emotion = {}, {}, {}
    for n, wave in enumerate(make_waves(list(range(3200, 8000, 160)))):
        name, place = f"u{n:02}", tmp_path / f"u{n:02}.wav"
        soundfile.write(place, wave, 16000)
        wav[name], text[name] = place, " ".join(WORDS[n % 3 : n % 3 + 3])
        emotion[name] = "sad" if n % 2 else "angry"
    for name, table in {"wav.scp": wav, "text": text, "utt2emo": emotion}.items():
        write_table(tmp_path / "raw" / name, table)
    return tmp_path / "raw"


def features_of(model, data, output):
    """Write the features of the last layer, as stage 3 does."""
    encoder = build_encoder("huggingface", model=str(model))
    waves = {p.stem: soundfile.read(p)[0] for p in sorted(data.parent.glob("*.wav"))}
    frames = dict(zip(waves, encoder(list(waves.values()))))
    write_features(output, encoder.specification, frames.items())
    merge_feature_jobs(output, 1)
    Stage(output).finish()
    return frames


def quantizer_of(frames, model, layers=-1):
    """Return a quantizer with every frame as a codeword: it changes nothing."""
    specification = build_encoder(
        "huggingface", model=str(model), layers=layers
    ).specification
    rows = torch.from_numpy(np.unique(np.concatenate(list(frames.values())), axis=0))
    norm = Normalization("corpus", torch.zeros(16), torch.ones(16))
    card = {
        "feature": specification.to_json(),
        "feature_fingerprint": specification.fingerprint(),
    }
    bank = CodebookBank(["balanced"], [rows[None]], norm, emotions=[], card=card)
    return RoutedQuantizer(bank, "balanced")


def arguments(model, data, *more):
    given = {"data_dir": data, "model_dir": model, "language": "de", "clips": 4}
    return [f"--{name}={value}" for name, value in given.items()] + list(map(str, more))


def test_a_step_with_a_cache_gives_what_the_whole_gives(model):
    decoder = WhisperDecoder(str(model), "de")
    encoder = build_encoder("huggingface", model=str(model))
    states = encoder.whole_window(make_waves([9000, 5000]))
    assert states.shape == (2, 50, 16)
    for text, row in zip(decoder(states), states):
        tokens = list(decoder._prompt)
        for _ in range(decoder._max_tokens):
            with torch.no_grad():
                logits = decoder._model(
                    encoder_outputs=(row[None],),
                    decoder_input_ids=torch.tensor([tokens]),
                ).logits[0, -1]
            allowed = [*range(len(WORDS)), decoder._end]
            tokens.append(allowed[int(logits[allowed].argmax())])
            if tokens[-1] == decoder._end:
                break
        words = [WORDS[t] for t in tokens[4:] if t != decoder._end]
        assert text == " ".join(words)
    assert [decoder(states[:1]), decoder(states[1:])] == [[t] for t in decoder(states)]


def test_frames_behind_a_clip_stay_and_those_of_it_are_quantized(model, data):
    encoder = build_encoder("huggingface", model=str(model))
    wave, _ = soundfile.read(data.parent / "u00.wav", dtype="float32")
    exact = encoder.whole_window([wave])
    zeros = quantizer_of({"u": np.zeros((2, 16), np.float32)}, model)
    seen = []

    def decoder(states):
        seen.append(states.clone())
        return ["der"] * len(states)

    wav = {"u00": str(data.parent / "u00.wav")}
    texts, rates = transcribe_all(
        wav, ["u00"], encoder, decoder, {"z": lambda u: zeros}
    )
    assert torch.equal(seen[0], exact)
    spoken = 3200 // 320
    assert (seen[1][0, :spoken] == 0).all()
    assert torch.equal(seen[1][0, spoken:], seen[0][0, spoken:])
    assert rates == {"continuous": None, "z": 0.0}
    assert texts == {"continuous": {"u00": "der"}, "z": {"u00": "der"}}


def test_a_quantizer_that_changes_nothing_leaves_the_words(model, data, tmp_path):
    pytest.importorskip("jiwer")
    frames = features_of(model, data, tmp_path / "features")
    quantizer_of(frames, model).save_pretrained(tmp_path / "exact")
    output = tmp_path / "words.json"
    main(arguments(model, data, "--quantizers", tmp_path / "exact", "--output", output))
    found = read_json(output)
    same = found[str(tmp_path / "exact")]
    assert same["texts"] == found["continuous"]["texts"] and len(same["texts"]) == 4
    assert same["wer"] == found["continuous"]["wer"] and same["bits_per_second"] > 0


def test_codebooks_are_learned_on_other_sentences(model, data, tmp_path, monkeypatch):
    pytest.importorskip("jiwer")
    from emoq_plugin.estimator import EmoQuantizer

    features_of(model, data, tmp_path / "features")
    learned, fit = [], EmoQuantizer.fit

    def watched(self, features, labels=None):
        learned.append(sorted(features))
        return fit(self, features, labels)

    monkeypatch.setattr(EmoQuantizer, "fit", watched)
    more = ["--learn", "4x1", "2x2+clip2", "--sentence_folds", 3]
    more += ["--feature_dir", tmp_path / "features", "--output", tmp_path / "w.json"]
    main(arguments(model, data, *more))
    # Every third clip says the same.
    said = [{int(name[1:]) % 3 for name in names} for names in learned]
    assert said == 2 * [{1, 2}, {0, 2}, {0, 1}]
    found = read_json(tmp_path / "w.json")
    assert list(found) == ["continuous", "4x1", "2x2+clip2"]
    assert found["4x1"]["bits_per_second"] == pytest.approx(100, rel=0.05)


def test_no_sentence_is_in_two_folds_whatever_its_case():
    text = {"a": "Ja!", "b": "ja", "c": "Nein.", "d": "Doch"}
    fold = sentence_folds(text, 2)
    assert fold["a"] == fold["b"] and set(fold.values()) == {0, 1}
    with pytest.raises(ValueError, match="4 of 3 different sentences, expected 2 to 3"):
        sentence_folds(text, 4)
    assert plain_words("Holzstück -- Eis?") == "holzstück eis"


def test_a_model_without_a_tokenizer_is_refused(model, data, tmp_path, caplog):
    bare = tmp_path / "bare"
    shutil.copytree(model, bare)
    (bare / "tokenizer.json").unlink()
    with pytest.raises(SystemExit):
        main(arguments(bare, data))
    assert "has no tokenizer.json, without which tokens are no words" in caplog.text


def test_an_unknown_language_and_features_of_another_layer_are_refused(
    model, data, tmp_path, caplog
):
    with pytest.raises(ValueError, match=r"'xx' is unknown.* expected one of: de en$"):
        WhisperDecoder(str(model), "xx")
    frames = features_of(model, data, tmp_path / "features")
    quantizer_of(frames, model, layers=1).save_pretrained(tmp_path / "other")
    with pytest.raises(SystemExit):
        main(arguments(model, data, "--quantizers", tmp_path / "other"))
    assert "learned on other features than layer 3" in caplog.text
    with pytest.raises(SystemExit):
        main(arguments(model, data, "--learn", "4x1"))
    assert "--learn needs --feature_dir" in caplog.text


def test_a_recording_longer_than_the_window_is_refused(model):
    encoder = build_encoder("huggingface", model=str(model))
    with pytest.raises(ValueError, match="1.5 s, longer than the window of 1 s"):
        encoder.whole_window(make_waves([24000]))


@pytest.mark.parametrize("text", ["64", "64x1+clip0", "64x1+clip", "x1"])
def test_a_misspelt_system_is_refused(text):
    with pytest.raises(ValueError, match="64x1"):
        WordsSystem.parse(text)
    assert str(WordsSystem.parse("61x4+clip32")) == "61x4+clip32"

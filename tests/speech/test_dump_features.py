"""The feature stage: jobs, resuming, merging, and errors that name the utterance."""

import logging

import numpy as np
import pytest
import soundfile

from emoq_plugin.bin.dump_features import main
from emoq_plugin.devices import pick_device
from emoq_plugin.files import write_json, write_table
from emoq_plugin.recipe.stages.dump_features import split_by_duration
from emoq_plugin.speech.encoders.registry import build_encoder
from emoq_plugin.speech.store import FeatureStore
from tests.speech.tiny_models import make_whisper


@pytest.fixture
def data(tmp_path):
    """Seven utterances of noise in a finished data directory."""
    directory = tmp_path / "raw"
    directory.mkdir()
    rng = np.random.default_rng(0)
    wav, samples = {}, {}
    for i, n in enumerate([9000, 3000, 5000, 4000, 8000, 2000, 7000]):
        path = directory / f"u{i}.wav"
        soundfile.write(path, 0.1 * rng.normal(size=n), 16000)
        wav[f"u{i}"], samples[f"u{i}"] = path, n
    write_table(directory / "wav.scp", wav)
    write_table(directory / "utt2num_samples", samples)
    write_json(directory / ".done.json", {"fingerprint": "raw"})
    return directory


@pytest.fixture
def config(tmp_path):
    path = tmp_path / "fbank.yaml"
    path.write_text("encoder: fbank\nconf: {num_mel_bins: 8}\n")
    return path


def _dump(data, out, config, n_jobs=1, jobs=None, merge=True, extra=()):
    common = ["--data_dir", data, "--output_dir", out, "--config", config]
    common = [str(x) for x in (*common, "--nj", n_jobs, *extra)]
    for job in jobs if jobs is not None else range(1, n_jobs + 1):
        main([*common, "--job", str(job)])
    if merge:
        main([*common, "--merge", "true"])


def test_three_jobs_give_what_one_job_gives(data, config, tmp_path):
    _dump(data, tmp_path / "one", config)
    _dump(data, tmp_path / "three", config, n_jobs=3)
    one, three = FeatureStore(tmp_path / "one"), FeatureStore(tmp_path / "three")
    assert one.specification == three.specification and one.lengths == three.lengths
    assert len(one) == 7
    encoder = build_encoder("fbank", num_mel_bins=8)
    for utterance, frames in three.items():
        wave, _ = soundfile.read(data / f"{utterance}.wav", dtype="float32")
        np.testing.assert_array_equal(frames, one[utterance])
        np.testing.assert_array_equal(frames, encoder([wave])[0])
    assert sorted(p.name for p in (tmp_path / "three").iterdir()) == [
        ".done.json",
        ".lock",
        "feats.1.ark",
        "feats.2.ark",
        "feats.3.ark",
        "feats.scp",
        "feature.json",
        "golden.npy",
        "utt2num_frames",
    ]


def test_a_second_call_does_nothing_and_says_so(data, config, tmp_path, caplog):
    _dump(data, tmp_path / "out", config, n_jobs=2)
    before = {p: p.stat().st_mtime_ns for p in (tmp_path / "out").iterdir()}
    with caplog.at_level(logging.INFO):
        _dump(data, tmp_path / "out", config, n_jobs=3)
    assert before == {p: p.stat().st_mtime_ns for p in (tmp_path / "out").iterdir()}
    assert caplog.text.count("nothing to do") == 4


def test_finished_jobs_survive_an_interruption(data, config, tmp_path):
    out = tmp_path / "out"
    _dump(data, out, config, n_jobs=3, jobs=[1, 3], merge=False)
    first = (out / "feats.1.ark").stat().st_mtime_ns
    with pytest.raises(SystemExit):
        _dump(data, out, config, n_jobs=3, jobs=[])
    assert not (out / ".done.json").exists()
    _dump(data, out, config, n_jobs=3)
    assert (out / "feats.1.ark").stat().st_mtime_ns == first
    assert len(FeatureStore(out)) == 7


def test_other_options_make_the_features_anew(data, config, tmp_path):
    out = tmp_path / "out"
    _dump(data, out, config, n_jobs=3)
    config.write_text("encoder: fbank\nconf: {num_mel_bins: 9}\n")
    _dump(data, out, config, n_jobs=2)
    assert FeatureStore(out).specification.dimension == 9
    assert not (out / "feats.3.ark").exists()
    dict(FeatureStore(out).items())


def test_a_job_that_starts_again_withdraws_the_result(data, config, tmp_path):
    out = tmp_path / "out"
    _dump(data, out, config)
    config.write_text("encoder: fbank\n")
    _dump(data, out, config, merge=False)
    assert not (out / ".done.json").exists()


def test_more_jobs_than_utterances_are_fine(data, config, tmp_path):
    _dump(data, tmp_path / "out", config, n_jobs=9)
    assert len(FeatureStore(tmp_path / "out")) == 7


def test_an_utterance_shorter_than_a_frame_is_named(data, config, tmp_path, caplog):
    soundfile.write(data / "u5.wav", 0.1 * np.sin(np.arange(300)), 16000)
    with pytest.raises(SystemExit) as stop:
        _dump(data, tmp_path / "out", config)
    assert stop.value.code == 1
    assert "utterance 'u5': 300 samples, shorter than one frame" in caplog.text
    assert not (tmp_path / "out" / "feats.scp").exists()


def test_unreadable_audio_is_named(data, config, tmp_path, caplog):
    (data / "u2.wav").write_bytes(b"RIFF")
    with pytest.raises(SystemExit):
        _dump(data, tmp_path / "out", config)
    assert "utterance 'u2': " in caplog.text


@pytest.mark.parametrize(
    "spoil, message",
    [
        (lambda d: (d / ".done.json").unlink(), "run the earlier stage first"),
        (lambda d: (d / "utt2num_samples").unlink(), "utt2num_samples is missing"),
        (lambda d: write_table(d / "wav.scp", {"u0": "x"}), "'u1' is in only one"),
    ],
)
def test_an_unfinished_data_directory_is_refused(
    data, config, tmp_path, caplog, spoil, message
):
    spoil(data)
    with pytest.raises(SystemExit):
        _dump(data, tmp_path / "out", config)
    assert message in caplog.text


def test_progress_comes_within_a_window_of_audio(data, tmp_path, caplog, monkeypatch):
    monkeypatch.setattr("emoq_plugin.progress.SECONDS", 0.0)
    config = tmp_path / "whisper.yaml"
    pytest.importorskip("transformers")
    make_whisper(tmp_path)
    conf = f"{{model: {tmp_path}, window: clip, batch_seconds: 0.6}}"
    config.write_text(f"encoder: huggingface\nconf: {conf}\n")
    with caplog.at_level(logging.INFO):
        _dump(data, tmp_path / "out", config, merge=False)
    lines = [line for line in caplog.messages if " samples (" in line]
    # The seven utterances share one window and are encoded in several batches.
    assert len(lines) > 3 and "38000 of 38000 samples (100 %)" in lines[-1]


def test_a_job_number_out_of_range_is_refused(data, config, tmp_path, caplog):
    with pytest.raises(SystemExit):
        _dump(data, tmp_path / "out", config, n_jobs=2, jobs=[3])
    assert "--job 3, expected 1 to --nj 2" in caplog.text


def test_slices_are_balanced_and_complete():
    rng = np.random.default_rng(0)
    samples = {f"u{i:03}": int(n) for i, n in enumerate(rng.integers(1e4, 1e5, 200))}
    slices = [split_by_duration(samples, 4, job=j) for j in (1, 2, 3, 4)]
    assert sorted(sum(slices, [])) == sorted(samples)
    loads = [sum(samples[u] for u in part) for part in slices]
    assert max(loads) < 1.01 * min(loads)
    assert slices == [split_by_duration(samples, 4, job=j) for j in (1, 2, 3, 4)]


def test_a_model_directory_replaces_the_name_and_its_weights_count(data, tmp_path):
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    config = transformers.HubertConfig(
        hidden_size=8,
        num_hidden_layers=1,
        num_attention_heads=1,
        intermediate_size=8,
        conv_dim=(4, 4),
        conv_kernel=(10, 64),
        conv_stride=(5, 64),
        num_conv_pos_embeddings=4,
        num_conv_pos_embedding_groups=1,
    )
    model, yaml = tmp_path / "model", tmp_path / "hubert.yaml"
    yaml.write_text("encoder: huggingface\nconf: {model: org/name}\n")
    transformers.Wav2Vec2FeatureExtractor().save_pretrained(model)
    digests = []
    for seed in (0, 1):
        torch.manual_seed(seed)
        transformers.HubertModel(config).save_pretrained(model)
        _dump(data, tmp_path / "out", yaml, 2, extra=["--model_dir", str(model)])
        store = FeatureStore(tmp_path / "out")
        assert store["u0"].shape[1] == 8
        digests.append(store.specification.weights_sha256)
        # By which others find it.
        assert store.specification.versions["model"] == "org/name"
    assert digests[0] != digests[1]


def test_a_missing_model_directory_is_named(data, config, tmp_path, caplog):
    with pytest.raises(SystemExit):
        _dump(data, tmp_path / "out", config, extra=["--model_dir", "nowhere"])
    assert "--model_dir nowhere: no such directory" in caplog.text


def test_jobs_take_the_gpus_in_turn(monkeypatch):
    torch = pytest.importorskip("torch")
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert [pick_device("auto", j) for j in (1, 2, 3)] == ["cuda:0", "cuda:1", "cuda:0"]
    assert pick_device("cpu", 1) == "cpu"
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    assert pick_device("auto", 1) == "cpu"
    with pytest.raises(ValueError, match="no GPU is visible"):
        pick_device("cuda", 1)

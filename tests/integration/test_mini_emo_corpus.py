"""The synthetic corpus mini_emo: same bytes, valid audio, votes as the model says."""

import hashlib
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile

from emoq_plugin.data.directory import DataDirectory, read_emotions
from emoq_plugin.data.folds import check_speaker_disjoint, read_folds

pytest.importorskip("espeakng_loader")
pytest.importorskip("pyworld")

ROOT = Path(__file__).parents[2]
LOCAL = ROOT / "egs2/mini_emo/ser2/local"
SIZE = {"n_speakers": 3, "n_sentences": 3}


@pytest.fixture(scope="module")
def modules():
    sys.path.insert(0, str(LOCAL))
    import expression
    import make_corpus

    yield expression, make_corpus
    sys.path.remove(str(LOCAL))


def call(command, folder):
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    return subprocess.run(
        command,
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )


def make(folder, **options):
    arguments = [f"--{name}={value}" for name, value in options.items()]
    return call([sys.executable, str(LOCAL / "make_corpus.py"), *arguments], folder)


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    folder = tmp_path_factory.mktemp("mini_emo")
    result = make(folder, **SIZE, nj=2)
    assert result.returncode == 0, result.stderr
    return folder


@pytest.fixture
def data(corpus, monkeypatch):
    monkeypatch.chdir(corpus)  # wav.scp is relative to the recipe
    return DataDirectory.read("data/all", read_emotions("data/emotions"))


def fingerprints(folder):
    # A lock names the process that held it last.
    files = [p for p in folder.rglob("*") if p.is_file() and p.name != ".lock"]
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in files
    }


def test_another_process_with_other_workers_makes_the_same_bytes(corpus, tmp_path):
    assert make(tmp_path, **SIZE, nj=1).returncode == 0
    first, second = fingerprints(corpus), fingerprints(tmp_path)
    assert len(first) > 36
    assert first == second


def test_a_second_call_does_nothing_and_says_so(corpus):
    before = fingerprints(corpus)
    result = make(corpus, **SIZE, nj=2)
    assert result.stderr.count("nothing to do") == 2
    assert fingerprints(corpus) == before


def test_a_data_directory_without_fault_comes_out(data):
    data.validate(data.emotions)
    assert data.emotions == ["angry", "happy", "neutral", "sad"]
    assert len(data.utterances) == 3 * 4 * 3
    assert set(data.text) == set(data.votes) == set(data.utterances)
    assert {u.split("_")[0] for u in data.utterances} == set(data.speaker.values())


def test_clips_are_short_16_khz_mono_pcm16_neither_silent_nor_clipped(data):
    for utterance in data.utterances:
        info = soundfile.info(data.wav[utterance])
        assert (info.samplerate, info.channels, info.subtype) == (16000, 1, "PCM_16")
        assert 1.0 < info.duration < 2.8
        samples, _ = soundfile.read(data.wav[utterance], dtype="int16")
        assert np.std(samples.astype(float)) > 50
        assert np.mean(np.abs(samples.astype(int)) >= 32767) < 1e-3


def test_the_simulated_raters_all_vote(data, modules):
    _, make_corpus = modules
    votes = np.stack([data.votes[u] for u in data.utterances])
    assert (votes.sum(axis=1) == make_corpus.RATERS).all()
    assert (votes == votes.round()).all()


def test_emotions_move_the_measured_acoustics_as_published(corpus, data):
    lines = (corpus / "downloads/mini_emo/acoustics").read_text().splitlines()
    value = {line.split()[0]: np.array(line.split()[1:], float) for line in lines}
    mean = {
        e: np.mean([value[u] for u in data.utterances if data.emotion[u] == e], axis=0)
        for e in data.emotions
    }
    pitch, spread, tempo, _, tilt = range(5)
    assert mean["angry"][pitch] > mean["neutral"][pitch] > mean["sad"][pitch]
    assert mean["happy"][pitch] > mean["neutral"][pitch]
    assert mean["happy"][spread] > mean["sad"][spread]
    assert mean["angry"][tempo] > mean["neutral"][tempo] > mean["sad"][tempo]
    assert mean["angry"][tilt] > mean["neutral"][tilt] > mean["sad"][tilt]


def test_another_seed_gives_other_speakers(modules):
    _, make_corpus = modules
    one, two = (make_corpus.Speaker.draw("s01f", seed) for seed in (0, 1))
    assert not np.allclose(one.habits, two.habits)


@pytest.fixture
def scattered():
    """Return four tight clusters of clips on the axes, twice, for two speakers."""
    rng = np.random.default_rng(0)
    emotion = np.tile(np.repeat(np.arange(4), 10), 2)
    acoustics = np.eye(5)[emotion] + 0.01 * rng.standard_normal((80, 5))
    return acoustics, ["a"] * 40 + ["b"] * 40, emotion


def test_votes_follow_the_nearest_prototype(modules, scattered):
    acoustics, speaker, emotion = scattered
    shares = modules[1].vote_shares(acoustics, speaker, emotion)
    np.testing.assert_allclose(shares.sum(axis=1), 1)
    assert (shares.argmax(axis=1) == emotion).all()


def test_a_clip_between_two_prototypes_splits_the_votes(modules, scattered):
    acoustics, speaker, emotion = scattered
    acoustics[0, :2] = 0.5  # intended as the first emotion, half way to the second
    shares = modules[1].vote_shares(acoustics, speaker, emotion)
    assert shares[0, 0] == pytest.approx(shares[0, 1], abs=0.1)
    assert shares[0, 0] < 0.6 < shares[1, 0]


def test_a_speakers_own_voice_does_not_change_the_votes(modules, scattered):
    acoustics, speaker, emotion = scattered
    moved = acoustics + np.array([[7.0] if name == "a" else [0.0] for name in speaker])
    np.testing.assert_allclose(
        modules[1].vote_shares(moved, speaker, emotion),
        modules[1].vote_shares(acoustics, speaker, emotion),
        atol=1e-9,
    )


@pytest.mark.parametrize(("name", "amount"), [("level", 6.0), ("tilt", 2.0)])
def test_a_wanted_change_of_voice_is_measured_in_the_audio(data, modules, name, amount):
    expression, _ = modules
    wave, rate = soundfile.read(data.wav[data.utterances[0]])

    def acoustics(wanted):
        samples = expression.express(
            wave,
            wanted,
            np.random.default_rng(0),
            sample_rate=rate,
            level=-33.0,
            noise_level=-66.0,
        )
        values = expression.measure(samples, syllables=7)
        return dict(zip(expression.ACOUSTICS, values))

    plain = acoustics(expression.Expression())
    changed = acoustics(expression.Expression(**{name: amount}))
    assert changed[name] - plain[name] == pytest.approx(amount, rel=0.35)
    assert changed["pitch"] == pytest.approx(plain["pitch"], abs=0.5)


def test_a_size_out_of_range_is_refused(tmp_path):
    result = make(tmp_path, n_speakers=99)
    assert result.returncode == 1
    assert "--n_speakers 99: expected 3 to 16" in result.stderr


def test_a_missing_package_is_named_with_the_command_that_installs_it(
    modules, monkeypatch, tmp_path
):
    _, make_corpus = modules

    def version(package):
        raise make_corpus.importlib.metadata.PackageNotFoundError(package)

    monkeypatch.setattr(make_corpus.importlib.metadata, "version", version)
    options = make_corpus.get_parser().parse_args([f"--data_dir={tmp_path}"])
    with pytest.raises(ValueError, match=r"pip install 'emoq\[mini_emo\]'"):
        make_corpus.work(options)


def espnet_utils():
    trees = [os.environ.get("ESPNET_ROOT", ""), *ROOT.glob(".venv/espnet-*")]
    found = [Path(tree) / "egs2/TEMPLATE/asr1/utils" for tree in trees if tree]
    return next((utils for utils in found if utils.is_dir()), None)


def test_data_sh_makes_speaker_disjoint_folds(tmp_path):
    utils = espnet_utils()
    if utils is None:
        pytest.skip("no ESPnet recipe tree")
    (tmp_path / "local").symlink_to(LOCAL)
    script = f"PATH={utils}:$PATH python={sys.executable} "
    script += "local/data.sh --n_speakers 3 --n_sentences 1"
    result = call(["bash", "-c", script], tmp_path)
    assert result.returncode == 0, result.stderr
    speaker = dict(
        line.split()
        for line in (tmp_path / "data/all/utt2spk").read_text().splitlines()
    )
    folds = read_folds(tmp_path / "data/folds")
    assert len(folds) == 3
    for fold in folds:
        check_speaker_disjoint(fold, speaker)
        assert fold.valid

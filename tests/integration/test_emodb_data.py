"""EMO-DB data preparation: on file names alone, and on the corpus where it is."""

import os
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import soundfile

from emoq_plugin.data.directory import DataDirectory, read_emotions
from emoq_plugin.data.folds import check_speaker_disjoint, read_folds
from emoq_plugin.files import read_table

ROOT = Path(__file__).resolve().parents[2]
RECIPE = ROOT / "egs2" / "emodb" / "ser2"
FOUR = ["angry", "happy", "neutral", "sad"]
SEVEN = [*FOUR, "fear", "boredom", "disgust"]


def parse_options_dir():
    trees = [Path(os.environ["ESPNET_ROOT"])] if "ESPNET_ROOT" in os.environ else []
    for tree in [*trees, *sorted((ROOT / ".venv").glob("espnet-*"))]:
        folder = tree / "egs2" / "TEMPLATE" / "asr1" / "utils"
        if (folder / "parse_options.sh").is_file():
            return folder
    return pytest.skip("ESPnet's recipe tree is missing: run local/setup.sh")


@pytest.fixture
def run(tmp_path):
    """Call data.sh in a copy of the recipe."""
    work = tmp_path / "ser2"
    shutil.copytree(RECIPE / "local", work / "local")

    def call(corpus, *options):
        environment = {k: v for k, v in os.environ.items() if k != "EMODB"}
        folders = [parse_options_dir(), Path(sys.executable).parent]
        path = os.pathsep.join([*map(str, folders), environment["PATH"]])
        environment |= {"PATH": path, "PYTHONPATH": str(ROOT)}
        if corpus is not None:
            environment["EMODB"] = str(corpus)
        done = subprocess.run(
            ["bash", "local/data.sh", "--python", sys.executable, *options],
            cwd=work,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
        return done.returncode, done.stdout + done.stderr, work / "data"

    return call


@pytest.fixture
def small_corpus(tmp_path):
    """The official layout: wav/ and erkennung.txt, seven classes, no metadata.csv."""
    corpus = tmp_path / "emo db"
    (corpus / "wav").mkdir(parents=True)
    rows = ["Nr.\tSatz\terkannt\tnatuerlich"]
    samples = np.random.default_rng(0).uniform(-0.5, 0.5, 4000)
    for actor in ("03", "08", "10", "13"):
        for letter in "WFNTALE":
            name = f"{actor}a01{letter}a.wav"
            soundfile.write(corpus / "wav" / name, samples, 16000)
            rows.append(f"{len(rows)}\xa0\t{name}\t62,50\xa0\xa0\t35,00\xa0")
    (corpus / "erkennung.txt").write_text("\n".join(rows) + "\n", "iso-8859-1")
    return corpus


def test_labels_speakers_and_agreement_come_from_the_official_layout(run, small_corpus):
    options = ("--classes", "all", "--n_folds", "2", "--n_valid_speakers", "1")
    code, output, data_dir = run(small_corpus, *options)
    assert code == 0, output
    emotions = read_emotions(data_dir / "emotions")
    data = DataDirectory.read(data_dir / "all", emotions)
    data.validate(emotions)
    assert emotions == SEVEN
    letters = dict(zip("WFNTALE", SEVEN))
    assert data.emotion == {u: letters[u[-2]] for u in data.utterances}
    assert data.speaker["emodb03-03a01Wa"] == "emodb03"
    assert set(data.extra["utt2agreement"].values()) == {"0.625"}
    assert data.votes == {}
    gender = read_table(data_dir / "all" / "spk2gender")
    for fold in read_folds(data_dir / "folds"):
        check_speaker_disjoint(fold, data.speaker)
        tested = sorted({data.speaker[u] for u in fold.test})
        assert sorted(gender[s] for s in tested) == ["f", "m"]


def test_the_default_is_the_four_classes_and_a_second_call_does_nothing(
    run, small_corpus
):
    code, output, data_dir = run(small_corpus, "--n_folds", "2")
    assert code == 1 and "use fewer" in output  # two of four speakers are tested
    options = ("--n_folds", "2", "--n_valid_speakers", "1")
    code, output, _ = run(small_corpus, *options)
    assert code == 0, output
    assert read_emotions(data_dir / "emotions") == FOUR
    code, output, _ = run(small_corpus, *options)
    assert code == 0 and output.count("nothing to do") == 2


def test_without_the_corpus_it_says_where_to_get_it(run):
    code, output, data_dir = run(None)
    assert code == 1 and not data_dir.exists()
    assert "Burkhardt et al. 2005" in output and "EMODB=<directory>" in output


@pytest.mark.parametrize(
    "breakage, options, message",
    [
        (lambda wav: shutil.rmtree(wav), (), "no wav file"),
        (lambda wav: (wav / "hello.wav").touch(), (), "hello.wav"),
        (lambda wav: (wav / "04a01Wa.wav").touch(), (), "04a01Wa.wav"),
        (
            lambda wav: [p.unlink() for p in wav.glob("*E?.wav")],
            ("--classes", "all"),
            "no recording of disgust",
        ),
        (lambda wav: None, ("--classes", "five"), "invalid choice: 'five'"),
        (lambda wav: None, ("--colour", "red"), "invalid option --colour"),
        (lambda wav: shutil.rmtree(wav.parent), (), "is not a directory"),
    ],
)
def test_a_corpus_or_option_that_is_not_right_is_named(
    run, small_corpus, breakage, options, message
):
    breakage(small_corpus / "wav")
    code, output, _ = run(small_corpus, *options)
    assert code != 0 and message in output


def test_the_corpus_gives_five_speaker_disjoint_folds(run):
    corpus = Path(os.environ.get("EMODB", ROOT.parent / "shared" / "data" / "emodb"))
    if not corpus.is_dir():
        pytest.skip(f"no EMO-DB: EMODB is not set and {corpus} is missing")
    code, output, data_dir = run(corpus.resolve())
    assert code == 0, output
    data = DataDirectory.read(data_dir / "all", FOUR)
    counts = Counter(data.emotion.values())
    assert counts == {"angry": 127, "happy": 71, "neutral": 79, "sad": 62}
    assert len(set(data.speaker.values())) == 10
    agreement = {u: float(a) for u, a in data.extra["utt2agreement"].items()}
    assert agreement["emodb03-03a01Wa"] == 0.95
    assert all(0 <= a <= 1 for a in agreement.values())
    gender = read_table(data_dir / "all" / "spk2gender")
    folds = read_folds(data_dir / "folds")
    assert len(folds) == 5
    for fold in folds:
        check_speaker_disjoint(fold, data.speaker)
        for part in (fold.test, fold.valid):
            speakers = {data.speaker[u] for u in part}
            assert sorted(gender[s] for s in speakers) == ["f", "m"]
            assert {data.emotion[u] for u in part} == set(FOUR)

"""Faults of machines: after kill -9, a full disk or garbage, the same command mends."""

import os
import random
import re
import shlex
import shutil
import signal
import struct
import subprocess
import time
from pathlib import Path

import numpy as np
import pytest
import soundfile

from emoq_plugin.data.folds import Fold, write_folds
from emoq_plugin.files import write_table
from emoq_plugin.speech.store import FeatureStore
from tests.integration.conftest import recipe_environment

EMOTIONS = ("angry", "happy", "sad")
SETS = "--data_dir dump/raw/all --emotions data/emotions --folds data/folds --fold 1"
RATES = "--rates 4x1 4x2"
SYSTEMS = "--systems balanced specific-distortion"
# Stage -> what it leaves, the commands in their order.
STAGES = {
    "format_data": (
        "dump/raw",
        ["--data_dir data/all --emotions data/emotions --output_dir dump/raw/all"],
    ),
    "dump_features": (
        "dump/fbank",
        [
            "--data_dir dump/raw/all --output_dir dump/fbank/all --config fbank.yaml "
            f"--nj 2 {job}"
            for job in ("--job 1", "--job 2", "--merge true")
        ],
    ),
    "learn_codebooks": (
        "exp/quantizer",
        [
            f"{SETS} {RATES} --feature_dir dump/fbank/all --config quantizer.yaml "
            "--corpus tiny --output_dir exp/quantizer"
        ],
    ),
    "encode_units": (
        "dump/units",
        [
            f"{SETS} {RATES} {SYSTEMS} --feature_dir dump/fbank/all "
            "--quantizer_dir exp/quantizer --output_dir dump/units/all"
        ],
    ),
    "ser_probe": (
        "exp/ser",
        [
            f"{SETS} {RATES} {SYSTEMS} --feature_dir dump/fbank/all --units_dir "
            "dump/units/all --quantizer_dir exp/quantizer --config probe.yaml "
            "--output_dir exp/ser"
        ],
    ),
    "score": (
        "exp/scores",
        [
            "--predictions exp/ser/posteriors.jsonl --data_dir dump/raw/all --emotions "
            "data/emotions --corpus tiny --tag tiny --synthetic true --n_resamples 20 "
            "--output_dir exp/scores"
        ],
    ),
}


class Experiment:
    """Stages 2 to 6 of a tiny corpus in a directory, by a warm python."""

    def __init__(self, root, python):
        self.root, self.python = root, python

    def make(self):
        random = np.random.default_rng(0)
        names = [f"s{s}-{e}{i}" for s in range(4) for e in EMOTIONS for i in range(2)]
        for name in names:
            path = self.root / "das Kórpus 音" / f"{name}.wav"
            path.parent.mkdir(parents=True, exist_ok=True)
            tone = np.sin(np.arange(3000) * (0.1 + 0.1 * EMOTIONS.index(name[3:-1])))
            soundfile.write(path, 0.3 * tone + 0.1 * random.normal(size=3000), 8000)
        data = self.root / "data"
        write_table(data / "all/wav.scp", {u: f"das Kórpus 音/{u}.wav" for u in names})
        write_table(data / "all/utt2spk", {u: u[:2] for u in names})
        write_table(data / "all/utt2emo", {u: u[3:-1] for u in names})
        parts = [tuple(u for u in names if u[1] in part) for part in ("01", "", "23")]
        write_folds(data / "folds", [Fold("1", *parts)])
        for path, text in (
            ("data/emotions", "\n".join(EMOTIONS) + "\n"),
            ("fbank.yaml", "encoder: fbank\nconf: {num_mel_bins: 8}\n"),
            ("quantizer.yaml", "expert_sets: [balanced, specific]\n"),
            ("probe.yaml", "C: 0.1\n"),
        ):
            (self.root / path).write_text(text)

    def begin(self, stage, number=0, fault=""):
        """Begin a command of a stage, in a process group of its own."""
        options = STAGES[stage][1][number].split()
        return subprocess.Popen(
            [str(self.python), "-m", f"emoq_plugin.bin.{stage}", *options],
            cwd=self.root,
            env={**os.environ, "OMP_NUM_THREADS": "1", "TEST_FAULT": fault},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            process_group=0,
        )

    def run(self, stage, fault=""):
        """Run the commands of a stage to the end or a fault: exit status, output."""
        code, said = 0, ""
        for number in range(len(STAGES[stage][1])):
            process = self.begin(stage, number, fault)
            said += process.communicate()[0]
            code = code or process.returncode
        return code, said

    def finish(self, stage):
        code, said = self.run(stage)
        assert code == 0, said
        return said

    def files(self):
        """Return what a user sees, by name; running times are left out."""
        found = {}
        for folder in ("dump", "exp"):
            for path in (self.root / folder).rglob("*"):
                if not path.is_file() or path.name == ".lock":
                    continue
                content = path.read_bytes()
                if path.suffix in (".json", ".jsonl"):
                    # Nor what moved since a pass that a killed process made.
                    content = re.sub(rb'"(seconds|moved)": [0-9.e-]+', b"", content)
                found[str(path.relative_to(self.root))] = content
        return found

    def copy(self, to, *, before=None):
        """Return a copy, without what `before` and later stages made."""
        shutil.copytree(self.root, to)  # with the times of the files
        later = list(STAGES)[list(STAGES).index(before) :] if before else ()
        for stage in later:
            shutil.rmtree(to / STAGES[stage][0], ignore_errors=True)
        return Experiment(to, self.python)


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory, warm_python):
    found = Experiment(tmp_path_factory.mktemp("mit größter Ruhe"), warm_python)
    found.make()
    found.seconds = {}
    for stage in STAGES:
        start = time.monotonic()
        found.finish(stage)
        found.seconds[stage] = time.monotonic() - start
    return found


def kill(process, seconds):
    """Kill the process group after a time; say whether it was still at work."""
    try:
        process.wait(seconds)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    return process.returncode != 0


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_killed_at_random_moments_ends_in_the_same_files(
    undisturbed, tmp_path, stage
):
    here = undisturbed.copy(tmp_path / "here", before=stage)
    chance = random.Random(stage)
    for number in range(len(STAGES[stage][1])):
        seconds = undisturbed.seconds[stage] / len(STAGES[stage][1])
        for _ in range(2):
            kill(here.begin(stage, number), chance.uniform(0, seconds))
    here.finish(stage)
    for later in list(STAGES)[list(STAGES).index(stage) :]:
        here.finish(later)
    assert here.files() == undisturbed.files()


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_killed_in_a_file_or_between_two_ends_in_the_same_files(
    undisturbed, tmp_path, stage
):
    here = undisturbed.copy(tmp_path / "here", before=stage)
    made = [f for f in undisturbed.files() if f.startswith(STAGES[stage][0])]
    faults = ("cut:1500", "cut:300", "replace:1", "replace:3", "replace:8")
    assert any([here.run(stage, fault)[0] for fault in faults])
    here.finish(stage)
    expected = {f: c for f, c in undisturbed.files().items() if f in made}
    assert {f: c for f, c in here.files().items() if f in expected} == expected
    left = {f for f in here.files() if f.startswith(STAGES[stage][0])} - set(made)
    # The directory of the scores belongs to other stages too, which may be at work.
    assert stage == "score" or not left


def test_a_merge_killed_while_it_cleans_up_is_mended(undisturbed, tmp_path):
    here = undisturbed.copy(tmp_path / "here", before="dump_features")
    ends = []
    for number in range(1, 15, 2):
        for job in range(2):
            here.begin("dump_features", job).communicate()
        merge = here.begin("dump_features", 2, f"unlink:{number}")
        merge.communicate()
        ends.append(merge.returncode)
        merge = here.begin("dump_features", 2)
        assert merge.communicate()[0] and merge.returncode == 0
        now = {f for f in here.files() if f.startswith("dump/fbank")}
        assert now == {f for f in undisturbed.files() if f.startswith("dump/fbank")}
        (here.root / "dump/fbank/all/.done.json").unlink()
    assert any(ends)


@pytest.mark.parametrize("stage", STAGES)
def test_a_full_disk_is_named_and_leaves_nothing_that_looks_finished(
    undisturbed, tmp_path, stage
):
    here = undisturbed.copy(tmp_path / "here", before=stage)
    for limit in (1, 300, 1500):
        code, said = here.run(stage, f"size:{limit}")
        place = re.search(r"File too large: '([^']+)'", said)
        if code == 0:  # small enough
            break
        assert place and place[1].startswith(STAGES[stage][0]), said
        assert "Traceback" not in said
        whole = undisturbed.files()
        assert all(whole[name] == c for name, c in here.files().items())
    here.finish(stage)
    for later in list(STAGES)[list(STAGES).index(stage) :]:
        here.finish(later)
    assert here.files() == undisturbed.files()


@pytest.mark.skipif(os.getuid() != 0, reason="only root mounts a small disk")
def test_a_disk_that_fills_up_in_any_stage(undisturbed, tmp_path):
    small = tmp_path / "small"
    small.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=2m", "none", str(small)]
    if subprocess.run(mount, check=False, capture_output=True).returncode:
        pytest.skip("no permission to mount a small disk")
    try:
        here = undisturbed.copy(small / "here", before="format_data")
        for stage in STAGES:
            filler = small / "filler"
            with pytest.raises(OSError, match="No space"), open(filler, "wb") as stream:
                while True:
                    stream.write(bytes(4096))
            code, said = here.run(stage)
            assert code != 0
            assert re.search(rf"No space left on device: '.*{STAGES[stage][0]}", said)
            assert "Traceback" not in said
            filler.unlink()
            here.finish(stage)
        assert here.files() == undisturbed.files()
    finally:
        subprocess.run(["umount", str(small)], check=True)


@pytest.mark.parametrize("stage", STAGES)
def test_of_two_runs_in_one_directory_the_second_waits(undisturbed, tmp_path, stage):
    here = undisturbed.copy(tmp_path / "here", before=stage)
    for number in range(len(STAGES[stage][1])):
        # One rests in the middle of its work.
        both = [here.begin(stage, number, fault) for fault in ("rest:1", "")]
        said = "".join(process.communicate()[0] for process in both)
        assert [process.returncode for process in both] == [0, 0], said
        assert said.count("nothing to do") == 1, said
    expected = [f for f in undisturbed.files() if f.startswith(STAGES[stage][0])]
    whole = undisturbed.files()
    assert {f: here.files()[f] for f in expected} == {f: whole[f] for f in expected}


def test_the_lock_of_a_killed_process_is_free(undisturbed, tmp_path):
    here = undisturbed.copy(tmp_path / "here", before="learn_codebooks")
    first = here.begin("learn_codebooks")
    lock = here.root / "exp/quantizer/.lock"
    while not lock.exists():
        assert first.poll() is None
        time.sleep(0.01)
    second = here.begin("learn_codebooks")
    assert kill(first, 0.05)
    assert second.wait(60) == 0
    assert here.files()["exp/quantizer/.done.json"]


def truncate(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 4])


def put(path, form, number, offset):
    """Put a number into the first matrix of an ark."""
    content = bytearray(path.read_bytes())
    struct.pack_into(form, content, content.index(b"\0BFM ") + offset, number)
    path.write_bytes(content)


def lengthen(path):
    put(path, "<i", 10**6, 6)


def shorten(path):
    put(path, "<i", 2, 6)


def put_nan(path):
    put(path, "<f", np.nan, 15)


def spoil_numbers(path):
    path.write_text(re.sub(r"\[\[[0-9.]+", "[[NaN", path.read_text(), count=1))


@pytest.mark.parametrize(
    ("file", "damage", "stage", "message"),
    [
        ("dump/raw/all/wav/s0-sad0.flac", truncate, "dump_features", "'s0-sad0'.*flac"),
        ("dump/fbank/all/feats.1.ark", truncate, "learn_codebooks", "truncated"),
        ("dump/fbank/all/feats.1.ark", lengthen, "learn_codebooks", "truncated"),
        ("dump/fbank/all/feats.1.ark", shorten, "learn_codebooks", "2 frames, expect"),
        ("dump/fbank/all/feats.1.ark", put_nan, "learn_codebooks", "NaN"),
        ("dump/fbank/all/feats.1.ark", put_nan, "encode_units", "NaN"),
        ("exp/quantizer/4x2/model.safetensors", truncate, "encode_units", "damaged"),
        ("exp/quantizer/4x2/config.json", truncate, "encode_units", "not JSON"),
        ("dump/units/all/4x1/balanced/codes.ark", truncate, "ser_probe", "utterance '"),
        ("dump/units/all/4x1/balanced/units.json", truncate, "ser_probe", "not JSON"),
        ("exp/ser/posteriors.jsonl", truncate, "score", ":[0-9]+: not JSON"),
        ("exp/ser/posteriors.jsonl", spoil_numbers, "score", ":1: posteriors.*"),
    ],
)
def test_garbage_from_a_node_is_named_with_file_and_utterance(
    undisturbed, tmp_path, file, damage, stage, message
):
    here = undisturbed.copy(tmp_path / "here", before=stage)
    damage(here.root / file)
    code, said = here.run(stage)
    assert code == 1 and "Traceback" not in said
    found = re.search(f"ERROR: .*{message}", said)
    assert found and (Path(file).name in said), said
    if file.endswith(".ark"):
        utterance = re.search(r"utterance '([^']+)'", said)
        assert utterance[1] in FeatureStore(undisturbed.root / "dump/fbank/all")
    # Its stage, done again as the message says, makes it good.
    before = [s for s in STAGES if file.startswith(STAGES[s][0])][0]
    shutil.rmtree(here.root / STAGES[before][0])
    for again in list(STAGES)[list(STAGES).index(before) :]:
        here.finish(again)
    assert here.files() == undisturbed.files()


@pytest.mark.parametrize(
    "content", [b"", b"\x08" + bytes(7) + b"{}      ", b"\xff" * 99]
)
def test_a_damaged_checkpoint_is_reported_and_learning_begins_anew(
    undisturbed, tmp_path, content
):
    here = undisturbed.copy(tmp_path / "here", before="learn_codebooks")
    path = here.root / "exp/quantizer/4x2/checkpoint.safetensors"
    path.parent.mkdir(parents=True)
    path.write_bytes(content)
    assert f"{path.name} is damaged" in here.finish("learn_codebooks")
    whole = undisturbed.files()
    assert all(whole[name] == found for name, found in here.files().items())


@pytest.mark.parametrize("years", [-30, 30])
def test_a_wrong_clock_makes_nothing_stale(undisturbed, tmp_path, years):
    here = undisturbed.copy(tmp_path / "here")
    moment = time.time() + years * 365 * 86400
    # What stages made seems older than what they made it from.
    for seconds, path in enumerate(sorted(here.root.rglob("*"), reverse=True)):
        if path.suffix != ".wav":  # of audio the time counts, early or late
            os.utime(path, (moment + seconds, moment + seconds))
    for stage in STAGES:
        assert "nothing to do" in here.finish(stage)
    assert here.files() == undisturbed.files()


def test_an_input_that_changed_is_noticed_whatever_its_time(undisturbed, tmp_path):
    here = undisturbed.copy(tmp_path / "here")
    for file, stage, change, why in (
        ("data/all/utt2emo", "format_data", (" angry", " happy"), "all/utt2emo"),
        ("fbank.yaml", "dump_features", ("8", "9"), "conf: .*8.* -> .*9"),
        ("quantizer.yaml", "learn_codebooks", ("[", "[ "), "quantizer.yaml"),
        ("data/folds/1/test", "encode_units", ("s3-sad1\n", ""), "1/test"),
        ("probe.yaml", "ser_probe", ("0.1", "0.2"), "probe.yaml"),
        ("exp/ser/posteriors.jsonl", "score", (" ", "  "), "ser/posteriors.jsonl"),
    ):
        path = here.root / file
        before, text = path.stat(), path.read_text()
        path.write_text(text.replace(*change))
        os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
        _, said = here.run(stage)
        assert re.search(rf"is stale \(changed: .*{why}", said), said
        here = undisturbed.copy(tmp_path / f"after {stage}")


def test_a_stage_that_is_done_again_makes_the_later_ones_stale(undisturbed, tmp_path):
    here = undisturbed.copy(tmp_path / "here")
    (here.root / "quantizer.yaml").write_text(
        "expert_sets: [balanced, specific]\nnorm: clip"
    )
    here.finish("learn_codebooks")
    assert "changed: quantizer/" in here.finish("encode_units")
    assert "changed: units/all" in here.finish("ser_probe")
    assert "changed: ser/posteriors.jsonl" in here.finish("score")


def test_a_read_only_data_directory_serves_all_stages(undisturbed, tmp_path):
    here = undisturbed.copy(tmp_path / "here", before="format_data")
    given = [here.root / "data", here.root / "das Kórpus 音"]
    paths = [p for folder in given for p in (folder, *folder.rglob("*"))]
    before = {p: (p.stat().st_mtime_ns, p.stat().st_size) for p in paths}
    for path in paths:
        path.chmod(path.stat().st_mode & ~0o222)
    try:
        for stage in STAGES:
            here.finish(stage)
        # Root may write anywhere, so that it did not is looked at.
        now = [p for folder in given for p in (folder, *folder.rglob("*"))]
        assert {p: (p.stat().st_mtime_ns, p.stat().st_size) for p in now} == before
    finally:
        for path in paths:
            path.chmod(path.stat().st_mode | 0o200)
    assert here.files() == undisturbed.files()


SMALL = "--local_data_opts '--n_speakers 4 --n_sentences 2' --last_fold 2 --nj 2 "
SMALL += (
    "--rates '4x1 4x2' --systems 'balanced specific-distortion' --ser_backend probe"
)


def test_a_recipe_killed_at_ten_random_moments_ends_in_the_same_scores(
    tree, warm_python
):
    recipe = tree / "egs2/mini_emo/ser2"

    def begin():
        options = [*shlex.split(SMALL), "--python", warm_python, "--tag", "faults"]
        return subprocess.Popen(
            ["./run.sh", *options, "--stage", "1", "--stop_stage", "6"],
            cwd=recipe,
            env=recipe_environment(python=str(warm_python)),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            process_group=0,
        )

    def finish(*runs):
        for run in runs:
            said = run.communicate()[0]
            assert run.returncode == 0, said[-4000:]
        return (recipe / "exp/faults/scores.json").read_text()

    def forget():
        for folder in ("data", "downloads", "dump", "exp"):
            shutil.rmtree(recipe / folder, ignore_errors=True)

    forget()
    start = time.monotonic()
    expected = finish(begin())
    seconds = time.monotonic() - start
    forget()
    chance, kills = random.Random(0), 0
    while kills < 10:
        if kill(begin(), chance.uniform(0.05, 0.35) * seconds):
            kills += 1
        else:
            assert finish(begin()) == expected
            forget()
    assert finish(begin()) == expected
    # Two at once, from the beginning.
    forget()
    assert finish(begin(), begin()) == expected

"""mini_emo on a real Slurm: the bits of a local run, whatever happens to the jobs."""

import contextlib
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import time

import pytest
from safetensors.torch import load_file
from torch.testing import assert_close

SMALL = [
    *["--corpus", "mini_emo", "--synthetic", "true"],
    *["--local_data_opts", "--n_speakers 5 --n_sentences 3", "--last_fold", "2"],
    *["--rates", "16x3", "--systems", "balanced specific-linear"],
    *["--ser_backend", "probe"],
    *["--quantizer_config", "slow.yaml", "--tag", "slow"],
]
RESULTS = ("dump/fbank", "dump/units", "exp")
LOG = "exp/slow/log/learn_codebooks.{}.log"


class Recipe:
    """One recipe directory; runs differ only in who runs the jobs."""

    def __init__(self, folder, environment):
        self.folder, self.environment = folder, environment

    def start(self, first, last, *options, backend="slurm"):
        stages = ["--stage", str(first), "--stop_stage", str(last)]
        for name in ("dump/fbank/all", "exp/slow", "dump/units/slow"):
            # Where it has to make this directory, slurm.pl sleeps for NFS.
            (self.folder / name / "q").mkdir(parents=True, exist_ok=True)
        return subprocess.Popen(
            [self.folder / "ser2.sh", *SMALL, *stages, *options],
            # Not an option: results quote the command line.
            env=self.environment | {"cmd_backend": backend},
            cwd=self.folder,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def run(self, first, last, *options, backend="slurm"):
        process = self.start(first, last, *options, backend=backend)
        said, _ = process.communicate(timeout=600)
        assert process.returncode == 0, said[-4000:]
        return said

    def forget(self):
        for name in RESULTS:
            shutil.rmtree(self.folder / name, ignore_errors=True)

    def bits(self, part=RESULTS):
        """Return all that the stages made, but logs and times."""
        kinds = ("*.safetensors", "*.ark", "scores.json", "config.json", "*.jsonl")
        files = {
            p
            for name in part
            for k in kinds
            for p in self.folder.glob(f"{name}/**/{k}")
        }
        return {
            str(path.relative_to(self.folder)): path.read_bytes()
            for path in files
            if path.name != "learning.jsonl"
        }

    def codebooks(self):
        banks = self.folder.glob("exp/slow/fold*/quantizer/*/model.safetensors")
        return {str(path): load_file(path) for path in banks}

    def log(self, job):
        path = self.folder / LOG.format(job)
        return path.read_text() if path.exists() else ""


@pytest.fixture(scope="module")
def recipe(tree, bare, slurm):
    folder = tree / "egs2" / "mini_emo" / "ser2"
    usual = (tree / "conf" / "quantizer" / "level.yaml").read_text()
    # Small chunks make passes slow enough to be interrupted.
    (folder / "slow.yaml").write_text(f"{usual}chunk_frames: 64\n")
    return Recipe(folder, bare | {"SLURM_CONF": str(slurm.conf)})


@pytest.fixture(scope="module")
def local(recipe):
    """Return the bits and codebooks of a local run, and only the data on disk."""
    recipe.run(1, 2, backend="local")
    recipe.run(3, 6, backend="local")
    made = recipe.bits(), recipe.codebooks()
    recipe.forget()
    return made


@pytest.fixture(scope="module")
def on_slurm(recipe, local):
    said = recipe.run(3, 6)
    return said, recipe.bits(), recipe.log(1)


def test_slurm_ends_in_the_bits_of_a_local_run(on_slurm, local):
    _, found, _ = on_slurm
    assert {"scores.json", "model.safetensors"} <= {
        name.split("/")[-1] for name in found
    }
    assert found.keys() == local[0].keys()
    assert [name for name in found if found[name] != local[0][name]] == []
    hashes = [
        json.loads(content)["codebooks_sha256"]
        for name, content in found.items()
        if name.endswith("config.json") and "quantizer" in name
    ]
    assert len(hashes) == 2  # one for each fold


def test_the_jobs_were_tasks_of_an_array_that_knew_only_the_path(on_slurm, recipe):
    _, _, log = on_slurm
    assert "SLURM_ARRAY_TASK_ID=1" in log and "SLURM_EXPORT_ENV=PATH" in log
    for script in recipe.folder.glob("**/q/*.sh"):
        assert "sbatch --export=PATH --signal=TERM@120" in script.read_text()
    scripts = {path.stem for path in recipe.folder.glob("**/q/*.sh")}
    assert {"dump_features", "merge", "learn_codebooks", "score"} <= scripts


def test_a_second_call_finds_everything_done(on_slurm, recipe):
    said = recipe.run(3, 6)
    assert said.count("2 of 2 jobs found their result up to date") == 4


@contextlib.contextmanager
def learning(recipe, slurm, *options):
    """Run stage 4 anew; go on when the first task has made some passes."""
    shutil.rmtree(recipe.folder / "exp", ignore_errors=True)
    process = recipe.start(4, 4, *options)
    try:
        end = time.monotonic() + 120
        while len(re.findall(r"level 1, iteration", recipe.log(1))) < 2:
            assert process.poll() is None, process.stdout.read()[-4000:]
            assert time.monotonic() < end, recipe.log(1)
            time.sleep(0.05)
        yield process, dict(re.findall(r"# (SLURM\w+)=(\S+)", recipe.log(1)))
    finally:
        process.terminate()  # slurm.pl cancels what it has submitted
        process.communicate(timeout=120)


def ends_with_an_error(process):
    said, _ = process.communicate(timeout=300)
    assert process.returncode != 0
    return said


@pytest.mark.parametrize("how", [[], ["--signal=TERM"]], ids=["scancel", "--signal"])
def test_learning_stops_between_passes_and_the_same_command_ends_in_the_same_bits(
    on_slurm, recipe, slurm, how
):
    # sbatch's --signal sends what `scancel --signal` does: to the steps alone.
    with learning(recipe, slurm) as (process, job):
        slurm.ask("scancel", *how, f"{job['SLURM_ARRAY_JOB_ID']}_1")
        said = ends_with_an_error(process)
    assert "stopped by SIGTERM, same command resumes at level" in said
    (place,) = re.findall(r"resumes at (level \d+, iteration \d+)", recipe.log(1))
    recipe.run(4, 4)
    assert f"resuming at {place}" in recipe.log(1)
    expected = {n: bits for n, bits in on_slurm[1].items() if "/quantizer/" in n}
    assert recipe.bits() == expected | recipe.bits(("dump",))


def test_two_processes_learn_the_codebooks_of_one_and_a_killed_one_is_named(
    on_slurm, recipe, slurm, local
):
    together = ["--learn_procs", "2"]
    with learning(recipe, slurm, *together) as (process, job):
        table = slurm.ask("scontrol", "listpids", job["SLURM_JOB_ID"]).splitlines()
        ranks = {
            row.split()[4]: int(row.split()[0]) for row in table if row[0].isdigit()
        }
        os.kill(ranks["1"], signal.SIGKILL)
        said = ends_with_an_error(process)
    assert f"rank 1 on {socket.gethostname()} (process {ranks['1']}) ended" in said
    recipe.run(4, 4, *together)
    assert "resuming at level" in recipe.log(1)
    found = recipe.codebooks()
    assert found.keys() == local[1].keys()
    for path, tensors in found.items():
        for name, tensor in tensors.items():
            if name.startswith("codebook"):
                assert_close(tensor, local[1][path][name], rtol=0, atol=1e-5)


def test_several_nodes_need_slurm(recipe, on_slurm):
    process = recipe.start(4, 4, "--learn_nodes", "2", backend="local")
    assert "--learn_nodes 2 needs --cmd_backend slurm" in ends_with_an_error(process)

"""cmd.sh, path.sh and conf/cluster, without a cluster."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]

# Runs tasks at once, as Grid Engine and PBS would later.
QSUB = """\
#!/usr/bin/env bash
echo "$0 $*" >>{calls}
script=${{!#}}
while [ $# -gt 1 ]; do
    case $1 in
        -t | -J) tasks=$2 ;;
    esac
    shift
done
for task in $(seq ${{tasks/[:-]/ }}); do
    env -i PATH="$PATH" HOME="$HOME" {task}=$task bash "$script"
done
echo '{answer}'
"""
PRINT = "import os; print(sorted(os.environ), os.environ['ESPNET_ROOT'])"
ALL_OPTIONS = "--mem 1G --time 1:00:00 --num-threads 2 --num-nodes 1 --gpu 1"


@pytest.fixture(scope="module")
def place(tree):
    return tree / "egs2" / "mini_emo" / "ser2"


@pytest.fixture
def shell(place, bare):
    """Run a line after path.sh and cmd.sh, as ser2.sh does."""

    def run(line, **variables):
        return subprocess.run(
            ["bash", "-euc", f". ./path.sh; . ./cmd.sh; {line}"],
            cwd=place,
            env=bare | variables,
            capture_output=True,
            text=True,
            check=False,
        )

    return run


def test_a_job_that_knows_only_the_path_has_the_environment_of_the_recipe(place, bare):
    head = 'set -eu; . ./path.sh; env -i PATH="$PATH" HOME="$HOME" bash -euc "$1"'
    job = f'cd "{place}"; . ./path.sh; python3 -c "{PRINT}"'
    found = subprocess.run(
        ["bash", "-c", head, "head", job],
        cwd=place,
        env=bare,
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    assert bare["ESPNET_ROOT"] in found
    for name in ("EMOQ_ROOT", "OMP_NUM_THREADS", "LC_ALL", "PYTHONUTF8"):
        assert f"'{name}'" in found


def test_scripts_of_espnet_in_the_path_do_not_skip_the_set_up(tmp_path, bare):
    # As where ESPnet's own path.sh, or the one of another clone, was sourced before.
    scripts = tmp_path / ".venv/espnet-1/egs2/TEMPLATE/asr1/utils"
    scripts.mkdir(parents=True)
    (scripts / "run.pl").touch(mode=0o755)
    local = tmp_path / "local"
    local.mkdir()
    shutil.copy(ROOT / "local/path.sh", local)
    setup = local / "setup.sh"
    setup.write_text('#!/bin/sh\necho "set-up: ${EMOQ_SETUP:-wanted}"\n')
    setup.chmod(0o755)
    skip = {"EMOQ_SETUP": "skip", "ESPNET_ROOT": str(scripts.parents[3])}
    for given, said in ({}, "set-up: wanted\n"), (skip, "set-up: skip\n"):
        clean = {k: v for k, v in bare.items() if k not in skip}
        found = subprocess.run(
            ["bash", "-euc", '. local/path.sh; env -i PATH="$PATH" bash local/path.sh'],
            cwd=tmp_path,
            env=clean | {"PATH": f"{scripts}:{bare['PATH']}"} | given,
            capture_output=True,
            text=True,
            check=True,
        )
        assert found.stdout == 2 * said


def test_a_step_may_use_the_cpus_of_its_job(shell):
    said = 'echo "${SRUN_CPUS_PER_TASK:-none}"'
    assert shell(said, SLURM_CPUS_PER_TASK="3").stdout == "3\n"
    assert shell(said).stdout == "none\n"


@pytest.mark.parametrize("backend", ["local", "stdout"])
def test_without_a_cluster_no_configuration_is_read(shell, backend):
    found = shell('echo "$train_cmd"', cmd_backend=backend)
    assert found.stdout.split() == [{"local": "run.pl"}.get(backend, "stdout.pl")]


@pytest.mark.parametrize(
    "backend, script, name",
    [
        ("slurm", "slurm.pl", "slurm.conf"),
        ("sge", "queue.pl", "queue.conf"),
        ("pbs", "pbs.pl", "pbs.conf"),
    ],
)
def test_the_configuration_of_the_recipe_wins(shell, place, backend, script, name):
    found = shell('echo "$train_cmd"', cmd_backend=backend).stdout.split()
    root = place.parents[2]
    assert found == [script, "--config", str(root / "conf" / "cluster" / name)]
    own = place / "conf" / name
    own.parent.mkdir(exist_ok=True)
    own.write_text("command x\n")
    try:
        assert shell('echo "$train_cmd"', cmd_backend=backend).stdout.split() == [
            script
        ]
    finally:
        own.unlink()


def test_options_for_every_job_come_last(shell):
    found = shell('echo "$train_cmd"', cmd_opts="--mem 8G --time 2:00:00")
    assert found.stdout.split() == ["run.pl", "--mem", "8G", "--time", "2:00:00"]


@pytest.mark.parametrize(
    "backend, message",
    [
        ("lsf", "cmd_backend='lsf', expected local, stdout, sge, pbs, slurm or ssh"),
        ("ssh", "cmd_backend='ssh' needs ssh.pl, which this ESPnet"),
    ],
)
def test_a_backend_that_cannot_work_says_why(shell, backend, message):
    found = shell("true", cmd_backend=backend)
    assert found.returncode == 1 and message in found.stderr


def test_a_path_with_spaces_is_refused_before_a_job_is_lost(shell, place, tmp_path):
    link = tmp_path / "with spaces"
    link.symlink_to(place.parents[2])
    line = f'cd "{link}/egs2/mini_emo/ser2"; . ./path.sh; . ./cmd.sh'
    found = shell(f'bash -euc "{line.replace(chr(34), chr(39))}"', cmd_backend="pbs")
    assert found.returncode == 1
    assert "move it to a path without spaces" in found.stderr


@pytest.mark.parametrize(
    "backend, task, answer, expected",
    [
        (
            "sge",
            "SGE_TASK_ID",
            'Your job-array 7.1-2:1 ("x") has been submitted',
            ["-v PATH", "-tc 3", "-pe smp 2", "-l gpu=1"],
        ),
        (
            "pbs",
            "PBS_ARRAY_INDEX",
            "7[].pbsserver",
            ["-v PATH", "-W max_run_subjobs=3", "-l ncpus=2", "-l ngpus=1"],
        ),
    ],
)
def test_grid_engine_and_pbs_get_all_options_and_run_in_the_environment(
    shell, place, bare, tmp_path, backend, task, answer, expected
):
    calls, programs = tmp_path / "calls", tmp_path / "bin"
    programs.mkdir()
    (programs / "qsub").write_text(QSUB.format(calls=calls, task=task, answer=answer))
    (programs / "qsub").chmod(0o755)
    log = f"{backend}/log/print.JOB.log"
    (place / backend / "q" / "sync").mkdir(parents=True)  # else the scripts sleep
    (place / "print.py").write_text(PRINT)
    found = shell(
        f"${{train_cmd}} {ALL_OPTIONS} --max-jobs-run 3 JOB=1:2 {log} python3 print.py",
        cmd_backend=backend,
        PATH=os.pathsep.join([str(programs), bare["PATH"]]),
    )
    assert found.returncode == 0, found.stderr
    for job in (1, 2):
        said = (place / log.replace("JOB", str(job))).read_text()
        assert "OMP_NUM_THREADS" in said and bare["ESPNET_ROOT"] in said
    for option in expected:
        assert option in calls.read_text()

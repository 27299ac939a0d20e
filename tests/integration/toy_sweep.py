"""A recipe of seconds with a study of a few jobs, for sweeps that are killed."""

import re
import shutil
import subprocess
import time
from collections import Counter

from emoq_plugin.files import read_json
from tests.recipe.small_study import make_recipe

STUDY = """
features: [fbank]
quantizers:
  tiny: {base: corpus, seeds: SEEDS, LEARNING}
rates: [4x1]
systems: [balanced, specific-distortion]
n_resamples: 20
"""
RUN = '#!/usr/bin/env bash\n./ser2.sh --corpus toy --synthetic true "$@"\n'
LEARNING = "learning: {max_iterations: 3}"
KINDS = ("model.safetensors", "codes.ark", "posteriors.jsonl", "conditions.jsonl")


class ToySweep:
    """Calls stage 7 of the recipe `toy` of a tree."""

    def __init__(self, tree, python, environment, *, seeds, learning=LEARNING):
        self.here, self.config = tree / "egs2/toy/ser2", tree / "toy.yaml"
        self.python, self.environment = str(python), environment
        links = tree / "egs2/mini_emo/ser2"
        self.here.mkdir(parents=True)
        for name in ("ser2.sh", "cmd.sh", "path.sh"):
            shutil.copy(links / name, self.here, follow_symlinks=False)
        (self.here / "run.sh").write_text(RUN)
        (self.here / "run.sh").chmod(0o755)
        study = STUDY.replace("SEEDS", str(seeds)).replace("LEARNING", learning)
        self.config.write_text(study)
        self.jobs = {f"toy-fbank-tiny-s{s}/fold{f}" for s in seeds for f in (1, 2)}
        make_recipe(self.here, "toy")
        self.output = self.here / "exp/study_toy"
        self.said = self.here / "said"

    def begin(self, *options):
        """Begin a sweep in a process group of its own."""
        command = ["./run.sh", "--stage", "7", "--stop_stage", "7"]
        command += ["--study_config", str(self.config), "--python", self.python]
        with open(self.said, "w") as output:
            return subprocess.Popen(
                [*command, *options],
                cwd=self.here,
                stdin=subprocess.DEVNULL,
                env=self.environment,
                stdout=output,
                stderr=subprocess.STDOUT,
                process_group=0,
            )

    def finish(self, *options):
        """Run a sweep to its end; give what it says."""
        code = self.begin(*options).wait(600)
        assert code == 0, self.said.read_text()[-4000:]
        return self.said.read_text()

    def done(self):
        return sorted(self.output.glob("toy-*/fold*/.job.done.json"))

    def wait_for_a_job(self, process, seconds=300):
        end = time.monotonic() + seconds
        while not self.done():
            assert process.poll() is None, self.said.read_text()[-4000:]
            assert time.monotonic() < end, self.said.read_text()[-4000:]
            time.sleep(0.02)
        return {f"{p.parts[-3]}/{p.parts[-2]}" for p in self.done()}

    def submitted(self):
        """Count how often each job was given to an array."""
        arrays = self.output.glob("log/array*/jobs")
        return Counter(name for path in arrays for name in path.read_text().split())

    def begun(self):
        """Count how often each job was begun."""
        logs = self.output.glob("log/array*/study.*.log")
        said = "\n".join(path.read_text() for path in logs)
        return Counter(re.findall(r"INFO: job \d+: (\S+)", said))

    def bits(self):
        """Return what a user reads, by name."""
        paths = (p for name in KINDS for p in self.output.rglob(name))
        found = {str(p.relative_to(self.output)): p.read_bytes() for p in paths}
        summary = read_json(self.output / "summary.json")
        assert summary["missing"] == [] and summary["jobs"] == len(self.jobs)
        return found | {"scores": summary["scores"]}

    def forget(self):
        shutil.rmtree(self.here / "exp", ignore_errors=True)

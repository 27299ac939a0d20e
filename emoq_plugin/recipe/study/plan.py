"""The jobs of a study: where their results are, and which are missing."""

import logging
from collections.abc import Sequence
from dataclasses import asdict, replace
from fnmatch import fnmatch
from functools import cached_property
from hashlib import sha256
from pathlib import Path
from typing import Any

from emoq_plugin import evaluation, learning, routing, units
from emoq_plugin.data.alignments import alignment_files
from emoq_plugin.data.folds import read_folds
from emoq_plugin.files import (
    atomic_write,
    read_json,
    read_yaml,
    sha256_of_file,
    write_json,
)
from emoq_plugin.recipe.stage import Stage
from emoq_plugin.recipe.study.config import Job, merged_options
from emoq_plugin.recipe.study.places import JOINED, StudyPlaces


class Study(StudyPlaces):
    """Jobs of a configuration, and what is missing; see `StudyPlaces`."""

    def leave_out_absent(self) -> None:
        """Leave out test corpora that were not prepared; `left_out` says why.

        Only where all others are there: what is learned must not depend on it.
        """
        places = {
            corpus: self.source_dirs(corpus, "")[0]
            for corpus in (*self.config.learn_on, *self.config.test_on)
        }
        absent = {c for c, p in places.items() if not (p / ".done.json").exists()}
        kept = {c: v for c, v in self.config.test_on.items() if c not in absent}
        if not kept or absent & set(self.config.learn_on):
            return
        self.config = replace(self.config, test_on=kept)
        for corpus in sorted(absent):
            self.left_out[corpus] = (
                f"{places[corpus]} has no finished result: run stages 1 to 3 of that "
                "recipe, then this study again"
            )
            why = self.left_out[corpus]
            logging.warning("test set %s is left out: %s", corpus, why)

    def sources(self) -> list[tuple[str, str]]:
        """Return every corpus with every feature that the study reads."""
        corpora = [*self.config.learn_on, *self.config.test_on] or [self.corpus]
        return [(c, f) for f in self.config.features for c in corpora]

    def source_dirs(self, corpus: str, feature: str) -> list[Path]:
        """Return the formatted set and features of a corpus, as stages 2-3 write."""
        dumpdir = self.recipe(corpus) / "dump" if self.crosses else self.dumpdir
        return [dumpdir / name / self.set_name for name in ("raw", feature)]

    def why_missing(self, feature: str) -> str | None:
        """Say why no job can run with a feature, or None."""
        path = self.feature_config(feature)
        if not path.exists():
            known = sorted(p.stem for p in path.parent.glob("*.yaml"))
            return f"feature '{feature}': {path} is missing, expected one of {known}"
        absent = [
            f"{corpus} ({place} has no finished result)"
            for corpus, name in self.sources()
            if name == feature
            for place in self.source_dirs(corpus, name)
            if not (place / ".done.json").exists()
        ]
        if not absent:
            return None
        leave = ", or take the corpus out of the study" if self.crosses else ""
        return (
            f"feature '{feature}' of {', '.join(absent)}: run stages 1 to 3 of that "
            f"recipe first{leave}"
        )

    def fold_names(self) -> tuple[str, ...]:
        """Return the folds; of a cross-corpus study, one for each test set."""
        if self.crosses:
            return tuple(str(n) for n in range(1, len(self.config.test_on) + 1))
        return tuple(fold.name for fold in read_folds(self.folds))

    def jobs(self, pattern: str = "") -> list[Job]:
        """Return the jobs whose name holds a pattern, whether they can run or not.

        Raises
        ------
        ValueError
            If no name matches.
        """
        folds = self.fold_names()
        groups = [folds] if self.crosses else [(fold,) for fold in folds]
        corpus = JOINED if self.crosses else self.corpus
        jobs = [
            Job(corpus, feature, quantizer, seed, group)
            for feature in self.config.features
            for quantizer, entry in self.config.quantizers.items()
            for seed in entry.get("seeds", [0])
            for group in groups
        ]
        main, entry = next(iter(self.config.quantizers.items()))
        jobs += [
            Job(corpus, feature, main, entry.get("seeds", [0])[0], group, left_out)
            for feature in self.config.features
            for left_out in self.config.left_out_classes
            for group in groups
        ]
        found = [job for job in jobs if fnmatch(job.name, f"*{pattern}*")]
        if not found:
            raise ValueError(f"no job matches '{pattern}': {[j.name for j in jobs]}")
        return found

    def runnable(self, pattern: str = "") -> list[Job]:
        """Return the jobs whose input is there; say why the others cannot run.

        Raises
        ------
        ValueError
            If none can run, with the reasons.
        """
        jobs = self.jobs(pattern)
        reasons = {
            f: self.why_missing(f) for f in dict.fromkeys(j.feature for j in jobs)
        }
        for reason in filter(None, reasons.values()):
            logging.warning("left out: %s", reason)
        found = [job for job in jobs if not reasons[job.feature]]
        if not found:
            raise ValueError("no job can run: " + "; ".join(map(str, reasons.values())))
        return found

    def settings(self, job: Job) -> dict[str, Any]:
        """Return what decides a job's result beside its input files."""
        config = self.config
        return {
            "rates": config.rates_of_job(job),
            "systems": config.systems_of_job(job),
            "cheap_rates": self.cheap_rates(job.feature, job.quantizer),
            "candidates": config.candidates(job.quantizer),
            "train_on": config.train_on,
            "crossfit": config.crossfit,
            "route_depth": config.route_depth,
            "quantizer": self.quantizer_options(job, config.systems_of_job(job)),
            "probe": read_yaml(self.probe_config),
            "alignments": self._alignments_sha256,
        }

    def why_undone(self, job: Job) -> str | None:
        """Say why a job has no result of this configuration, or None."""
        marker = self.marker(job)
        if not marker.exists():
            return self.why_missing(job.feature) or "has not been run, or has failed"
        try:
            same = read_json(marker)["fingerprint"] == self.stage(job).fingerprint
        except FileNotFoundError:
            same = False
        return None if same else "is not up to date: run the job again"

    def stage(self, job: Job) -> Stage:
        """Return the stage of all results of a job.

        Raises
        ------
        FileNotFoundError
            If one of them, or of what they are made from, is not finished.
        """
        # Where inputs have changed since, the results wait to be done again.
        files = [self.feature_dir(job.feature), self.data_dir, self.emotions]
        for fold in job.folds:
            place = self.fold_dir(job, fold)
            files += [place / "ser", *([] if job.left_out else [place / "measures"])]
            if self.chooses_apart(job):
                files.append(place / "select" / "ser")
            files += [self.folds / fold / part for part in ("train", "valid", "test")]
        marker = self.marker(job)
        return Stage(
            marker.parent,
            inputs=files,
            settings=self.settings(job),
            code=[learning, routing, units, evaluation],
            marker=marker.name,
        )

    @cached_property
    def _alignments_sha256(self) -> str | None:
        if self.alignments is None:
            return None
        hashes = sorted(map(sha256_of_file, alignment_files(self.alignments)))
        return sha256(" ".join(hashes).encode()).hexdigest()

    # ------------------------------------------------------------------------- files

    def cheap_rates(self, feature: str, quantizer: str) -> list[str]:
        """Return the rates that may be chosen, at the frame rate of the features."""
        from emoq_plugin.speech.encoders.encoder import FeatureSpecification

        path = self.feature_dir(feature) / "feature.json"
        spec = FeatureSpecification.from_json(read_json(path), path)
        return self.config.cheap_rates(feature, quantizer, spec.frame_rate_hz)

    def chooses_apart(self, job: Job) -> bool:
        """Return whether a job learns again without validation speakers, to choose.

        Once for each quantizer, where the heads have learned from them otherwise.
        """
        config = self.config
        return (
            config.train_on == "train+valid"
            and not job.left_out
            and job.seed == config.quantizers[job.quantizer].get("seeds", [0])[0]
            and bool(config.candidates(job.quantizer))
            and bool(self.cheap_rates(job.feature, job.quantizer))
        )

    def quantizer_options(self, job: Job, systems: Sequence[str]) -> dict[str, Any]:
        """Return options of a quantizer: its base, differences, expert sets, seed."""
        entry = self.config.quantizers[job.quantizer]
        base = read_yaml(self._base(job.quantizer, entry))
        return merged_options(base, entry, systems=systems, seed=job.seed)

    def write_quantizer_config(
        self, job: Job, systems: Sequence[str], place: Path
    ) -> Path:
        """Write the options for stage 4 into a directory; give the file."""
        import yaml

        path = place / "quantizer.yaml"
        options = yaml.safe_dump(self.quantizer_options(job, systems), sort_keys=False)
        text = f"# Quantizer '{job.quantizer}' of study {self.name}.\n{options}"
        if not path.exists() or path.read_text("utf-8") != text:
            with atomic_write(path) as stream:
                stream.write(text)
        return path

    def write_card(self, jobs: Sequence[Job]) -> None:
        """Write study.json: the configuration and all jobs."""
        card = {
            "study": self.name,
            "corpus": self.corpus,
            "config": asdict(self.config),
            "jobs": [job.name for job in jobs],
        }
        write_json(self.output / "study.json", card)

"""Cost per hour of speech of every stage, and plans for 1,000 and 100,000 hours.

`measure` runs stages 2 to 6 on a part of a corpus, at two sizes, by two encoders
(log-mel and a random network of the size of HuBERT-base), and writes constants. `plan`
prints the tables of docs/scaling.md from them.

    python -m benchmarks.scaling measure --data egs2/emodb/ser2/data
    python -m benchmarks.scaling plan
"""

import argparse
import json
import math
import os
import shlex
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from itertools import zip_longest
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np

from emoq_plugin.files import (
    atomic_write,
    read_json,
    read_table,
    write_json,
    write_table,
)

ROOT = Path(__file__).resolve().parents[1]
CONSTANTS = Path(__file__).with_name("scaling.json")
BEGIN, END = "<!-- begin of the plan -->\n", "<!-- end of the plan -->\n"
RATE = "64x2"
SYSTEMS = ("balanced", "specific-distortion")
LEARNING = {"max_iterations": 4, "tolerance": 0.0}
STAGES = {
    "format": "2 format",
    "dump": "3 features",
    "pass": "4 codebooks, a pass",
    "once": "4 codebooks, the rest",
    "units": "5 units",
    "probe": "6 probe",
}
TABLES = ("utt2spk", "utt2emo", "utt2votes", "text")

# ---------------------------------------------------------------------------- measure


def run(command: str, *options: Any, cwd: Path) -> dict[str, float]:
    """Run a stage's command; give seconds (wall, CPU) and peak memory (MB)."""
    call = [sys.executable, "-m", f"emoq_plugin.bin.{command}", *map(str, options)]
    start = time.monotonic()
    with tempfile.TemporaryFile("w+") as log:
        process = subprocess.Popen(
            call,
            cwd=cwd,
            env=os.environ | {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"},
            stdout=log,
            stderr=subprocess.STDOUT,
        )
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            log.seek(0)
            raise RuntimeError(f"{shlex.join(call)}:\n{log.read()[-3000:]}")
    return {
        "wall": time.monotonic() - start,
        "cpu": usage.ru_utime + usage.ru_stime,
        "peak_mb": usage.ru_maxrss * 1024 / 1e6,
    }


def bytes_below(folder: Path) -> int:
    """Add up the files of a directory."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def write_part(data: Path, clips: Sequence[str], folder: Path) -> None:
    """Write a data directory of some clips."""
    source = data / "all"
    kept = set(clips)
    for name in TABLES:
        if (source / name).exists():
            table = read_table(source / name)
            write_table(folder / name, {u: v for u, v in table.items() if u in kept})
    wav = read_table(source / "wav.scp")
    if (source / "segments").exists():
        segments = read_table(source / "segments")
        write_table(folder / "segments", {u: segments[u] for u in kept})
        kept = {segments[u].split()[0] for u in kept}
    write_table(folder / "wav.scp", {r: v for r, v in wav.items() if r in kept})


def write_encoder(folder: Path) -> Path:
    """Save a random HuBERT of the base size; give its configuration for stage 3."""
    import torch
    import transformers

    torch.manual_seed(0)
    model = transformers.HubertModel(transformers.HubertConfig())
    model.save_pretrained(folder)
    transformers.Wav2Vec2FeatureExtractor().save_pretrained(folder)
    path = folder / "hubert_base.yaml"
    path.write_text(f"encoder: huggingface\nconf: {{model: '{folder}'}}\n")
    return path


def network(folder: Path) -> Path:
    """Call `write_encoder` in a process of its own.

    Linux hands the peak memory of a process down to those that it starts.
    """
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        return pool.submit(write_encoder, folder).result()


def stages_once(
    data: Path,
    clips: Sequence[str],
    feature_config: Path,
    quantizer_config: Path,
    work: Path,
    device: str,
) -> dict[str, Any]:
    """Run stages 2 to 6 on some clips, fold 1; give what each took."""
    recipe = data.parent  # tables may name audio relative to it
    part, raw, features = work / "data", work / "raw", work / "features"
    quantizer, units, heads = work / "quantizer", work / "units", work / "ser"
    write_part(data, clips, part)
    emotions, folds = data / "emotions", data / "folds"
    found = {}
    found["format"] = run(
        "format_data",
        *("--data_dir", part, "--emotions", emotions, "--output_dir", raw),
        cwd=recipe,
    )
    dump = ["--data_dir", raw, "--output_dir", features, "--config", feature_config]
    found["dump"] = run("dump_features", *dump, "--device", device, cwd=recipe)
    run("dump_features", *dump, "--merge", "true", cwd=recipe)
    common = ["--data_dir", raw, "--emotions", emotions, "--folds", folds]
    common += ["--fold", "1", "--feature_dir", features, "--rates", RATE]
    found["learn"] = run(
        "learn_codebooks",
        *(*common, "--config", quantizer_config, "--corpus", "part"),
        *("--output_dir", quantizer, "--device", device),
        cwd=recipe,
    )
    common += ["--quantizer_dir", quantizer, "--systems", *SYSTEMS]
    found["units"] = run("encode_units", *common, "--output_dir", units, cwd=recipe)
    probe = ["--units_dir", units, "--config", ROOT / "conf/ser/probe.yaml"]
    found["probe"] = run(
        "ser_probe", *common, *probe, "--output_dir", heads, cwd=recipe
    )
    log = next(quantizer.rglob("learning.jsonl")).read_text().splitlines()
    learned = {(p["level"], p["iteration"]): p["seconds"] for p in map(json.loads, log)}
    found["passes"] = list(learned.values())
    samples = read_table(raw / "utt2num_samples")
    train = set((folds / "1/train").read_text().split())
    found["hours"] = sum(map(int, samples.values())) / 16000 / 3600
    trained = [int(n) for u, n in samples.items() if u in train]
    found["training_hours"] = sum(trained) / 16000 / 3600
    outputs = {"format": raw, "dump": features, "units": units, "probe": heads}
    outputs["learn"] = quantizer
    found["bytes"] = {name: bytes_below(path) for name, path in outputs.items()}
    return found


def constants_of(small: Mapping[str, Any], large: Mapping[str, Any]) -> dict[str, Any]:
    """Separate what grows with the speech from what a job takes to start.

    Parameters
    ----------
    small, large : mapping
        `stages_once` at two sizes. Costs are taken as start + hours * slope; a slope or
        start that noise makes negative is zero.

    Returns
    -------
    dict of str to dict
        By stage (see `STAGES`): `wall` and `cpu` seconds and `bytes` for an hour of
        speech (of training speech in stage 4), `start` CPU seconds of a job, `peak_mb`.
    """
    found = {}
    for name in ("format", "dump", "learn", "units", "probe"):
        hours = "training_hours" if name == "learn" else "hours"
        x = [end[hours] for end in (small, large)]
        costs = {"peak_mb": large[name]["peak_mb"]}
        if name == "learn":
            costs["bytes"] = 0.0  # of a size of its own
            # What a pass takes of the processor, the command as a whole shows.
            shares = [end[name]["cpu"] / end[name]["wall"] for end in (small, large)]
            a_pass = float(np.median(large["passes"])) / x[1]
            cost = {"wall": a_pass, "cpu": a_pass * shares[1], "start": 0.0}
            found["pass"] = costs | cost
        else:
            costs["bytes"], _ = line(x, [end["bytes"][name] for end in (small, large)])
        for kind in ("wall", "cpu"):
            y = [end[name][kind] for end in (small, large)]
            if name == "learn":
                passes = [sum(end["passes"]) for end in (small, large)]
                if kind == "cpu":
                    passes = np.multiply(passes, shares)
                y = np.maximum(0.0, np.subtract(y, passes))
            costs[kind], start = line(x, y)
            if kind == "cpu":
                costs["start"] = start
        found["once" if name == "learn" else name] = costs
    return {
        name: {key: round(float(value), 3) for key, value in costs.items()}
        for name, costs in found.items()
    }


def line(x: Sequence[float], y: Sequence[float]) -> tuple[float, float]:
    """Return slope and start of the line through two points, neither below zero."""
    slope = max(0.0, (y[1] - y[0]) / (x[1] - x[0]))
    return slope, max(0.0, y[1] - slope * x[1])


def checkpoint_seconds(n_bytes: int, folder: Path) -> float:
    """Time the write of a checkpoint, on disk before it has its name."""
    times = []
    for _ in range(5):
        start = time.monotonic()
        with atomic_write(folder / "checkpoint", "wb") as stream:
            stream.write(bytes(n_bytes))
        times.append(time.monotonic() - start)
    return float(np.median(times))


def choose_clips(data: Path, seed: int = 0) -> list[str]:
    """Order the clips so that the first ones have all classes, to train and test."""
    clips = sorted(read_table(data / "all" / "utt2spk"))
    labels = data / "all" / "utt2emo"
    emotion = read_table(labels) if labels.exists() else {}
    train = set((data / "folds/1/train").read_text().split())
    groups = defaultdict(list)
    for i in np.random.default_rng(seed).permutation(len(clips)):
        groups[emotion.get(clips[i]), clips[i] in train].append(clips[i])
    rounds = zip_longest(*groups.values())
    return [clip for several in rounds for clip in several if clip is not None]


def measure(options: argparse.Namespace) -> None:
    """Measure, write the constants, print the table."""
    import yaml

    data = options.data.resolve()
    clips = choose_clips(data)
    encoders = {}
    with tempfile.TemporaryDirectory(dir=options.work_dir) as folder:
        work = Path(folder)
        quantizer = yaml.safe_load((ROOT / "conf/quantizer/level.yaml").read_text())
        quantizer |= {"expert_sets": ["balanced", "specific"]}
        quantizer["learning"] |= LEARNING
        (work / "quantizer.yaml").write_text(yaml.safe_dump(quantizer))
        configs = {
            "log-mel": (ROOT / "conf/features/fbank.yaml", len(clips)),
            "base network": (network(work / "hubert"), options.network_clips),
        }
        for name, (config, count) in configs.items():
            ends = []
            for n in (max(options.smallest, count // 4), count):
                place = work / f"{config.stem}{n}"
                ends.append(
                    stages_once(
                        data,
                        clips[:n],
                        config,
                        work / "quantizer.yaml",
                        place,
                        options.device,
                    )
                )
                print(f"{name}: {n} clips, {ends[-1]['hours']:.3f} h", flush=True)
            card = read_json(place / "features/feature.json")
            encoders[name] = {
                "dimension": card["dimension"],
                "measured_hours": [round(end["hours"], 4) for end in ends],
                "stages": constants_of(*ends),
            }
        size, levels = map(int, RATE.split("x"))
        # Codebooks, sums and best codebooks of five experts.
        n_bytes = 3 * 5 * size * levels * 768 * 4
        seconds = checkpoint_seconds(n_bytes, work)
    constants = {
        "machine": options.machine,
        "device": options.device,
        "conditions": options.conditions,
        "rate": RATE,
        "systems": list(SYSTEMS),
        "checkpoint_seconds": round(seconds, 4),
        "encoders": encoders,
    }
    write_json(options.output, constants)
    print("\n".join(table_of_constants(constants)))


# ------------------------------------------------------------------------------- plan


def young(start: float, mean_time: float) -> float:
    """Return the seconds of work between checkpoints that lose least (Young 1974).

    Parameters
    ----------
    start : float
        Seconds that a checkpoint, or the start of a job, takes.
    mean_time : float
        Mean time between failures of all that the work runs on, seconds.

    Examples
    --------
    >>> young(10, 72000)
    1200.0
    """
    return math.sqrt(2 * start * mean_time)


def expected_seconds(work: float, start: float, mean_time: float) -> float:
    """Return the mean time of a job that begins anew after each failure (Daly 2006).

    Failures come at random, on average after `mean_time`; all in seconds.

    Examples
    --------
    >>> round(expected_seconds(3600, 0, 1e12))
    3600
    >>> round(expected_seconds(3600, 0, 3600))
    6186
    """
    return mean_time * math.expm1((work + start) / mean_time)


def row(conditions: Iterable[Any]) -> str:
    """Return a row of a Markdown table."""
    return "| " + " | ".join(map(str, conditions)) + " |"


def number(value: float) -> str:
    """Return about two digits and no more.

    Examples
    --------
    >>> number(0.0123), number(1.234), number(123.4), number(12345.6)
    ('0.012', '1.2', '120', '12,000')
    """
    if not value:
        return "0"
    digits = 1 - math.floor(math.log10(abs(value)))
    return f"{round(value, digits):,.{max(0, digits)}f}"


def table_of_constants(constants: Mapping[str, Any]) -> Iterator[str]:
    """Return the lines of the measured constants."""
    yield (
        f"Measured on: {constants['machine']}; {constants['conditions']}; one thread a "
        f"job; codebooks at {constants['rate']} for 5 experts, units and probe of "
        f"{len(constants['systems'])} systems."
    )
    for name, encoder in constants["encoders"].items():
        sizes = " and ".join(f"{60 * h:.1f}" for h in encoder["measured_hours"])
        yield ""
        values = f"{encoder['dimension']} values a frame"
        yield f"{name}, {values} ({sizes} min of speech), per hour of speech:"
        yield ""
        yield row(("stage", "wall s", "CPU s", "MB", "start, CPU s", "peak MB"))
        yield row(["---"] * 6)
        for key, title in STAGES.items():
            c = encoder["stages"][key]
            values = (c["wall"], c["cpu"], c["bytes"] / 1e6, c["start"], c["peak_mb"])
            yield row((title, *map(number, values)))


def steps(stages: Mapping[str, Any], hours: float, options: Any) -> dict[str, Any]:
    """Return core hours (CPU time) and disk (GB) of everything that a plan can hold."""
    learned = min(hours, options.learn_hours)

    def cost(name: str, amount: float, times: float = 1.0) -> float:
        return stages[name]["cpu"] * amount * times / 3600

    passes = options.passes
    every = cost("once", hours) + cost("pass", hours, passes)
    part = cost("once", learned) + cost("pass", learned, passes)
    again = cost("dump", learned, passes)
    disk = {name: stages[name]["bytes"] * hours / 1e9 for name in stages}
    rows = {
        "2 format": (cost("format", hours), disk["format"]),
        "3 features": (cost("dump", hours), disk["dump"]),
        f"4 codebooks, {hours:,} h": (every, 0.0),
        f"4 codebooks, {learned:,.0f} h": (part, 0.0),
        f"4 {learned:,.0f} h without a dump, {passes} passes": (part + again, 0.0),
        "5 units": (cost("units", hours), disk["units"]),
        "6 probe": (cost("probe", hours), disk["probe"]),
    }
    return {name: {"core_hours": c, "disk_gb": d} for name, (c, d) in rows.items()}


def plan_for(constants: Mapping[str, Any], hours: float, options: Any) -> Iterator[str]:
    """Return the lines of the plan for so many hours."""
    yield f"### {hours:,} hours"
    for name, encoder in constants["encoders"].items():
        stages = encoder["stages"]
        table = steps(stages, hours, options)
        # Of the ways to learn codebooks the cheapest, which reads a dump.
        *ways, _ = [step for step in table if step.startswith("4")]
        chosen = [step for step in table if not step.startswith("4")]
        chosen.append(min(ways, key=lambda way: table[way]["core_hours"]))
        total = sum(table[step]["core_hours"] for step in chosen)
        nodes = math.ceil(total / options.cores / (24 * options.days))
        binding = max(chosen, key=lambda step: table[step]["core_hours"])
        share = 100 * table[binding]["core_hours"] / total
        yield ""
        yield f"{name}:"
        yield ""
        yield row(("stage", "core hours", f"hours on 1 node of {options.cores} cores",
                   f"hours on {nodes} node(s)", "disk GB"))  # fmt: skip
        yield row(["---"] * 5)
        for step, costs in table.items():
            c = costs["core_hours"]
            spread = (c, c / options.cores, c / options.cores / nodes)
            yield row((step, *map(number, spread), number(costs["disk_gb"])))
        yield ""
        learned = min(hours, options.learn_hours)
        whole = table["3 features"]["disk_gb"]
        yield (
            f"Within {options.days:g} days: **{nodes} node(s)** ({number(total)} core "
            f"hours, codebooks from {learned:,.0f} h). Binding: {binding} "
            f"({share:.0f} %). Features of the {learned:,.0f} h that codebooks learn "
            f"from fill {number(whole * learned / hours)} GB, of all "
            f"{number(whole)} GB."
        )
        yield from how_often(constants, stages, table, nodes, options)


def how_often(
    constants: Mapping[str, Any],
    stages: Mapping[str, Any],
    table: Mapping[str, Any],
    nodes: int,
    options: Any,
) -> Iterator[str]:
    """Return the lines about the length of jobs and the time between checkpoints."""
    yield ""
    yield row(("mean time between failures of a node", "job of stage 3", "`--nj`",
               "lost to failures and starts", "4: checkpoint every"))  # fmt: skip
    yield row(["---"] * 5)
    # At least a second: noise may have hidden what a job takes to start.
    start = max(1.0, stages["dump"]["start"])
    work = max(1.0, table["3 features"]["core_hours"] * 3600)
    for failure_hours in options.failure_hours:
        mean_time = 3600.0 * failure_hours
        length = min(young(start, mean_time), work)
        jobs = math.ceil(work / length)
        lost = 100 * (expected_seconds(length, start, mean_time) / length - 1)
        interval = young(constants["checkpoint_seconds"], mean_time / nodes)
        yield row((
            f"{failure_hours:,} h", f"{number(length / 60)} min", f"{jobs:,}",
            f"{number(lost)} %", f"{number(interval)} s",
        ))  # fmt: skip


def make_plan(constants: Mapping[str, Any], options: Any) -> str:
    """Return the text that docs/scaling.md holds between its marks."""
    lines = [*table_of_constants(constants)]
    for hours in options.hours:
        lines += ["", *plan_for(constants, hours, options)]
    return "\n".join(lines) + "\n"


def plan(options: argparse.Namespace) -> None:
    """Print the plan, or put it into a page."""
    text = make_plan(read_json(options.constants), options)
    if not options.update:
        print(text, end="")
        return
    page = options.update.read_text(encoding="utf-8")
    head, begin, rest = page.partition(BEGIN)
    _, end, tail = rest.partition(END)
    if not begin or not end:
        raise ValueError(
            f"{options.update}: expected {BEGIN.strip()} and {END.strip()}"
        )
    with atomic_write(options.update) as stream:
        stream.write(f"{head}{BEGIN}\n{text}\n{END}{tail}")


def get_parser() -> argparse.ArgumentParser:
    """Make the parser of the command."""
    parser = argparse.ArgumentParser(prog="benchmarks.scaling", description=__doc__)
    uses = parser.add_subparsers(dest="use", required=True)
    add = uses.add_parser("measure", help="write the constants").add_argument
    add("--data", type=Path, required=True, help="`data` of a recipe after stage 1")
    add("--network_clips", type=int, default=48, help="that the network encodes")
    add("--smallest", type=int, default=16, help="clips")
    add("--device", default="cpu", choices=["cpu", "cuda"])
    add("--machine", default="2 cores, no GPU", help="its name in the tables")
    add("--conditions", default="nothing else running", help="what else ran")
    add("--work_dir", type=Path, help="where temporary files go")
    add("--output", type=Path, default=CONSTANTS, help="JSON file of constants")
    add = uses.add_parser("plan", help="print the tables").add_argument
    add("--constants", type=Path, default=CONSTANTS)
    add("--hours", type=int, nargs="+", default=[1000, 100_000], help="of speech")
    add("--learn_hours", type=float, default=1000, help="that codebooks learn from")
    add("--passes", type=int, default=40, help="of stage 4: iterations times levels")
    add("--cores", type=int, default=64, help="of a node")
    add("--days", type=float, default=7, help="that all stages may take")
    add("--failure_hours", type=int, nargs="+", default=[24, 1000], help="of a node")
    add("--update", type=Path, help="page to put the tables into")
    return parser


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command."""
    options = get_parser().parse_args(arguments)
    {"measure": measure, "plan": plan}[options.use](options)


if __name__ == "__main__":
    main()

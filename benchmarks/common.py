"""What both benchmarks share: data, fresh processes, timing, machine metadata, tables.

Every contender runs in a process of its own with the same number of threads, so that
its peak memory is its own and no thread pool disturbs another. A contender is a
function ``prepare(task) -> run``; ``run()`` is what is timed.
"""

import argparse
import contextlib
import importlib.util
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np

from emoq_plugin.bin._command import str2bool
from emoq_plugin.files import read_json, write_json

ROOT = Path(__file__).resolve().parents[1]
EMOTIONS = ("angry", "happy", "neutral", "sad")
CLIP_FRAMES = 300
CLUSTERS = 256
DATA = (
    f"{CLUSTERS} Gaussian clusters (about the phones of a language times contexts) "
    "that hold for 1 to 15 frames, standard deviations decaying as (1 + d)^-0.5 over "
    f"the dimensions, noise of the same spectrum at 0.7 plus white noise at 0.03, "
    f"clips of {CLIP_FRAMES} frames with an offset of their emotion and one of their "
    "own"
)
FRAMES = "frames.f32"
CLOCKS = {"wall": time.perf_counter, "cpu": time.process_time}


# --- data ---------------------------------------------------------------------------


def make_clips(
    n_frames: int, dimension: int, *, seed: int
) -> Iterator[tuple[str, np.ndarray]]:
    """Draw clips of a mixture that looks like features of a self-supervised model.

    Fewer frames give the beginning of the same stream. Clip i has emotion i mod 4.

    Parameters
    ----------
    n_frames : int
    dimension : int
    seed : int

    Yields
    ------
    name : str
    frames : (T, D) float32 array
        T = 300, less in the last clip.
    """
    rng = np.random.default_rng(seed)
    scale = ((1.0 + np.arange(dimension)) ** -0.5).astype(np.float32)
    scale = rng.permutation(scale)
    centres = scale * rng.standard_normal((CLUSTERS, dimension), dtype=np.float32)
    offsets = rng.standard_normal((len(EMOTIONS), dimension), dtype=np.float32)
    offsets *= 0.5 * scale
    for number, start in enumerate(range(0, n_frames, CLIP_FRAMES)):
        rng = np.random.default_rng([seed, number])
        runs = rng.integers(1, 16, size=CLIP_FRAMES)
        cluster = rng.integers(CLUSTERS, size=CLIP_FRAMES).repeat(runs)[:CLIP_FRAMES]
        noise = rng.standard_normal((CLIP_FRAMES, dimension), dtype=np.float32)
        own = 0.3 * rng.standard_normal(dimension, dtype=np.float32)
        white = rng.standard_normal((CLIP_FRAMES, dimension), dtype=np.float32)
        frames = centres[cluster] + scale * (0.7 * noise + own) + 0.03 * white
        frames += offsets[number % len(EMOTIONS)]
        yield f"clip{number:06d}", frames[: n_frames - start]


def clips_of(task: "Task", n_frames: int) -> Iterator[tuple[str, np.ndarray]]:
    """Give the clips of a task: those of `--features`, else made ones.

    Parameters
    ----------
    task : Task
    n_frames : int

    Yields
    ------
    name : str
    frames : (T, D) float32 array
        Features are centred by clip, as the recipes' default does.
    """
    if task.features is None:
        yield from make_clips(n_frames, task.dimension, seed=task.seed)
        return
    from emoq_plugin.speech.store import FeatureStore

    store, left = FeatureStore(task.features), n_frames
    for name in store.utterances:
        if left <= 0:
            return
        frames = np.asarray(store[name], dtype=np.float32)
        yield name, (frames - frames.mean(axis=0))[:left]
        left -= len(frames)


def size_of_features(directory: Path) -> dict[str, int]:
    """Give the options that the features decide: frames, if they are all, dimension."""
    from emoq_plugin.speech.store import FeatureStore

    store = FeatureStore(directory)
    dimension = store[store.utterances[0]].shape[1]
    return {"frames": sum(store.lengths.values()), "dimension": dimension}


def expert_weights(n_frames: int) -> np.ndarray:
    """Return (N, 4) weights that hand every frame to expert of its clip's emotion."""
    emotion = np.arange(n_frames) // CLIP_FRAMES % len(EMOTIONS)
    return np.eye(len(EMOTIONS), dtype=np.float32)[emotion]


class Task:
    """What a contender is given.

    Parameters
    ----------
    folder : Path
        Where the frames, the settings and the results are.
    settings : mapping
        Options of the benchmark.
    n_frames : int, optional
        Only the first frames; all when None.
    """

    def __init__(
        self, folder: Path, settings: Mapping[str, Any], n_frames: int | None = None
    ):
        self.folder = folder
        self.settings = dict(settings)
        self.n_frames = n_frames or settings["frames"]

    def __getattr__(self, name: str) -> Any:
        try:
            return self.settings[name]
        except KeyError:
            raise AttributeError(name) from None

    @cached_property
    def frames(self) -> np.ndarray:
        """The (N, D) float32 frames, in memory."""
        count = self.n_frames * self.dimension
        flat = np.fromfile(self.folder / FRAMES, dtype=np.float32, count=count)
        return flat.reshape(self.n_frames, self.dimension)

    def head(self) -> "Task":
        """Return the small task of the warm-up: enough frames for every codebook."""
        few = max(8 * self.codebook_size, 16 * CLIP_FRAMES)
        return Task(self.folder, self.settings, min(few, self.n_frames))

    def synchronise(self) -> None:
        """Wait for the accelerator, if the contender runs on one."""
        if self.device != "cpu":
            import torch

            torch.cuda.synchronize()


# --- one contender ------------------------------------------------------------------


@dataclass(frozen=True)
class Contender:
    """One line of a table.

    Attributes
    ----------
    title : str
    prepare : callable
        ``prepare(task) -> run``; ``run()`` gives the result.
    evaluate : callable or None
        ``evaluate(task, result) -> dict`` of figures, neither timed nor in the memory.
    needs : tuple of str
        Packages; the contender is left out where one is missing.
    iterations : bool
        Whether the time per Lloyd iteration means something.
    warm_up : bool
    threads, ranks : int or None, int
        Where they are not those of the benchmark.
    cpu_only : bool
    repeats : int or None
        Where not those of the benchmark.
    """

    title: str
    prepare: Callable[[Task], Callable[[], Any]]
    evaluate: Callable[[Task, Any], dict] | None = None
    needs: tuple[str, ...] = ()
    iterations: bool = False
    warm_up: bool = True
    threads: int | None = None
    ranks: int = 1
    cpu_only: bool = True
    repeats: int | None = None


def memory_mb(field: str) -> float | None:
    """Read a field of this process's memory in MB: VmRSS, or VmHWM for the peak.

    Not `ru_maxrss`: Linux hands that of the launching process down to the child.
    """
    try:
        lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    except OSError:
        return None
    found = [line.split()[1] for line in lines if line.startswith(f"{field}:")]
    return int(found[0]) * 1024 / 1e6 if found else None


def _barrier() -> None:
    if "RANK" in os.environ:
        from torch import distributed

        distributed.barrier()


def run_contender(contender: Contender, task: Task, *, isolated: bool) -> dict:
    """Warm up, repeat, and give seconds, peak memory and figures of `evaluate`.

    Repeats end early when they have used `budget` seconds together.
    """
    if "RANK" in os.environ:
        from torch import distributed

        distributed.init_process_group("gloo")
    if contender.warm_up:
        contender.prepare(task.head())()
    run = contender.prepare(task)
    before, seconds = memory_mb("VmRSS"), []
    while len(seconds) < (contender.repeats or task.repeats):
        _barrier()
        start = CLOCKS[task.clock]()
        result = run()
        task.synchronise()
        _barrier()
        seconds.append(CLOCKS[task.clock]() - start)
        if sum(seconds) > task.budget:
            break
    found = {
        "title": contender.title,
        "seconds": statistics.median(seconds),
        "repeats": seconds,
        "before_mb": before if isolated else None,
        "peak_mb": memory_mb("VmHWM") if isolated else None,
    }
    if contender.iterations:
        found["seconds_per_iteration"] = found["seconds"] / task.iterations
    return found | (contender.evaluate(task, result) if contender.evaluate else {})


def _in_fresh_process(module: str, name: str, contender: Contender, task: Task) -> dict:
    result = task.folder / f"{name}.json"
    threads = str(contender.threads or task.threads)
    pools = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
    python = [sys.executable]
    if contender.ranks > 1:
        python += ["-m", "torch.distributed.run", "--standalone"]
        python += [f"--nproc_per_node={contender.ranks}"]
    done = subprocess.run(
        [*python, "-m", module, f"--contender={name}", f"--folder={task.folder}"],
        env=os.environ | dict.fromkeys(pools, threads),
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    if done.returncode:
        raise RuntimeError(f"contender '{name}' failed:\n{done.stderr[-3000:]}")
    return read_json(result)


# --- the machine --------------------------------------------------------------------


def versions() -> dict[str, str]:
    """Give the versions of the libraries that are compared, those that are there."""
    names = ("numpy", "scikit-learn", "faiss-cpu", "superkmeans")
    found = {}
    for name in (*names, "vector-quantize-pytorch"):
        with contextlib.suppress(metadata.PackageNotFoundError):
            found[name] = metadata.version(name)
    return found


def machine(task: Task) -> dict:
    """Say what the figures were measured on."""
    import torch

    name = platform.processor()
    if Path("/proc/cpuinfo").exists():
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        models = [line.partition(":")[2] for line in lines if "model name" in line]
        name = models[0].strip() if models else name
    found = {
        "processor": name,
        "cores": len(os.sched_getaffinity(0)),
        "threads": task.threads,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "libraries": versions(),
        "cpu_capability": torch.backends.cpu.get_cpu_capability(),
        "device": task.device,
        "clock": task.clock,
    }
    if task.device != "cpu":
        found["accelerator"] = torch.cuda.get_device_name()
    return found


def rates(task: Task) -> Callable[[], dict]:
    """Measure what the machine can do: matrix products and copies.

    Returns
    -------
    run : callable
        Gives fp32 and bf16 operations per second of (rows, D) x (D, K) products, the
        best of three row counts; of fp32 also by oneDNN's linear operator, where torch
        has it, and as `float32` the better of the two; and bytes per second (read and
        written) of a copy.
    """
    import torch

    from emoq_plugin.core.nearest import score_table

    clock = CLOCKS[task.clock]

    def best(work: Callable[[], Any], amount: float, seconds: float = 0.3) -> float:
        work()
        times: list[float] = []
        while sum(times) < seconds or len(times) < 3:
            task.synchronise()
            start = clock()
            work()
            task.synchronise()
            times.append(clock() - start)
        return amount / statistics.median(times)

    def run() -> dict:
        shape, found = (task.dimension, task.codebook_size), {}
        for dtype in (torch.float32, torch.bfloat16):
            table = torch.randn(shape, device=task.device).to(dtype)
            codebook, half = table.T.contiguous(), table.new_zeros(shape[1])
            speeds, others = [], []
            for rows in (2048, 8192, 32768):
                frames = torch.randn((rows, shape[0]), device=task.device).to(dtype)
                out = frames @ table
                product = lambda: torch.mm(frames, table, out=out)  # noqa: B023, E731
                amount = 2.0 * rows * shape[0] * shape[1]
                speeds.append(best(product, amount))
                scores = lambda: score_table(frames, codebook, half)  # noqa: B023, E731
                others.append(best(scores, amount))
            name = str(dtype).removeprefix("torch.")
            found |= {f"{name}_mm": max(speeds), f"{name}_linear": max(others)}
            found[name] = max(*speeds, *others)
        big = torch.empty(2**24, device=task.device)  # 64 MiB
        target = torch.empty_like(big)
        found["copy"] = best(lambda: target.copy_(big), 2.0 * 4 * 2**24)
        return found

    return run


MACHINE = Contender(
    "machine",
    rates,
    lambda task, result: {"machine": machine(task), "rates": result},
    warm_up=False,
    cpu_only=False,
    repeats=1,
)


# --- the command --------------------------------------------------------------------


def get_parser(description: str, full: dict, quick: dict) -> argparse.ArgumentParser:
    """Make the parser of a benchmark.

    Parameters
    ----------
    description : str
    full, quick : dict
        Default sizes by option, without and with `--quick`.
    """
    parser = argparse.ArgumentParser(description=description)
    add = parser.add_argument
    add("--quick", action="store_true", help="sizes for a test of a minute")
    for name, size in full.items():
        add(f"--{name}", type=int, help=f"default {size}, quick {quick[name]}")
    add("--repeats", type=int, default=3)
    add("--budget", type=float, default=120.0, help="seconds of a contender's repeats")
    add("--threads", type=int, default=2)
    add(
        "--clock",
        choices=list(CLOCKS),
        default="wall",
        help="cpu: CPU seconds of all threads, for a machine that others use too",
    )
    add("--seed", type=int, default=0)
    add("--device", default="cpu", help="cpu or cuda; peers for the CPU are left out")
    add("--contenders", nargs="+", help="only these, by their names in the JSON file")
    add("--features", type=Path, help="real frames: a directory of stage 3")
    add("--isolate", type=str2bool, default=True, help="a process for each contender")
    add("--work_dir", type=Path, help="where temporary files go")
    add("--output", type=Path, help="JSON file")
    for hidden in ("contender", "folder"):
        add(f"--{hidden}", help=argparse.SUPPRESS)
    parser.set_defaults(full=full, small=quick)
    return parser


def main(
    module: str,
    parser: argparse.ArgumentParser,
    contenders: Callable[[argparse.Namespace], dict[str, Contender]],
    write_data: Callable[[Task], None],
    figures: Callable[[dict], list[tuple]],
    arguments: list[str] | None = None,
) -> dict:
    """Run a benchmark, or in a child process one of its contenders.

    Parameters
    ----------
    module : str
        Name that ``python -m`` takes.
    parser : ArgumentParser
        From `get_parser`.
    contenders : callable
        Gives the lines by name; the first is ours.
    write_data : callable
        Writes what the contenders read into the task's folder.
    figures : callable
        ``figures(report)`` gives (what, value).
    arguments : list of str, optional

    Returns
    -------
    report : dict
        What the JSON file holds.
    """
    options = parser.parse_args(arguments)
    if options.contender:
        folder = Path(options.folder)
        settings = read_json(folder / "settings.json")
        chosen = contenders(argparse.Namespace(**settings)) | {"machine": MACHINE}
        found = run_contender(
            chosen[options.contender], Task(folder, settings), isolated=True
        )
        if os.environ.get("RANK", "0") == "0":
            write_json(folder / f"{options.contender}.json", found)
        return found
    defaults = dict(options.small if options.quick else options.full)
    if options.features:
        found = size_of_features(options.features)
        defaults["frames"] = min(defaults["frames"], found["frames"])
        options.dimension = found["dimension"]
        if options.frames is not None and options.frames > found["frames"]:
            parser.error(
                f"{options.features} has {found['frames']} frames, "
                f"--frames asks for {options.frames}"
            )
        options.features = str(options.features.resolve())
    for name, size in defaults.items():
        if getattr(options, name) is None:
            setattr(options, name, size)
    settings = {
        name: value
        for name, value in vars(options).items()
        if name not in ("full", "small", "contender", "folder", "work_dir", "output")
    }
    with tempfile.TemporaryDirectory(dir=options.work_dir) as folder:
        task = Task(Path(folder), settings)
        write_json(task.folder / "settings.json", settings)
        report = _run_all(module, task, contenders(options), write_data)
    found = [
        {"what": what, "value": value}
        for what, value in figures(report)
        if value is not None
    ]
    _print_figures(found)
    report["figures"] = found
    if options.output:
        write_json(options.output, report)
    if report["failed"]:
        sys.exit(f"failed: {', '.join(report['failed'])}")
    return report


def _run_all(
    module: str,
    task: Task,
    contenders: dict[str, Contender],
    write_data: Callable[[Task], None],
) -> dict:
    def one(name: str, contender: Contender) -> dict:
        if task.isolate or contender.ranks > 1:
            return _in_fresh_process(module, name, contender, task)
        return run_contender(contender, task, isolated=False)

    found = one("machine", MACHINE)
    floor = 2.0 * task.n_frames * task.codebook_size * task.dimension
    floor *= task.settings.get("levels", 1)
    floors = {t: floor / found["rates"][t] for t in ("float32", "bfloat16")}
    _print_machine(found, floors)
    data = DATA if task.features is None else f"{task.features}, centred by clip"
    print(f"data: {data}; {task.n_frames} frames x {task.dimension}\n", flush=True)
    if task.quick:
        print("quick sizes: the ratios below say nothing about the full ones\n")
    write_data(task)
    lines: dict[str, dict] = {}
    failed: list[str] = []
    print(_row(HEAD))
    for name, contender in contenders.items():
        if task.contenders and name not in task.contenders:
            continue
        if contender.cpu_only and task.device != "cpu":
            continue
        lacking = [p for p in contender.needs if importlib.util.find_spec(p) is None]
        if lacking:
            print(f"{contender.title}: left out, {', '.join(lacking)} is missing")
            continue
        try:
            lines[name] = one(name, contender)
        except Exception as error:  # the hours of the other lines are not thrown away
            print(f"{contender.title}: failed: {error}", flush=True)
            failed.append(name)
            continue
        ours = next(iter(lines.values()))["seconds"]
        lines[name]["ratio_to_ours"] = lines[name]["seconds"] / ours
        _print_line(lines[name])
    return {
        "benchmark": module,
        "settings": task.settings,
        "machine": found["machine"],
        "rates": found["rates"],
        "floor_seconds": floors,
        "data": data,
        "lines": lines,
        "failed": failed,
    }


# --- printing -----------------------------------------------------------------------

HEAD = ("", "n", "median s", "s/iter", "/ ours", "mse/frame", "peak MB", "before")
WIDTHS = (-44, 3, 10, 9, 9, 12, 9, 8)


def _row(cells: tuple) -> str:
    return " ".join(
        text.ljust(-width) if width < 0 else text.rjust(width)
        for text, width in zip(map(str, cells), WIDTHS)
    )


def _number(value: float | None, form: str) -> str:
    return "" if value is None else format(value, form)


def _print_line(line: dict) -> None:
    cells = (
        line["title"],
        len(line["repeats"]),
        _number(line["seconds"], ".3f"),
        _number(line.get("seconds_per_iteration"), ".3f"),
        _number(line["ratio_to_ours"], ".3g"),
        _number(line.get("objective"), ".6g"),
        _number(line["peak_mb"], ".0f"),
        _number(line["before_mb"], ".0f"),
    )
    print(f"{_row(cells)}  {line.get('note', '')}".rstrip(), flush=True)


def _print_machine(found: dict, floors: dict[str, float]) -> None:
    about = found["machine"]
    where = "" if about["device"] == "cpu" else f", {about['accelerator']}"
    print(
        f"machine: {about['processor']}, {about['cores']} cores, "
        f"{about['threads']} threads, {about['cpu_capability']}{where}, "
        f"torch {about['torch']}, {about['clock']} seconds"
    )
    listed = (f"{name} {version}" for name, version in about["libraries"].items())
    print(f"libraries: {', '.join(listed)}")
    for kind, seconds in floors.items():
        names = (kind, f"{kind}_mm", f"{kind}_linear")
        best, mm, linear = (found["rates"][name] / 1e9 for name in names)
        print(
            f"{kind} GEMM: {best:.0f} GFLOP/s (torch.mm {mm:.0f}, oneDNN's linear "
            f"{linear:.0f}), floor 2*N*K*D of a pass over all "
            f"levels: {seconds:.4g} s"
        )
    print(f"copy: {found['rates']['copy'] / 1e9:.1f} GB/s")


def _print_figures(figures: list[dict]) -> None:
    print(f"\n{'figure':64} {'measured':>9}")
    for figure in figures:
        print(f"{figure['what']:64} {figure['value']:>9.4g}")


def ratio(lines: dict, name: str, other: str, key: str = "seconds") -> float | None:
    """Divide one line's figure by another's; None where a line is missing."""
    values = [lines.get(line, {}).get(key) for line in (name, other)]
    return None if None in values or not values[1] else values[0] / values[1]


def mean_squared_error(frames: np.ndarray, quantized: Callable[[slice], Any]) -> float:
    """Average the squared distance of frames to what replaces them, in float64.

    Parameters
    ----------
    frames : (N, D) array
    quantized : callable
        Gives the (n, D) array of a slice of rows.
    """
    total = 0.0
    for start in range(0, len(frames), 8192):
        rows = slice(start, start + 8192)
        total += np.square(frames[rows] - quantized(rows), dtype=np.float64).sum()
    return float(total / len(frames))

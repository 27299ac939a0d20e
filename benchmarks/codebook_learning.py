"""Learning of codebooks beside its peers: time, objective, memory.

``python -m benchmarks.codebook_learning`` (full sizes: 100k x 768, K = 512, ten
iterations), ``--quick`` for a test. Lines with "same init" start from the same frames.
"""

import argparse
import os
import resource
import subprocess
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np

from benchmarks import common
from benchmarks.common import Contender, Task, expert_weights, ratio

FULL = {"frames": 100_000, "dimension": 768, "codebook_size": 512, "iterations": 10}
QUICK = {"frames": 6_000, "dimension": 64, "codebook_size": 32, "iterations": 3}
LEARN_KMEANS = "egs2/TEMPLATE/asr1/pyscripts/utils/learn_kmeans.py"
# The defaults of ESPnet's learn_kmeans.py (202611).
ESPNET = {
    "init": "k-means++",
    "max_iter": 100,
    "batch_size": 10000,
    "tol": 0.0,
    "max_no_improvement": 100,
    "n_init": 20,
    "reassignment_ratio": 0.0,
}
STREAM_ITERATIONS = 2
GROWTH = 10  # the larger stream has so many times the frames


def first_codebook(task: Task, rows: np.ndarray | None = None) -> np.ndarray:
    """Draw the (K, D) distinct frames that every contender of one init starts from."""
    rng = np.random.default_rng(task.seed)
    rows = np.arange(len(task.frames)) if rows is None else rows
    return task.frames[np.sort(rng.choice(rows, task.codebook_size, replace=False))]


def feature_dir(task: Task) -> Path:
    """Where the stream's ark is."""
    return task.folder / "features"


# --- ours ---------------------------------------------------------------------------


def settings_of(task: Task, iterations: int):
    """So many iterations: only a pass that improves nothing at all ends them."""
    from emoq_plugin.learning.learner import LearningSettings

    return LearningSettings(
        max_iterations=iterations, tolerance=0.0, seed=task.seed, init="k-means++"
    )


def ours(task: Task, *, own_init: bool = False) -> Callable[[], np.ndarray]:
    """One codebook of frames in memory."""
    import torch

    from emoq_plugin.learning.learner import learn_residual_codebooks
    from emoq_plugin.learning.sources import ArraySource

    source = ArraySource(task.frames)
    first = None if own_init else [torch.from_numpy(first_codebook(task))[None]]

    def run() -> np.ndarray:
        (codebook,) = learn_residual_codebooks(
            source,
            [task.codebook_size],
            settings=settings_of(task, task.iterations),
            initial=first,
            device=task.device,
        )
        return codebook[0].cpu().numpy()

    return run


def ours_plain(task: Task) -> Callable[[], np.ndarray]:
    """Learn the same codebook by float32 products of all frames with all codewords."""
    from emoq_plugin.core import nearest

    learn = ours(task)

    def run() -> np.ndarray:
        with mock.patch.object(nearest, "is_bounded", lambda *_: False):
            return learn()

    return run


def ours_own_init(task: Task) -> Callable[[], np.ndarray]:
    """All of the learning: sample, k-means++, iterations."""
    return ours(task, own_init=True)


def ours_experts(task: Task) -> Callable[[], Any]:
    """Four specific experts in the same passes over the same frames."""
    import torch

    from emoq_plugin.learning.learner import learn_residual_codebooks
    from emoq_plugin.learning.sources import ArraySource

    weights = expert_weights(task.n_frames)
    source = ArraySource(task.frames, weights)
    tables = [first_codebook(task, np.flatnonzero(column)) for column in weights.T]
    first = [torch.from_numpy(np.stack(tables))]

    def run() -> np.ndarray:
        (codebooks,) = learn_residual_codebooks(
            source,
            [task.codebook_size],
            settings=settings_of(task, task.iterations),
            initial=first,
            device=task.device,
        )
        return codebooks.cpu().numpy()

    return run


def stream(task: Task, *, factor: int) -> Callable[[], np.ndarray]:
    """One codebook of a Kaldi ark that is never in memory as a whole."""
    from emoq_plugin.learning.learner import learn_residual_codebooks
    from emoq_plugin.learning.sources import UtteranceSource
    from emoq_plugin.speech.store import FeatureStore

    store = FeatureStore(feature_dir(task))
    names = store.utterances[: -(-factor * task.n_frames // common.CLIP_FRAMES)]
    source = UtteranceSource(
        store.items,
        {name: store.lengths[name] for name in names},
        weights=np.ones((len(names), 1)),
    )

    def run() -> np.ndarray:
        (codebook,) = learn_residual_codebooks(
            source,
            [task.codebook_size],
            settings=settings_of(task, STREAM_ITERATIONS),
            device=task.device,
        )
        return codebook[0].cpu().numpy()

    return run


def stream_short(task: Task) -> Callable[[], np.ndarray]:
    """Stream as many frames as the other lines have."""
    return stream(task, factor=1)


def stream_long(task: Task) -> Callable[[], np.ndarray]:
    """Stream ten times as many."""
    return stream(task, factor=GROWTH)


# --- peers --------------------------------------------------------------------------


def plain_torch(task: Task) -> Callable[[], np.ndarray]:
    """Lloyd in a dozen lines of torch, no weights: what the engine must not lag."""
    import torch

    frames = torch.from_numpy(task.frames).to(task.device)
    first = torch.from_numpy(first_codebook(task)).to(task.device)

    def run() -> np.ndarray:
        codebook = first.clone()
        for _ in range(task.iterations):
            sums, mass = torch.zeros_like(codebook), codebook.new_zeros(len(codebook))
            half = 0.5 * codebook.square().sum(dim=1)
            for part in frames.split(2048):
                codes = torch.addmm(half, part, codebook.T, beta=-1.0).argmax(dim=1)
                sums.index_add_(0, codes, part)
                mass += torch.bincount(codes, minlength=len(codebook))
            alive = mass > 0
            codebook[alive] = sums[alive] / mass[alive, None]
        return codebook.cpu().numpy()

    return run


def faiss_kmeans(task: Task) -> Callable[[], np.ndarray]:
    """Learn with faiss.Kmeans on all frames."""
    import faiss

    faiss.omp_set_num_threads(task.threads)
    frames, first = task.frames, first_codebook(task)

    def run() -> np.ndarray:
        kmeans = faiss.Kmeans(
            task.dimension,
            task.codebook_size,
            niter=task.iterations,
            max_points_per_centroid=len(frames),  # never a subsample
            min_points_per_centroid=1,
            seed=task.seed,
        )
        kmeans.train(frames, init_centroids=first)
        return kmeans.centroids

    return run


def faiss_superkmeans(task: Task) -> Callable[[], np.ndarray]:
    """Learn with faiss.SuperKmeans on all frames; it takes no first codebook."""
    import faiss

    faiss.omp_set_num_threads(task.threads)
    frames = task.frames

    def run() -> np.ndarray:
        kmeans = faiss.SuperKmeans(
            task.dimension,
            task.codebook_size,
            niter=task.iterations,
            max_points_per_centroid=len(frames),
            min_points_per_centroid=1,
            seed=task.seed,
        )
        kmeans.train(frames)
        return kmeans.centroids

    return run


def superkmeans(task: Task) -> Callable[[], np.ndarray]:
    """Learn with superkmeans (arXiv 2603.20009), all frames, all iterations."""
    from superkmeans import SuperKMeans

    frames = task.frames

    def run() -> np.ndarray:
        kmeans = SuperKMeans(
            task.codebook_size,
            task.dimension,
            hierarchical=False,
            iters=task.iterations,
            sampling_fraction=1.0,
            max_points_per_cluster=len(frames),
            early_termination=False,
            n_threads=task.threads,
            seed=task.seed,
        )
        return kmeans.train(frames)

    return run


def sklearn_lloyd(task: Task) -> Callable[[], np.ndarray]:
    """Learn with scikit-learn's exact k-means."""
    from sklearn.cluster import KMeans

    frames, first = task.frames, first_codebook(task)

    def run() -> np.ndarray:
        kmeans = KMeans(
            task.codebook_size,
            init=first,
            n_init=1,
            max_iter=task.iterations,
            tol=0.0,
            algorithm="lloyd",
        )
        return kmeans.fit(frames).cluster_centers_

    return run


def sklearn_minibatch(task: Task) -> Callable[[], np.ndarray]:
    """Learn with scikit-learn's MiniBatchKMeans as ESPnet sets it."""
    from sklearn.cluster import MiniBatchKMeans

    frames = task.frames

    def run() -> np.ndarray:
        kmeans = MiniBatchKMeans(
            task.codebook_size, random_state=task.seed, compute_labels=False, **ESPNET
        )
        return kmeans.fit(frames).cluster_centers_

    return run


def espnet_script(task: Task) -> Callable[[], np.ndarray]:
    """Run learn_kmeans.py of an ESPnet tree, from ark to model file."""
    import joblib

    trees = [os.environ.get("ESPNET_ROOT", ""), *common.ROOT.glob(".venv/espnet-*")]
    scripts = [Path(tree) / LEARN_KMEANS for tree in trees if tree]
    script = next((s for s in scripts if s.is_file()), None)
    if script is None:
        raise FileNotFoundError(
            "learn_kmeans.py is not found: set ESPNET_ROOT to an ESPnet tree"
        )
    # Only the first clips: the ark is longer where the memory lines are asked for.
    scp, model = task.folder / "espnet.scp", task.folder / "espnet.mdl"
    table = (feature_dir(task) / "feats.scp").read_text(encoding="utf-8").splitlines()
    n_clips = -(-task.n_frames // common.CLIP_FRAMES)
    scp.write_text("\n".join(table[:n_clips]) + "\n", encoding="utf-8")

    def run() -> np.ndarray:
        command = [sys.executable, str(script), f"--km_path={model}"]
        command += [f"--n_clusters={task.codebook_size}", f"--seed={task.seed}"]
        command += ["--in_filetype=mat", f"scp:{scp}"]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        return joblib.load(model).cluster_centers_

    return run


# --- figures ------------------------------------------------------------------------


def nearest(frames: np.ndarray, codebook: np.ndarray) -> np.ndarray:
    """Return the (N, D) codewords nearest to the frames, by numpy alone."""
    scores = frames @ codebook.T - 0.5 * np.square(codebook).sum(axis=1)
    return codebook[scores.argmax(axis=1)]


def evaluate(task: Task, codebook: np.ndarray) -> dict:
    """Evaluate a codebook on all frames: every contender by the same code."""
    frames, codebook = task.frames, np.asarray(codebook, dtype=np.float32)
    error = common.mean_squared_error(frames, lambda r: nearest(frames[r], codebook))
    return {"objective": error}


def evaluate_experts(task: Task, codebooks: np.ndarray) -> dict:
    """Evaluate each expert on its frames."""
    frames = task.frames
    emotion = expert_weights(len(frames)).argmax(axis=1)
    errors = [
        evaluate_rows(frames[emotion == e], codebook) * (emotion == e).mean()
        for e, codebook in enumerate(codebooks)
    ]
    return {"objective": float(sum(errors))}


def evaluate_rows(frames: np.ndarray, codebook: np.ndarray) -> float:
    """Mean squared error of some frames."""
    return common.mean_squared_error(frames, lambda r: nearest(frames[r], codebook))


def evaluate_espnet(task: Task, codebook: np.ndarray) -> dict:
    """Evaluate, and take the memory of the script instead of the launcher's."""
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024 / 1e6
    return evaluate(task, codebook) | {"peak_mb": peak, "before_mb": None}


def figures(report: dict) -> list[tuple]:
    """Return (what, value) of the comparisons."""
    lines, n_frames = report["lines"], report["settings"]["frames"]
    iteration = "seconds_per_iteration"
    million = f"{GROWTH * n_frames} frames from ark"
    peak = lines.get("stream_long", {}).get("peak_mb")
    return [
        (
            "time per Lloyd iteration / faiss Kmeans",
            ratio(lines, "ours", "faiss", iteration),
        ),
        ("time / superkmeans", ratio(lines, "ours", "superkmeans")),
        ("time / faiss SuperKmeans", ratio(lines, "ours", "faiss_superkmeans")),
        (
            "time / ours by plain float32 products",
            ratio(lines, "ours", "ours_plain"),
        ),
        (
            "objective / faiss, same init and iterations",
            ratio(lines, "ours", "faiss", "objective"),
        ),
        (
            "total / MiniBatchKMeans with ESPnet's settings",
            ratio(lines, "ours_own_init", "minibatch"),
        ),
        (
            "objective / MiniBatchKMeans with ESPnet's settings",
            ratio(lines, "ours_own_init", "minibatch", "objective"),
        ),
        (
            "total / ESPnet learn_kmeans.py",
            ratio(lines, "ours_own_init", "espnet"),
        ),
        (
            "four experts in one pass / one codebook",
            ratio(lines, "ours_experts", "ours"),
        ),
        (
            f"peak memory in GB, {million}",
            peak and peak / 1000,
        ),
        (
            f"peak memory, {million} / {n_frames}",
            ratio(lines, "stream_long", "stream_short", "peak_mb"),
        ),
        (
            "two ranks x one thread / one rank x one thread",
            ratio(lines, "two_ranks", "one_rank"),
        ),
    ]


def contenders(options: argparse.Namespace) -> dict[str, Contender]:
    """Return the lines in their order."""
    same = "ours, same init"
    lines = {
        "ours": Contender(same, ours, evaluate, iterations=True, cpu_only=False),
        "ours_own_init": Contender(
            "ours, own k-means++ init", ours_own_init, evaluate, cpu_only=False
        ),
        "ours_experts": Contender(
            "ours, four specific experts in one pass",
            ours_experts,
            evaluate_experts,
            iterations=True,
            cpu_only=False,
        ),
        "ours_plain": Contender(
            "ours, plain float32 products, same init",
            ours_plain,
            evaluate,
            iterations=True,
        ),
        "plain_torch": Contender(
            "plain torch Lloyd, same init",
            plain_torch,
            evaluate,
            iterations=True,
            cpu_only=False,
        ),
        "faiss": Contender(
            "faiss Kmeans, same init",
            faiss_kmeans,
            evaluate,
            needs=("faiss",),
            iterations=True,
        ),
        "superkmeans": Contender(
            "superkmeans, own init",
            superkmeans,
            evaluate,
            needs=("superkmeans",),
            iterations=True,
        ),
        "faiss_superkmeans": Contender(
            "faiss SuperKmeans, own init",
            faiss_superkmeans,
            evaluate,
            needs=("faiss",),
            iterations=True,
        ),
        "sklearn": Contender(
            "scikit-learn KMeans lloyd, same init",
            sklearn_lloyd,
            evaluate,
            needs=("sklearn",),
            iterations=True,
        ),
        "minibatch": Contender(
            "MiniBatchKMeans, ESPnet's settings",
            sklearn_minibatch,
            evaluate,
            needs=("sklearn",),
            warm_up=False,
        ),
    }
    if options.espnet:
        lines["espnet"] = Contender(
            "ESPnet learn_kmeans.py, from ark",
            espnet_script,
            evaluate_espnet,
            needs=("espnet2", "h5py", "joblib"),
            warm_up=False,
            repeats=1,
        )
    if options.memory:
        for name, prepare, factor in (
            ("stream_short", stream_short, 1),
            ("stream_long", stream_long, GROWTH),
        ):
            title = f"ours from ark, {factor * options.frames} frames, "
            lines[name] = Contender(
                title + f"{STREAM_ITERATIONS} iter.",
                prepare,
                warm_up=False,
                repeats=1,
                cpu_only=False,
            )
    if options.ranks:
        for name, n_ranks in (("one_rank", 1), ("two_ranks", 2)):
            lines[name] = Contender(
                f"ours, same init, {n_ranks} rank(s) x one thread",
                ours,
                evaluate,
                iterations=True,
                threads=1,
                ranks=n_ranks,
            )
    return lines


def write_data(task: Task) -> None:
    """Write the frames as an array and, where a line needs it, as an ark."""
    from emoq_plugin.speech.encoders.encoder import FeatureSpecification
    from emoq_plugin.speech.store import merge_feature_jobs, write_features

    def clips(n_frames: int) -> Iterable[tuple[str, np.ndarray]]:
        return common.clips_of(task, n_frames)

    with open(task.folder / common.FRAMES, "wb") as out:
        for _, frames in clips(task.n_frames):
            frames.tofile(out)
    if task.features is not None and task.memory:
        raise ValueError(
            f"--memory streams {GROWTH} times --frames, more than {task.features} has: "
            "leave one of the two out"
        )
    if task.espnet or task.memory:
        specification = FeatureSpecification(
            "benchmark", [], task.dimension, 50.0, 16000
        )
        n_frames = task.n_frames * (GROWTH if task.memory else 1)
        feature_dir(task).mkdir()
        write_features(feature_dir(task), specification, clips(n_frames))
        merge_feature_jobs(feature_dir(task), 1)


def get_parser() -> argparse.ArgumentParser:
    """Make the parser of the command."""
    parser = common.get_parser(__doc__, FULL, QUICK)
    add = parser.add_argument
    add("--espnet", type=common.str2bool, default=False, help="run learn_kmeans.py too")
    add("--memory", type=common.str2bool, default=False, help="stream arks, two sizes")
    add("--ranks", type=common.str2bool, default=False, help="one and two processes")
    return parser


def main(arguments: list[str] | None = None) -> dict:
    """Run the command."""
    return common.main(
        "benchmarks.codebook_learning",
        get_parser(),
        contenders,
        write_data,
        figures,
        arguments,
    )


if __name__ == "__main__":
    main()

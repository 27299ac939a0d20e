"""Stage 4 in two processes whose group takes tensors of one device only, as nccl does.

There is no GPU here, so what is refused is seen by time: while the routers are fitted,
which is done in the memory of the CPU wherever codebooks are learned, the group takes
nothing.
"""

import os
import sys

import numpy as np
import pytest
import soundfile
import torch
from torch import distributed

from emoq_plugin.bin import dump_features, format_data, learn_codebooks
from emoq_plugin.core import CodebookBank
from emoq_plugin.data.folds import Fold, write_folds
from emoq_plugin.files import write_table
from emoq_plugin.learning.distributed import of_first, process_group
from emoq_plugin.recipe.stage import Stage
from emoq_plugin.routing.learn import TrainingClips

pytestmark = pytest.mark.usefixtures("master_port")
EMOTIONS = ("angry", "sad")
OPTIONS = (
    "--feature_dir dump/fbank --data_dir dump/raw --emotions data/emotions --folds "
    "data/folds --fold 1 --config quantizer.yaml --corpus tiny --rates 4x1 8x1"
)
COLLECTIVES = ("all_reduce", "all_gather", "broadcast")


def make_corpus(root):
    random = np.random.default_rng(0)
    names = [f"s{s}-{e}{i}" for s in range(4) for e in EMOTIONS for i in range(2)]
    for name in names:
        tone = np.sin(np.arange(6000) * (0.1 + 0.1 * EMOTIONS.index(name[3:-1])))
        noise = random.normal(size=6000)
        soundfile.write(root / f"{name}.wav", 0.3 * tone + 0.1 * noise, 16000)
    data = root / "data"
    write_table(data / "all/wav.scp", {u: f"{root}/{u}.wav" for u in names})
    write_table(data / "all/utt2spk", {u: u[:2] for u in names})
    write_table(data / "all/utt2emo", {u: u[3:-1] for u in names})
    parts = [tuple(u for u in names if u[1] in part) for part in ("012", "", "3")]
    write_folds(data / "folds", [Fold("1", *parts)])
    (data / "emotions").write_text("\n".join(EMOTIONS) + "\n")
    (root / "fbank.yaml").write_text("encoder: fbank\nconf: {num_mel_bins: 8}\n")
    (root / "quantizer.yaml").write_text(
        "expert_sets: [balanced, specific]\ncalibrated: {codewords: 8, parts: 3}\n"
    )
    formatted, dump = root / "dump/raw", root / "dump/fbank"
    emotions = f"--emotions {data}/emotions"
    format_data.main(
        f"--data_dir {data}/all {emotions} --output_dir {formatted}".split()
    )
    options = f"--data_dir {formatted} --output_dir {dump} --config {root}/fbank.yaml"
    dump_features.main(options.split())
    dump_features.main([*options.split(), "--merge", "true"])


def learn(output):
    learn_codebooks.main([*OPTIONS.split(), "--output_dir", str(output)])


def be_a_rank(output):
    """Learn in a group that takes nothing while routers are fitted.

    Rank 1 sees another disk than rank 0: one bank, and then the stage, as it was.
    """
    rank, fitting = int(os.environ["RANK"]), []

    def guarded(collective):
        def call(*arguments, **options):
            if fitting:
                raise RuntimeError("No backend type associated with device type cpu")
            return collective(*arguments, **options)

        return call

    def marked(fit):
        def call(*arguments, **options):
            fitting.append(rank)
            try:
                return fit(*arguments, **options)
            finally:
                fitting.pop()

        return call

    for name in COLLECTIVES:
        setattr(distributed, name, guarded(getattr(distributed, name)))
    for name in ("fit_shared_routers", "fit_routers"):
        setattr(TrainingClips, name, marked(getattr(TrainingClips, name)))
    is_done = Stage.is_done
    if rank == 1:
        Stage.is_done = lambda self: self.output.name == "4x1"
    learn(output)
    if rank == 0:
        Stage.is_done = is_done
    learn(output)


def test_two_processes_make_the_banks_and_routers_of_one(
    tmp_path, monkeypatch, run_ranks
):
    make_corpus(tmp_path)
    said = run_ranks(__file__, "learn", "exp/two", cwd=tmp_path)
    # What the first process sees counts: the second call learns nothing again.
    assert [said[0].count(f"{size}: learned ") for size in ("4x1", "8x1")] == [
        1,
        1,
    ]
    monkeypatch.chdir(tmp_path)
    learn("exp/one")
    for size in ("4x1", "8x1"):
        one, two = (
            CodebookBank.from_pretrained(tmp_path / "exp" / name / size)
            for name in ("one", "two")
        )
        assert list(two.router_parameters) == list(one.router_parameters)
        assert any(name.startswith("calibrated.") for name in two.router_parameters)
        for left, right in zip(two.codebooks, one.codebooks, strict=True):
            torch.testing.assert_close(left, right, rtol=0, atol=1e-5)
        for name, value in one.router_parameters.items():
            if name.startswith("calibrated."):
                assert torch.equal(two.router_parameters[name], value)


def test_every_process_gets_what_the_first_decides(tmp_path, run_ranks):
    run_ranks(__file__, "decide", cwd=tmp_path)


@pytest.mark.parametrize("victim", [0, 1])
def test_a_rank_that_dies_is_heard_and_the_other_does_not_wait(
    tmp_path, run_ranks, victim
):
    with pytest.raises(AssertionError) as failure:
        run_ranks(__file__, "die", victim, cwd=tmp_path)
    assert f"rank {victim} ended with 1:" in str(failure.value)
    assert "no room for this rank" in str(failure.value)
    assert f"rank {1 - victim} was still running:" in str(failure.value)


@pytest.mark.parametrize("value", [[], [True], {"4x1": 2}])
def test_alone_a_process_decides_for_itself(value):
    assert of_first(value, "cpu") == value


if __name__ == "__main__":
    if sys.argv[1] == "learn":
        be_a_rank(sys.argv[2])
    elif sys.argv[1] == "die" and os.environ["RANK"] == sys.argv[2]:
        raise OSError("no room for this rank")
    else:
        with process_group() as (rank, _):
            assert of_first([True, False] if rank == 0 else [], "cpu") == [True, False]
            plan = {"4x1": ["balanced", "spécific"]}
            assert of_first(plan if rank == 0 else {}, "cpu") == plan

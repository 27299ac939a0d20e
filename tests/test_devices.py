"""Jobs on one machine share its GPUs by turns."""

import os
import subprocess
import sys

import pytest
import torch

from emoq_plugin.devices import exact_float32, pick_device, take_gpus


@pytest.fixture
def gpus(monkeypatch):
    def set_count(count, visible=None):
        monkeypatch.setattr(torch.cuda, "device_count", lambda: count)
        monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
        if visible is not None:
            monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)

    return set_count


def taken(n_gpus, job):
    take_gpus(n_gpus, job)
    return os.environ["CUDA_VISIBLE_DEVICES"]


@pytest.mark.parametrize("job, expected", [(1, "cuda:0"), (2, "cuda:1"), (3, "cuda:0")])
def test_the_device_of_a_job_is_its_number_modulo_the_visible_gpus(gpus, job, expected):
    gpus(2)
    assert pick_device("cuda", job) == expected


@pytest.mark.parametrize(
    "n_gpus, job, expected", [(1, 1, "0"), (1, 4, "3"), (1, 5, "0"), (2, 2, "2,3")]
)
def test_a_trainer_sees_only_the_gpus_whose_turn_it_is(gpus, n_gpus, job, expected):
    gpus(4)
    assert taken(n_gpus, job) == expected


def test_gpus_that_a_scheduler_handed_out_keep_their_names(gpus):
    gpus(1, visible="3")
    assert taken(1, 7) == "3"
    gpus(2, visible="GPU-a,GPU-b")
    assert taken(1, 2) == "GPU-b"


def test_more_gpus_than_there_are_means_all_of_them(gpus):
    gpus(2)
    assert taken(4, 1) == "0,1"


def test_a_gpu_where_there_is_none_is_an_error(gpus):
    gpus(0)
    take_gpus(0, 1)
    with pytest.raises(ValueError, match="--ngpu 1: no GPU is visible"):
        take_gpus(1, 1)


def precisions():
    kinds = (torch.backends.cuda.matmul, torch.backends.cudnn.conv)
    return [kind.fp32_precision for kind in (*kinds, torch.backends.mkldnn.matmul)]


@pytest.mark.parametrize("outside", ["highest", "high", "medium"])
def test_short_numbers_of_matrix_products_stay_outside(outside):
    kept = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision(outside)
    try:
        before = precisions()
        with torch.autocast("cpu", dtype=torch.bfloat16):
            with exact_float32():
                assert precisions() == ["ieee"] * 3
                assert (torch.ones(2, 2) @ torch.ones(2, 2)).dtype == torch.float32
            assert (torch.ones(2, 2) @ torch.ones(2, 2)).dtype == torch.bfloat16
        assert precisions() == before
        assert torch.get_float32_matmul_precision() == outside
    finally:
        torch.set_float32_matmul_precision(kept)


@pytest.mark.parametrize(
    ("given", "turns"),
    [
        ({}, "1000"),
        ({"OMP_WAIT_POLICY": "ACTIVE"}, None),
        ({"GOMP_SPINCOUNT": "9"}, "9"),
        ({"KMP_BLOCKTIME": "200"}, None),
    ],
)
def test_threads_spin_for_a_short_time_unless_the_user_says_otherwise(given, turns):
    names = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME")
    bare = {k: v for k, v in os.environ.items() if k not in names}
    # torch comes later, and reads it then.
    code = (
        "import os, sys, emoq_plugin\n"
        "print(os.environ.get('GOMP_SPINCOUNT'), 'torch' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], env=bare | given, capture_output=True, text=True
    )
    assert done.stdout.split() == [str(turns), "False"], done.stderr

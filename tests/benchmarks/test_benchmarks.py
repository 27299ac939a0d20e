"""The benchmarks at quick sizes: structure of the JSON, agreement of contenders."""

import numpy as np
import pytest
import torch

from benchmarks import codebook_learning, encoding
from benchmarks.common import CLIP_FRAMES, make_clips, memory_mb
from emoq_plugin.files import read_json
from emoq_plugin.learning.learner import learn_residual_codebooks
from emoq_plugin.learning.sources import ArraySource
from emoq_plugin.speech.encoders.encoder import FeatureSpecification
from emoq_plugin.speech.store import merge_feature_jobs, write_features

SMALL = ["--quick", "--repeats", "1", "--threads", "1"]


def run(benchmark, tmp_path, *more):
    """Run in this process, which spares the imports of every contender."""
    path = tmp_path / "report.json"
    benchmark.main([*SMALL, "--isolate", "false", "--output", str(path), *more])
    return read_json(path)


def check_structure(report, module):
    assert report["benchmark"] == module
    assert report["failed"] == []
    assert report["machine"]["threads"] == report["settings"]["threads"] == 1
    assert all(report["rates"][k] > 0 for k in ("float32", "bfloat16", "copy"))
    assert all(seconds > 0 for seconds in report["floor_seconds"].values())
    assert report["rates"]["float32"] == max(
        report["rates"][f"float32_{how}"] for how in ("mm", "linear")
    )
    assert report["machine"]["libraries"]["numpy"] == np.__version__
    assert report["lines"]["ours"]["ratio_to_ours"] == 1
    for line in report["lines"].values():
        assert line["seconds"] > 0 and len(line["repeats"]) == 1
        assert line["objective"] > 0
    assert {"what", "value"} == set(report["figures"][0])


def test_learners_with_one_init_reach_one_objective(tmp_path, capsys):
    report = run(codebook_learning, tmp_path)
    check_structure(report, "benchmarks.codebook_learning")
    lines = report["lines"]
    assert lines["ours_plain"]["objective"] == lines["ours"]["objective"]
    same = [lines[n] for n in ("plain_torch", "faiss", "sklearn") if n in lines]
    for line in same:
        assert lines["ours"]["objective"] == pytest.approx(line["objective"], rel=1e-3)
    assert lines["ours_experts"]["objective"] < lines["ours"]["objective"]
    assert "float32 GEMM" in capsys.readouterr().out


def test_real_features_take_the_place_of_made_ones(tmp_path, capsys):
    random = np.random.default_rng(0)
    clips = {f"u{i}": random.normal(5, 1, size=(400, 12)) for i in range(4)}
    store = tmp_path / "features"
    store.mkdir()
    specification = FeatureSpecification("test", [], 12, 50.0, 16000)
    write_features(
        store, specification, ((n, c.astype(np.float32)) for n, c in clips.items())
    )
    merge_feature_jobs(store, 1)
    options = ["--features", str(store), "--contenders", "ours", "plain_torch"]
    report = run(codebook_learning, tmp_path, *options, "--frames", "900")
    assert report["settings"]["frames"] == 900
    assert report["settings"]["dimension"] == 12
    assert str(store) in report["data"] and str(store) in capsys.readouterr().out
    assert 0 < report["lines"]["ours"]["objective"] < 12.5  # centred by clip
    with pytest.raises(SystemExit):
        run(codebook_learning, tmp_path, *options, "--frames", "1601")
    assert "has 1600 frames, --frames asks for 1601" in capsys.readouterr().err
    with pytest.raises(ValueError, match="--memory streams 10 times --frames"):
        run(codebook_learning, tmp_path, *options, "--memory", "true")


def test_encoders_give_the_codes_of_plain_float32(tmp_path):
    report = run(encoding, tmp_path)
    check_structure(report, "benchmarks.encoding")
    for name, line in report["lines"].items():
        assert line["other_codes"] == 0 or name == "faiss_tables", name
    routes = report["lines"]["routed_clips"]["routes"]
    assert routes[0] == 0 and sum(routes) == report["settings"]["frames"]


def test_a_contender_alone_in_its_process_has_its_own_peak_memory(tmp_path):
    path = tmp_path / "report.json"
    arguments = ["--contenders", "faiss", "--output", str(path)]
    pytest.importorskip("faiss")
    hoard = np.ones(2**27)  # 1 GiB here must not count there
    codebook_learning.main([*SMALL, *arguments])
    line = read_json(path)["lines"]["faiss"]
    assert 0 < line["before_mb"] <= line["peak_mb"] < 1000 < memory_mb("VmRSS")
    assert hoard[-1]


def test_a_wrong_code_is_distinguished_from_a_tie():
    tables = np.zeros((1, 3, 2), dtype=np.float32)
    tables[0] = [[1, 0], [-1, 0], [0, 5]]
    frame = np.array([0.0, 0.3], dtype=np.float32)
    first, second, third = (np.array([code]) for code in range(3))
    assert encoding.gap(frame, tables, first, second) == 0
    assert encoding.gap(frame, tables, first, third) > 1


def test_fewer_frames_are_the_beginning_of_the_same_stream():
    long = dict(make_clips(3 * CLIP_FRAMES, 8, seed=1))
    short = dict(make_clips(CLIP_FRAMES + 7, 8, seed=1))
    assert [len(frames) for frames in short.values()] == [CLIP_FRAMES, 7]
    for name, frames in short.items():
        np.testing.assert_array_equal(frames, long[name][: len(frames)])


def test_initial_codebooks_of_a_wrong_size_are_reported():
    frames = np.random.default_rng(0).standard_normal((20, 2), dtype=np.float32)
    first = [torch.zeros((1, 3, 2))]
    with pytest.raises(ValueError, match=r"\(1, 3\).*expected \[\(1, 4\)\]"):
        learn_residual_codebooks(ArraySource(frames), [4], initial=first)

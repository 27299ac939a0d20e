"""What goes into the feature store comes out, and damage is named."""

import numpy as np
import pytest

from emoq_plugin.speech.encoders.encoder import FeatureSpecification
from emoq_plugin.speech.store import (
    FeatureStore,
    merge_feature_jobs,
    remove_job_files,
    write_features,
)

SPECIFICATION = FeatureSpecification(
    "fbank", [], 4, 50.0, 16000, versions={"torchaudio": "1"}
)


def _features(names, seed=0):
    rng = np.random.default_rng(seed)
    return {u: rng.normal(size=(3 + i, 4)).astype("f4") for i, u in enumerate(names)}


@pytest.fixture
def stored(tmp_path):
    """Two jobs whose utterances interleave; the directory and the truth."""
    directory = tmp_path / "train"
    parts = [_features(["a", "c", "ü"], 1), _features(["b", "d"], 2)]
    for job, part in enumerate(parts, 1):
        write_features(directory, SPECIFICATION, part.items(), job=job)
    merge_feature_jobs(directory, 2)
    return directory, parts[0] | parts[1]


def test_features_come_back_bit_for_bit(stored):
    directory, truth = stored
    store = FeatureStore(directory)
    assert store.utterances == sorted(truth) and len(store) == 5
    assert store.specification == SPECIFICATION
    assert store.lengths == {u: len(x) for u, x in truth.items()}
    for utterance in store:
        np.testing.assert_array_equal(store[utterance], truth[utterance])
        assert store[utterance].dtype == np.float32
    for frames in (store["a"], next(store.values())):
        frames += 1  # writable, for torch.from_numpy


def test_keys_values_and_items_are_in_one_order(stored):
    directory, truth = stored  # the arks hold another order
    store = FeatureStore(directory)
    assert list(store.keys()) == [u for u, _ in store.items()] == sorted(truth)
    for pairs in (zip(store.keys(), store.values()), store.items()):
        for utterance, frames in pairs:
            np.testing.assert_array_equal(frames, truth[utterance])
    assert [u for u, _ in store.items(["d", "c"])] == ["d", "c"]


def test_a_moved_directory_still_reads(stored, tmp_path):
    directory, truth = stored
    moved = directory.rename(tmp_path / "elsewhere")
    np.testing.assert_array_equal(FeatureStore(moved)["d"], truth["d"])


def test_kaldiio_itself_reads_the_files(stored):
    import kaldiio

    directory, truth = stored
    loaded = kaldiio.load_scp(str(directory / "feats.scp"))
    np.testing.assert_array_equal(loaded["ü"], truth["ü"])


@pytest.mark.parametrize("keep", [5, 30, -1])
def test_a_truncated_ark_names_utterance_and_file(stored, keep):
    directory, _ = stored
    ark = directory / "feats.2.ark"
    content = ark.read_bytes()
    ark.write_bytes(content[:keep])
    store = FeatureStore(directory)
    victim = "d" if keep == -1 else "b"
    with pytest.raises(
        ValueError, match=rf"feats\.2\.ark: utterance '{victim}'.*trunc"
    ):
        dict(store.items(["b", "d"]))
    with pytest.raises(ValueError, match=rf"utterance '{victim}'"):
        store[victim]


@pytest.mark.parametrize("junk", [b"\0" * 64, b"PKL" + b"x" * 64])
def test_a_garbled_ark_is_refused_and_no_pickle_is_read(stored, junk):
    directory, _ = stored
    (directory / "feats.2.ark").write_bytes(b"b " + junk)
    with pytest.raises(ValueError, match="utterance 'b'.*garbled"):
        FeatureStore(directory)["b"]


def test_bytes_that_became_nan_are_found_when_read(stored):
    directory, _ = stored
    ark = directory / "feats.2.ark"
    ark.write_bytes(ark.read_bytes()[:-4] + np.float32(np.nan).tobytes())
    with pytest.raises(ValueError, match=r"feats\.2\.ark: utterance 'd'.*NaN"):
        FeatureStore(directory)["d"]


def test_a_missing_ark_is_named(stored):
    directory, _ = stored
    (directory / "feats.1.ark").unlink()
    with pytest.raises(FileNotFoundError, match=r"feats\.1\.ark.*'c'"):
        FeatureStore(directory)["c"]


@pytest.mark.parametrize(
    "frames, message",
    [
        (np.full((2, 4), np.nan), "NaN or infinity"),
        (np.full((2, 4), np.inf), "NaN or infinity"),
        (np.zeros((2, 5)), r"shape \(2, 5\), expected \(T, 4\)"),
        (np.zeros((0, 4)), r"shape \(0, 4\)"),
    ],
)
def test_bad_features_are_not_written(tmp_path, frames, message):
    with pytest.raises(ValueError, match=f"utterance 'x'.*{message}"):
        write_features(tmp_path, SPECIFICATION, [("x", frames.astype("f4"))])
    assert list(tmp_path.iterdir()) == []


def test_an_utterance_written_twice_is_refused(tmp_path):
    twice = [("x", np.zeros((1, 4), "f4"))] * 2
    with pytest.raises(ValueError, match="'x': comes twice"):
        write_features(tmp_path, SPECIFICATION, twice)


def test_merge_refuses_a_missing_job_a_repeat_and_another_encoder(tmp_path):
    write_features(tmp_path, SPECIFICATION, _features(["a"]).items(), job=1)
    with pytest.raises(FileNotFoundError, match="job 2 of 2"):
        merge_feature_jobs(tmp_path, 2)
    write_features(tmp_path, SPECIFICATION, _features(["a"]).items(), job=2)
    with pytest.raises(ValueError, match="job 2 repeats utterance 'a'"):
        merge_feature_jobs(tmp_path, 2)
    other = FeatureSpecification("fbank", [], 4, 100.0, 16000)
    write_features(tmp_path, other, _features(["b"]).items(), job=2)
    with pytest.raises(ValueError, match="not the encoder of job 1"):
        merge_feature_jobs(tmp_path, 2)


def test_an_empty_job_merges(tmp_path):
    write_features(tmp_path, SPECIFICATION, _features(["a"]).items(), job=1)
    write_features(tmp_path, SPECIFICATION, [], job=2)
    assert merge_feature_jobs(tmp_path, 2) == {"a": 3}
    assert FeatureStore(tmp_path).utterances == ["a"]


def test_after_cleaning_only_the_documented_files_stay(stored):
    directory, _ = stored
    write_features(directory, SPECIFICATION, _features(["z"]).items(), job=3)
    remove_job_files(directory)
    assert sorted(p.name for p in directory.iterdir()) == [
        "feats.1.ark",
        "feats.2.ark",
        "feats.scp",
        "feature.json",
        "utt2num_frames",
    ]


def test_unfinished_or_disagreeing_directories_are_refused(stored):
    directory, _ = stored
    (directory / "utt2num_frames").write_text("a 3\n")
    with pytest.raises(ValueError, match="utterance 'b' is in only one of"):
        FeatureStore(directory)
    (directory / "utt2num_frames").write_text("a three\n")
    with pytest.raises(ValueError, match=r"utt2num_frames:1: 'a' has 'three'"):
        FeatureStore(directory)
    (directory / "feats.scp").unlink()
    with pytest.raises(FileNotFoundError, match=r"feats\.scp is missing.*stage"):
        FeatureStore(directory)


def test_the_fingerprint_of_a_specification_ignores_versions_only():
    values = SPECIFICATION.to_json()
    assert (
        FeatureSpecification(**values | {"versions": {}}).fingerprint()
        == SPECIFICATION.fingerprint()
    )
    for change in (
        {"encoder": "x"},
        {"layers": [1]},
        {"dimension": 5},
        {"frame_rate_hz": 1.0},
        {"sample_rate": 8000},
        {"settings": {"a": 1}},
        {"weights_sha256": "0"},
    ):
        assert (
            FeatureSpecification(**values | change).fingerprint()
            != SPECIFICATION.fingerprint()
        )


def test_a_specification_with_other_fields_is_refused():
    with pytest.raises(
        ValueError, match=r"feature\.json: not a feature specification.*'b'"
    ):
        FeatureSpecification.from_json({"b": 1}, "feature.json")

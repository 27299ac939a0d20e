"""From clips to a bank: configuration, normalisation, what enters, what is kept."""

import numpy as np
import pytest
import torch

from emoq_plugin.core.batch_encoding import batch_encoding
from emoq_plugin.core.normalization import KINDS, Normalization
from emoq_plugin.learning.fit_bank import (
    NormalizedClips,
    QuantizerConfig,
    learn_bank,
    speaker_means,
)

EMOTIONS = ["angry", "sad"]


def clips(n_clips=8, seed=0):
    random = np.random.default_rng(seed)
    offset = np.array([3.0, -3.0, 0.0])  # between the two classes
    return {
        f"u{i}": (random.normal(size=(6 + i, 3)) + i % 2 * offset).astype(np.float32)
        for i in range(n_clips)
    }


def learn(features, **options):
    names = options.pop("utterances", list(features))
    arguments = {
        "utterances": names,
        "emotions": EMOTIONS,
        "sizes": [4, 2],
        "config": QuantizerConfig(learning={"max_iterations": 3}),
        "means": lambda utterance: torch.zeros(3),
    }
    return learn_bank(
        features,
        {name: len(c) for name, c in features.items()},
        np.eye(2)[np.arange(len(names)) % 2],
        **arguments | options,
    )


def test_a_bank_holds_every_group():
    bank = learn(clips())
    assert bank.expert_sets == ["balanced", "specific", "biased95", "capacity"]
    assert len(bank.experts) == 7
    assert bank.sizes == [4, 2]
    assert bank.card["training_utterances"] == 8
    assert bank.card["training_frames"] == sum(range(6, 14))
    assert bank.card["expert_frames"]["specific/angry"] == 6 + 8 + 10 + 12


def test_an_expert_fits_the_clips_of_its_class_best():
    features = clips()
    bank = learn(features)
    for i, name in enumerate(features):
        clip = batch_encoding(bank, torch.from_numpy(features[name])[None])
        both = [bank.experts.index(f"specific/{EMOTIONS[(i + k) % 2]}") for k in (0, 1)]
        right, wrong = clip.distortion(both, 2)[0]
        assert right < wrong


def test_only_the_training_clips_count():
    features = clips()
    train = list(features)[:6]
    changed = features | {"u6": features["u6"] + 100, "u7": features["u7"] * np.nan}
    first, second = (learn(f, utterances=train) for f in (features, changed))
    assert first.codebooks_sha256 == second.codebooks_sha256


@pytest.mark.parametrize("kind", KINDS)
def test_memory_and_streaming_learn_the_same_bank(kind):
    found = [
        learn(
            clips(),
            config=QuantizerConfig(
                norm=kind, memory_mb=mb, chunk_frames=16, learning={"max_iterations": 2}
            ),
        )
        for mb in (512.0, 0.0, 1e-4)
    ]
    assert len({bank.codebooks_sha256 for bank in found}) == 1


class Counted(dict):
    """Features that count how often a clip is read."""

    reads = 0

    def __getitem__(self, name):
        self.reads += 1
        return super().__getitem__(name)


@pytest.mark.parametrize("algorithm", ["lloyd", "ema"])
def test_clips_that_fit_are_read_once_for_all_passes(algorithm):
    def count(n_passes, mb):
        features = Counted(clips())
        learning = {"algorithm": algorithm, "max_iterations": n_passes, "tolerance": 0}
        learn(features, config=QuantizerConfig(memory_mb=mb, learning=learning))
        return features.reads

    assert count(2, 512.0) == count(5, 512.0)
    assert count(2, 0.0) < count(5, 0.0)


def test_clips_stay_in_memory_while_there_is_room():
    features = clips(3)
    norm = Normalization("corpus", torch.zeros(3), torch.ones(3))
    room = features["u0"].nbytes + features["u1"].nbytes
    reader = NormalizedClips(
        features, norm, speaker_means=lambda u: None, memory_bytes=room
    )
    for _ in range(2):
        for name, frames in reader.read(["u0", "u1", "u2"]):
            np.testing.assert_array_equal(frames, features[name])
    assert set(reader.kept) == {"u0", "u1"}


def test_the_mean_of_a_speaker_is_over_all_frames():
    features = {"a": np.zeros((1, 2)), "b": np.ones((3, 2)), "c": np.full((2, 2), 9.0)}
    means = speaker_means(features, {"a": "s", "b": "s", "c": "t"})
    assert means["s"].tolist() == [0.75, 0.75]
    assert means["t"].tolist() == [9.0, 9.0]


def test_a_class_with_fewer_frames_than_codewords_is_named_with_both_numbers():
    with pytest.raises(ValueError, match="'specific/angry' has 36 .* K = 40"):
        learn(clips(), sizes=[40])


def test_the_learning_log_is_beside_the_bank(tmp_path):
    learn(clips(), work_dir=tmp_path)
    assert (tmp_path / "learning.jsonl").read_text().count("specific/angry") >= 2


def test_a_configuration_is_read_from_yaml(tmp_path):
    path = tmp_path / "q.yaml"
    path.write_text("norm: clip\nexpert_sets: [balanced]\nlearning:\n  seed: 3\n")
    config = QuantizerConfig.read(path)
    assert (config.norm, config.expert_sets) == ("clip", ["balanced"])
    assert config.learning == {"seed": 3}
    path.write_text("# nothing changed\n")
    assert QuantizerConfig.read(path) == QuantizerConfig()
    path.write_text("learning:\n")
    assert QuantizerConfig.read(path) == QuantizerConfig()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("nrom: clip", r"q.yaml: unknown option 'nrom', .*'norm'"),
        ("learning: {sede: 1}", r"q.yaml: learning: unknown option 'sede', .*'seed'"),
        ("learning: fast", r"q.yaml: learning: found 'fast'"),
        ("- norm", "q.yaml: found"),
        ("norm: [", "q.yaml: not YAML"),
        (
            "frame_budget: half",
            r"q.yaml: frame_budget is 'half', expected one of .*'equal'",
        ),
    ],
)
def test_a_faulty_configuration_is_explained(tmp_path, text, message):
    path = tmp_path / "q.yaml"
    path.write_text(text)
    with pytest.raises(ValueError, match=message):
        QuantizerConfig.read(path)


def test_a_clip_of_another_dimension_or_without_frames_is_refused():
    bank = learn(clips())
    for shape, message in (
        ((1, 4, 2), r"expected \(clips, frames, 3\)"),
        ((1, 0, 3), "at least one frame"),
        ((4, 3), r"expected a \(B, T, D\) batch"),
    ):
        with pytest.raises(ValueError, match=message):
            batch_encoding(bank, torch.zeros(shape))
    clip = batch_encoding(bank, torch.zeros(1, 1, 3))
    with pytest.raises(ValueError, match="3 levels asked for, expected 1 to 2"):
        clip.codes(torch.zeros(1, 1, dtype=torch.long), 3)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("norm: loud", "norm is 'loud', expected one of .*'level'"),
        (
            "expert_sets: []",
            r"expert_sets are \[\], expected some of balanced, specific",
        ),
        ("expert_sets: [specific, specific]", "expert_sets are .*, once"),
        ("expert_sets: [specifc]", "unknown expert set 'specifc', expected one of"),
        ("expert_sets: [biased0]", "unknown expert set 'biased0', expected one of"),
        ("chunk_frames: 0", "chunk_frames is 0, expected at least 1"),
        ("memory_mb: -1", "memory_mb is -1, expected a number from 0"),
        ("memory_mb: .nan", "memory_mb is nan, expected a number from 0"),
        ("learning: {decay: 1.5}", "learning: decay is 1.5, expected a number from 0 "),
        ("learning: {sample_per_code: 0}", "learning: sample_per_code is 0, expected"),
    ],
)
def test_an_option_out_of_range_is_explained_with_its_file(tmp_path, text, message):
    path = tmp_path / "q.yaml"
    path.write_text(text)
    with pytest.raises(ValueError, match=f"q.yaml: {message}"):
        QuantizerConfig.read(path)


@pytest.mark.parametrize("norm", ["corpus", "level"])
def test_a_clip_that_is_no_number_is_named_when_a_bank_is_learned(norm):
    features = clips()
    features["u1"][2, 0] = np.nan
    with pytest.raises(ValueError, match="utterance 'u1': frame 2 of the features"):
        learn(features, config=QuantizerConfig(norm=norm))

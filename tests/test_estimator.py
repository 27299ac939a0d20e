"""EmoQuantizer: learn, apply and share, and what is refused."""

import numpy as np
import pytest
import torch
from sklearn.base import clone
from sklearn.exceptions import NotFittedError

import emoq_plugin
from emoq_plugin import EmoQuantizer

EMOTIONS = ["angry", "happy", "sad"]


def speech(n_speakers=6, *, seed=0):
    """Three clips a speaker, one a class; classes differ in level and movement."""
    random = np.random.default_rng(seed)
    clips, labels, speakers = [], [], []
    for speaker in range(n_speakers):
        voice = random.normal(0, 0.2, 5)
        for label in range(3):
            n_frames = int(random.integers(20, 40))
            shape = np.sin(np.arange(n_frames) * (0.3 + 0.5 * label))[:, None]
            noise = random.normal(0, 0.3, (n_frames, 5))
            clips.append((label + voice + shape + noise).astype(np.float32))
            labels.append(EMOTIONS[label])
            speakers.append(f"s{speaker}")
    return clips, labels, speakers


def learned(**options):
    clips, labels, speakers = speech()
    options = {"codebook_size": 4, "n_levels": 2, "norm": "corpus"} | options
    return EmoQuantizer(**options).fit(clips, labels, speakers=speakers)


def test_the_first_code_of_the_readme(tmp_path):
    features, emotions, speakers = speech()
    test_features, test_emotions, _ = speech(3, seed=1)
    q = emoq_plugin.EmoQuantizer(
        codebook_size=4, n_levels=2, router="calibrated", norm="corpus", seed=0
    )
    q.fit(features, emotions, speakers=speakers)
    out = q(features[:8])
    x = q.decode(out.codes, out.route)
    assert x.shape == (8, max(map(len, features[:8])), 5)
    score = q.score(test_features, test_emotions)
    assert score > 0.8
    q.save_pretrained(tmp_path)
    loaded = emoq_plugin.load(tmp_path)
    again = loaded(features[:8])
    for name in ("codes", "route", "features", "bits"):
        np.testing.assert_array_equal(getattr(out, name), getattr(again, name))
    assert loaded.score(test_features, test_emotions) == score
    for part in ("specific-calibrated", "angry, happy, sad", "4 4", "corpus"):
        assert part in repr(loaded)


@pytest.mark.parametrize("router", ["cosine", "gain", "distortion", "linear", "soft"])
def test_every_router_is_learned_and_applied(router):
    quantizer = learned(router=router)
    clips, labels, _ = speech()
    out = quantizer(clips)
    decoded = quantizer.decode(out.codes, out.route, out.weights)
    np.testing.assert_allclose(decoded, out.features, rtol=1e-6)
    assert quantizer.score(clips, labels) > 0.5


def test_a_balanced_quantizer_needs_no_labels():
    clips, labels, _ = speech()
    quantizer = EmoQuantizer(codebook_size=8, router=None).fit(clips)
    assert quantizer.classes_ == []
    assert (quantizer(clips[:2]).route == 0).all()
    with pytest.raises(ValueError, match="no emotion head: it was learned without"):
        quantizer.score(clips, labels)


def test_clips_of_any_kind_give_the_same_codebooks_and_come_back_in_their_kind():
    clips, labels, speakers = speech()
    expected = learned()
    names = [f"u{n}" for n in range(len(clips))]
    for features, emotions in (
        ([torch.from_numpy(c) for c in clips], labels),
        ([c.astype(np.float64) for c in clips], labels),
        ([c.tolist() for c in clips], np.array(labels)),
        ((c for c in clips), labels),
        (dict(zip(names, clips)), dict(zip(names, labels))),
        (clips, np.eye(3)[[EMOTIONS.index(label) for label in labels]]),
    ):
        classes = EMOTIONS if np.ndim(emotions) == 2 else None
        found = clone(expected).set_params(classes=classes)
        who = dict(zip(names, speakers)) if isinstance(features, dict) else speakers
        found.fit(features, emotions, speakers=who)
        assert found.bank_.codebooks_sha256 == expected.bank_.codebooks_sha256
    arrays, tensors = expected(clips[:3]), expected(
        [torch.from_numpy(c) for c in clips[:3]]
    )
    assert isinstance(arrays.codes, np.ndarray)
    assert isinstance(tensors.codes, torch.Tensor)
    np.testing.assert_array_equal(arrays.codes, tensors.codes.numpy())
    np.testing.assert_array_equal(
        expected.encode([c.tolist() for c in clips[:3]]), arrays.codes
    )


def test_a_feats_scp_is_read_in_every_pass(tmp_path):
    import kaldiio

    clips, labels, speakers = speech()
    names = [f"u{n:02}" for n in range(len(clips))]
    kaldiio.save_ark(
        str(tmp_path / "feats.ark"),
        dict(zip(names, clips)),
        scp=str(tmp_path / "feats.scp"),
    )
    found = clone(learned()).fit(
        tmp_path / "feats.scp",
        dict(zip(names, labels)),
        speakers=dict(zip(names, speakers)),
    )
    assert found.bank_.codebooks_sha256 == learned().bank_.codebooks_sha256
    assert found.bank_.card["training_utterances"] == len(clips)


def test_it_is_an_estimator_of_scikit_learn():
    quantizer = EmoQuantizer(codebook_size=[8, 4], router="soft", norm="clip")
    assert clone(quantizer).get_params() == quantizer.get_params()
    assert not [name for name in vars(quantizer) if name.endswith("_")]
    with pytest.raises(NotFittedError, match="call fit"):
        quantizer.encode([np.zeros((3, 2))])
    clips, labels, speakers = speech()
    assert quantizer.fit(clips, labels, speakers=speakers) is quantizer
    assert quantizer.quantizer_.bank.sizes == [8, 4]


def test_votes_move_codebooks_and_bits_count_codes_and_route():
    clips, labels, speakers = speech()
    votes = 3 * np.eye(3)[[EMOTIONS.index(label) for label in labels]] + 1
    soft = EmoQuantizer(4, router="distortion", norm="corpus", classes=EMOTIONS)
    soft.fit(clips, votes, speakers=speakers)
    hard = learned(n_levels=1, router="distortion")
    assert soft.bank_.codebooks_sha256 != hard.bank_.codebooks_sha256
    out = soft(clips[:2])
    expected = [len(c) * 2 + np.log2(3) for c in clips[:2]]
    np.testing.assert_allclose(out.bits, expected)


CLIPS, LABELS, SPEAKERS = speech()
NAN = [*CLIPS[:4], np.full((5, 5), np.nan, np.float32), *CLIPS[5:]]
NARROW = [*CLIPS[:2], CLIPS[2][:, :4], *CLIPS[3:]]


@pytest.mark.parametrize(
    ("options", "arguments", "message"),
    [
        ({"codebook_size": 9999}, {}, "frames, fewer than the codebook size K = 9999"),
        ({"codebook_size": 1}, {}, "at least 2 codewords"),
        ({"router": "nearest"}, {}, "unknown router 'nearest'"),
        ({"router": "oracle"}, {}, "'oracle' is a control"),
        ({"norm": "volume"}, {}, "norm is 'volume', expected one of"),
        ({"norm": "speaker"}, {"speakers": None}, "needs speakers"),
        ({"expert_set": "special"}, {}, "unknown expert set 'special'"),
        ({"route_depth": 0}, {}, "route_depth is 0"),
        ({"classes": ["angry", "sad"]}, {}, "label 'happy' is none of classes"),
        (
            {"classes": [*EMOTIONS, "fear"]},
            {},
            "no training clip of fear",
        ),
        ({}, {"emotions": LABELS[:-1]}, "17 emotions for 18 clips"),
        ({}, {"emotions": None}, "router 'calibrated' needs emotions"),
        ({}, {"emotions": np.ones((18, 3))}, r"shape \(18, 3\), expected"),
        ({"classes": EMOTIONS}, {"emotions": np.zeros((18, 3))}, "clip 0: votes"),
        ({}, {"speakers": SPEAKERS[:2]}, "2 speakers for 18 clips"),
        ({}, {"speakers": ["s"] * 18}, "found 1 speaker, expected at least 2"),
        ({}, {"features": NAN}, "clip 4, frame 0: NaN or infinite"),
        ({}, {"features": NARROW}, "clip 2 has 4 dimensions, expected 5"),
        ({}, {"features": []}, "found no clips"),
        ({}, {"features": iter(())}, "found no clips"),
        ({}, {"features": [np.zeros(5)] * 18}, r"clip 0 has shape \(5,\)"),
        ({}, {"features": "absent.scp"}, "absent.scp is no file"),
    ],
)
def test_what_cannot_be_learned_is_refused(options, arguments, message):
    given = {"features": CLIPS, "emotions": LABELS, "speakers": SPEAKERS} | arguments
    with pytest.raises(ValueError, match=message):
        EmoQuantizer(**({"codebook_size": 4} | options)).fit(
            given["features"], given["emotions"], speakers=given["speakers"]
        )


def test_what_cannot_be_quantized_is_refused():
    quantizer = learned()
    for clips, message in (
        ([], "found no clips"),
        ([np.zeros((4, 5)), np.zeros((4, 3))], "clip 1 has shape"),
        ([np.zeros((4, 3))], "expected .clips, frames, 5"),
        ([np.zeros(5)], "clip 0 has shape"),
    ):
        with pytest.raises(ValueError, match=message):
            quantizer(clips)
    with pytest.raises(ValueError, match="label 'fear' is none of classes"):
        quantizer.score(CLIPS[:1], ["fear"])


def test_without_speakers_clips_are_held_out_and_it_is_said(caplog):
    clips, labels, _ = speech()
    EmoQuantizer(4).fit(clips, labels)
    assert "held out by clip" in caplog.text

"""Probes: what they can read, on how few distinct vectors, and what they count."""

import os
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression

from emoq_plugin.data.alignments import Alignment, label_clips, read_alignments
from emoq_plugin.evaluation.content_probes import (
    PhoneTask,
    SpeakerTask,
    fit_discriminant,
    fit_softmax,
    halves,
)
from emoq_plugin.speech.encoders.fbank import Fbank

ROOT = Path(__file__).resolve().parents[2]


def blobs(n=600, dimension=5, n_classes=4, seed=0):
    random = np.random.default_rng(seed)
    label = random.integers(n_classes, size=n)
    centres = 1.5 * np.random.default_rng(9).normal(size=(n_classes, dimension))
    rows = centres[label] + random.normal(size=(n, dimension))
    return torch.from_numpy(rows.astype(np.float32)), torch.from_numpy(label)


def one_hot(label, n_classes=4):
    return torch.nn.functional.one_hot(label, n_classes).float()


def accuracy(probe, rows, label):
    return float((probe.predict(rows) == label).float().mean())


def test_the_softmax_probe_is_as_good_as_a_converged_logistic_regression():
    rows, label = blobs()
    test, truth = blobs(seed=1)
    reference = LogisticRegression(max_iter=1000).fit(rows, label)
    probe = fit_softmax(rows, one_hot(label))
    expected = reference.score(test, truth)
    assert accuracy(probe, test, truth) == pytest.approx(expected, abs=0.01)


def test_scale_and_repetition_of_rows_change_no_decision():
    rows, label = blobs()
    plain = fit_softmax(rows, one_hot(label)).predict(rows)
    scale = torch.tensor([1, 100, 0.01, 1, 1])
    scaled = fit_softmax(rows * scale + 50, one_hot(label)).predict(rows * scale + 50)
    assert (plain == scaled).float().mean() > 0.99
    twice = fit_softmax(rows.repeat(2, 1), one_hot(label.repeat(2))).predict(rows)
    counted = fit_softmax(rows, 2 * one_hot(label)).predict(rows)
    assert (plain == counted).all() and (plain == twice).float().mean() > 0.99


@pytest.mark.parametrize("n_rows", [1, 2, 16])
def test_with_few_distinct_rows_it_is_the_most_frequent_label_of_each(n_rows):
    random = np.random.default_rng(0)
    rows = torch.from_numpy(random.normal(size=(n_rows, 40)).astype(np.float32))
    counts = torch.from_numpy(random.integers(1, 50, size=(n_rows, 7))).float()
    counts[torch.arange(n_rows), torch.arange(n_rows) % 7] += 60
    assert (fit_softmax(rows, counts).predict(rows) == counts.argmax(dim=1)).all()


def test_the_discriminant_works_with_fewer_rows_than_dimensions():
    rows, label = blobs(n=40, dimension=200)
    test, truth = blobs(seed=1, dimension=200)
    constant = torch.cat([rows, torch.ones(40, 3)], dim=1)
    probe = fit_discriminant(constant, label, 6)  # two classes have no row
    assert torch.isfinite(probe.weight).all()
    predicted = probe.predict(torch.cat([test, torch.zeros(600, 3)], dim=1))
    assert (predicted == truth).float().mean() > 0.95
    assert predicted.max() < 4


def test_the_discriminant_is_fishers_rule_without_shrinkage():
    rows, label = blobs()
    within = torch.cat([rows[label == c] - rows[label == c].mean(0) for c in range(4)])
    inverse = torch.linalg.inv(within.T @ within / len(rows))
    centres = torch.stack([rows[label == c].mean(0) for c in range(4)])
    away = rows[:, None] - centres
    distance = torch.einsum("ncd,de,nce->nc", away, inverse, away)
    probe = fit_discriminant(rows, label, 4, shrinkage=0.0)
    assert (probe.predict(rows) == distance.argmin(dim=1)).float().mean() > 0.995


def test_the_phone_task_uses_labelled_frames_and_spreads_those_it_learns_from():
    labels = {"a": np.array([0, -1, 1, 1]), "b": np.array([-1, -1])}
    labels |= {"c": np.array([1, 0, 0, -1, 1]), "d": np.array([1, -1])}
    clips = {"train": ["a", "b", "x", "c"], "test": ["d", "y"]}
    task = PhoneTask.build(labels, n_phones=2, **clips)
    assert {u: f.tolist() for u, f in task.train.items()} == {
        "a": [0, 2, 3],
        "b": [],
        "c": [0, 1, 2, 4],
    }
    assert task.train_labels.tolist() == [0, 1, 1, 1, 0, 0, 1]
    assert task.test["d"].tolist() == [0] and task.test_labels.tolist() == [1]
    fewer = PhoneTask.build(labels, n_phones=2, max_frames=3, **clips)
    assert {u: f.tolist() for u, f in fewer.train.items() if len(f)} == {
        "a": [0],
        "c": [0, 4],
    }
    assert PhoneTask.build(labels, n_phones=2, train=["a"], test=["b", "y"]) is None


def test_phones_are_counted_by_clip():
    # Row 0 is phone 0 and row 1 phone 1, with one exception in the clip "d".
    frames = {"train": ["a"], "test": ["c", "d"]}
    labels = {"a": np.array([0, 0, 1]), "c": np.array([1, 0]), "d": np.array([0, 0, 1])}
    task = PhoneTask.build(labels, n_phones=2, **frames)
    rows = torch.tensor([[0.0, 1.0], [1.0, 0.0]])
    found = task.score(rows, np.array([0, 0, 1]), np.array([1, 0, 0, 1, 1]))
    counts = {"utterances": ["c", "d"], "correct": [2, 2], "total": [2, 3]}
    assert found == counts | {"chance": 0.6}  # phone 0 is learned from most often


def speaker_task(n_speakers=4, n_texts=6):
    speakers = np.repeat(np.arange(n_speakers), n_texts)
    texts = [f"t{i}" for i in range(n_texts)] * n_speakers
    names = [f"s{s}-{t}" for s, t in zip(speakers, texts)]
    return SpeakerTask(names, speakers, halves(texts), speakers < 2)


def test_halves_hold_every_second_text():
    assert halves(["b", "a", "c", "b"]).tolist() == [1, 0, 0, 1]


def test_speakers_are_known_again_in_other_texts():
    task = speaker_task()
    random = np.random.default_rng(0)
    voice = np.random.default_rng(1).normal(size=(4, 6))[task.speakers]
    pooled = (voice + 0.1 * random.normal(size=voice.shape)).astype(np.float32)
    found = task.score(pooled)
    assert found["utterances"] == task.utterances[:12]
    assert found["correct"] == [1] * 12
    noise = random.normal(size=voice.shape).astype(np.float32)
    assert np.mean(task.score(noise)["correct"]) < 0.7


def test_a_text_that_was_heard_is_of_no_help():
    """Vectors that depend on text and speaker, with nothing in common across texts."""
    task = speaker_task(n_texts=40)
    random = np.random.default_rng(0)
    pooled = random.normal(size=(len(task.speakers), 300)).astype(np.float32)
    assert abs(np.mean(task.score(pooled)["correct"]) - 0.25) < 0.15


def test_a_speaker_with_clips_in_one_half_only_is_left_out():
    task = speaker_task()
    alone = SpeakerTask(
        task.utterances,
        task.speakers,
        np.where(task.speakers == 0, 0, task.half),
        task.tested,
    )
    pooled = np.eye(24, dtype=np.float32)
    assert alone.score(pooled)["utterances"] == task.utterances[6:12]


def test_emodb_phones_are_read_with_the_start_and_not_with_the_end():
    """Reference: 0.36 to 0.37 with the time as start of a segment, 0.14 as end."""
    import soundfile

    corpus = Path(os.environ.get("EMODB", ROOT.parent / "shared" / "data" / "emodb"))
    if not (corpus / "phones").is_dir():
        pytest.skip(f"no EMO-DB: EMODB is not set and {corpus / 'phones'} is missing")
    encoder = Fbank()
    files = sorted(corpus.glob("wav/*.wav"))
    waves = [soundfile.read(f, dtype="float32")[0] for f in files]
    frames = dict(zip((f.stem for f in files), encoder.encode(waves)))
    frames = {u: x - x.mean() for u, x in frames.items()}
    starts = read_alignments(corpus / "phones", frames)
    ends = {  # the same files, each label up to its time
        u: Alignment(np.append(-1.0, a.starts[:-1]), a.starts, a.phones)
        for u, a in starts.items()
    }
    lengths = {u: len(x) for u, x in frames.items()}
    scores = []
    for alignments in (starts, ends):
        phones, labels = label_clips(
            alignments, lengths, frame_rate_hz=50.0, min_count=50
        )
        assert len(phones) == 50
        right = total = 0
        for speakers in (("03", "09"), ("11", "13")):
            test = [u for u in frames if u.startswith(speakers)]
            train = [u for u in frames if u not in test]
            task = PhoneTask.build(labels, n_phones=50, train=train, test=test)
            rows = torch.from_numpy(
                np.concatenate(
                    [frames[u][f] for u, f in {**task.train, **task.test}.items()]
                )
            )
            n_train = len(task.train_labels)
            found = task.score(rows, np.arange(n_train), np.arange(n_train, len(rows)))
            right, total = right + sum(found["correct"]), total + sum(found["total"])
        scores.append(right / total)
    assert 0.34 < scores[0] < 0.39
    assert 0.12 < scores[1] < 0.17

"""Each normalisation removes what it says and nothing else."""

import pytest
import torch

from emoq_plugin.core.normalization import (
    KINDS,
    Normalization,
    fit_normalization,
)

FRAMES = torch.tensor([[1.0, 5.0], [3.0, 7.0]])
SPEAKER = torch.tensor([1.0, 2.0])
OFFSET = {
    "corpus": torch.zeros(2),
    "clip": torch.tensor([2.0, 6.0]),
    "level": torch.tensor([4.0, 4.0]),
    "speaker": SPEAKER,
}


@pytest.mark.parametrize("kind", KINDS)
def test_the_offset_and_the_corpus_statistics_are_removed(kind):
    mean, scale = torch.tensor([1.0, -1.0]), torch.tensor([2.0, 4.0])
    norm = Normalization(kind, mean, scale)
    expected = (FRAMES - OFFSET[kind] - mean) / scale
    torch.testing.assert_close(norm(FRAMES, SPEAKER), expected)
    # The offset is not transmitted, so the inverse stops short of it.
    torch.testing.assert_close(norm.inverse(expected), FRAMES - OFFSET[kind])


@pytest.mark.parametrize("kind", KINDS)
def test_fitted_statistics_standardise_the_training_frames(kind):
    generator = torch.Generator().manual_seed(0)
    clips = [3 + 2 * torch.randn(t, 3, generator=generator) for t in (1, 5, 30, 60)]
    means = [torch.full((3,), float(i)) for i in range(4)]
    norm = fit_normalization(kind, zip(clips, means), dimension=3)
    frames = torch.cat([norm(c, m) for c, m in zip(clips, means)])
    torch.testing.assert_close(frames.mean(dim=0), torch.zeros(3), atol=1e-5, rtol=0)
    spread = frames.std(dim=0, correction=0)
    torch.testing.assert_close(spread, torch.ones(3), atol=1e-5, rtol=0)


@pytest.mark.parametrize(
    ("kind", "same"),
    [("corpus", False), ("clip", True), ("level", True), ("speaker", False)],
)
def test_clip_and_level_hear_no_loudness(kind, same):
    norm = Normalization(kind, torch.zeros(2), torch.ones(2))
    louder = norm(FRAMES + 3.0, SPEAKER)
    assert torch.allclose(louder, norm(FRAMES, SPEAKER)) is same


def test_a_dimension_that_never_varies_keeps_scale_one():
    frames = torch.tensor([[1.0, 7.0], [2.0, 7.0]])
    norm = fit_normalization("corpus", [(frames, None)], dimension=2)
    assert norm.scale[1] == 1.0
    assert norm(frames)[:, 1].tolist() == [0.0, 0.0]


def test_speaker_normalisation_needs_the_mean_of_the_speaker():
    norm = Normalization("speaker", torch.zeros(2), torch.ones(2))
    with pytest.raises(ValueError, match="give speaker_mean"):
        norm(FRAMES)


def test_an_unknown_kind_names_those_that_exist():
    with pytest.raises(ValueError, match="'utterance' is unknown.*corpus.*speaker"):
        Normalization("utterance", torch.zeros(2), torch.ones(2))


@pytest.mark.parametrize("kind", KINDS)
def test_what_a_clip_code_sends_is_removed_again_where_features_are_compared(kind):
    norm = Normalization(kind, torch.tensor([1.0, -1.0]), torch.tensor([2.0, 4.0]))
    sent = norm(FRAMES, SPEAKER, sent=True)
    torch.testing.assert_close(norm.seen(sent), norm(FRAMES, SPEAKER))

"""ClipCode: padding, batches, autocast, windows, offsets, state, wrong inputs."""

import json
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from emoq_plugin.core.clip_code import ClipCode, entropy_bits
from emoq_plugin.core.clip_statistics import clip_statistics
from emoq_plugin.core.rvq import PADDING
from emoq_plugin.learning.clip_code import ClipCodeSettings, fit_clip_code

DIMENSION = 4


def make(*, window=None, n_bits=16, **options):
    generator = torch.Generator().manual_seed(0)
    clips = 3 * torch.randn(300, 1, DIMENSION, generator=generator)
    frames = clips + torch.randn(300, 9, DIMENSION, generator=generator)
    shares = np.eye(2)[(clips[:, 0, 0] > 0).long().numpy()]
    chosen = ClipCodeSettings(**{"statistics": "all", **options})
    return fit_clip_code(
        clip_statistics(frames), shares, n_bits=n_bits, window=window, settings=chosen
    )


CODES = {window: make(window=window) for window in (None, 4)}


def batch(lengths, *, fill=0.0, more=0, seed=0):
    generator = torch.Generator().manual_seed(seed)
    features = torch.full((len(lengths), max(lengths) + more, DIMENSION), fill)
    for clip, n in zip(features, lengths):
        level = 3 * torch.randn(DIMENSION, generator=generator)
        clip[:n] = level + torch.randn(n, DIMENSION, generator=generator)
    return features, torch.tensor(lengths)


@settings(max_examples=25, deadline=None)
@given(
    window=st.sampled_from([None, 4]),
    lengths=st.lists(st.integers(1, 14), min_size=1, max_size=4),
    fill=st.sampled_from([0.0, 1e6, math.nan, math.inf]),
    more=st.integers(0, 3),
)
def test_padding_and_the_rest_of_the_batch_change_nothing(window, lengths, fill, more):
    code = CODES[window]
    features, counts = batch(lengths, fill=fill, more=more)
    found = code.encode_clips(features, counts)
    offsets = code.offset(found, counts, n_frames=features.shape[1])
    for codes, offset, clip, n in zip(found, offsets, features, lengths):
        alone = code.encode_clips(clip[None, :n])
        assert torch.equal(codes[: alone.shape[1]], alone[0])
        assert (codes[alone.shape[1] :] == PADDING).all()
        assert torch.equal(offset[:n], code.offset(alone, n_frames=n)[0])
        assert (offset[n:] == 0).all()


def test_a_window_is_coded_as_a_clip_of_its_own():
    code, whole = CODES[4], CODES[None]
    features, counts = batch([13])
    found = code.encode_clips(features, counts)[0]
    cuts = features[0].split([4, 4, 5])  # a rest of one frame joins the last
    alone = torch.cat([whole.encode_clips(cut[None])[0] for cut in cuts])
    assert torch.equal(found, alone)
    offset = code.offset(found[None], n_frames=13)[0]
    means = code.decode(found)[:, :DIMENSION]
    assert torch.equal(offset, means[[0] * 4 + [1] * 4 + [2] * 5])


def test_a_shift_of_the_whole_clip_is_taken_away_up_to_the_code_s_error():
    code = make(n_bits=24, component_bits=3)
    features, counts = batch([20] * 64)
    left = features - code.offset(code.encode_clips(features), n_frames=20)
    assert left.mean(dim=1).square().mean() < 0.1 * features.mean(1).square().mean()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_autocast_changes_nothing(dtype):
    code = CODES[None]
    features, counts = batch([9, 5, 7])
    plain = code.encode_clips(features, counts)
    with torch.autocast("cpu", dtype):
        codes = code.encode_clips(features, counts)
        offset = code.offset(codes, counts, n_frames=9)
    assert torch.equal(codes, plain)
    assert offset.dtype == torch.float32
    assert torch.equal(offset, code.offset(plain, counts, n_frames=9))


def test_without_a_token_what_was_decoded_has_the_same_code():
    code = make(token_bits=0)
    codes = code.encode_clips(*batch([9, 5, 7, 1]))
    assert torch.equal(code.encode(code.decode(codes)), codes)


def test_state_goes_through_json_and_a_state_dict():
    code = CODES[4]
    config = json.loads(json.dumps(code.config()))
    again = ClipCode.from_config(config, code.tensors())
    features, counts = batch([9, 14])
    assert torch.equal(
        again.encode_clips(features, counts), code.encode_clips(features, counts)
    )
    assert (again.window, again.bits) == (4, 16)
    assert not list(code.parameters())
    again.load_state_dict(code.state_dict())
    assert all(t.isfinite().all() for t in code.tensors().values())


@pytest.mark.parametrize(("statistics", "share"), [("mean", 1 / 9), ("all", 1)])
def test_statistics_that_are_not_coded_take_no_room_in_a_file(statistics, share):
    code = make(statistics=statistics, n_bits=8)
    stored = code.stored()
    assert len(stored["encoder"]) == stored["decoder"].shape[1] == 9 * DIMENSION * share
    again = ClipCode.from_config(code.config(), stored)
    for name, tensor in code.tensors().items():
        assert torch.equal(again.tensors()[name], tensor)
    # Files of before held all of it.
    whole = ClipCode.from_config(code.config(), code.tensors())
    assert torch.equal(whole.encoder, code.encoder)


def test_entropy_is_that_of_the_shares_of_the_codes():
    assert entropy_bits(torch.tensor([[0, 1], [0, 2], [0, 1], [0, 2]])) == 1.0
    assert entropy_bits(torch.zeros(5, 3, dtype=torch.long)) == 0.0


def test_features_of_another_dimension_are_refused():
    with pytest.raises(
        ValueError, match="5 dimensions, the clip code was learned for 4"
    ):
        CODES[None].encode_clips(torch.zeros(1, 3, 5))
    with pytest.raises(ValueError, match="45 statistics a clip, expected 36"):
        CODES[None].encode(torch.zeros(1, 45))


def test_frames_that_are_not_finite_are_refused():
    features, _ = batch([3])
    features[0, 1] = math.nan
    with pytest.raises(ValueError, match="NaN or infinity"):
        CODES[None].encode_clips(features)


def test_codes_outside_the_alphabets_are_refused():
    code = CODES[None]
    codes = code.encode_clips(*batch([3]))
    with pytest.raises(ValueError, match="symbols, expected"):
        code.decode(codes[..., :-1])
    codes[0, 0, 2] = code.sizes[2]
    with pytest.raises(ValueError, match=r"symbol 2: .* outside the alphabet"):
        code.decode(codes)


def test_codes_of_other_windows_than_the_lengths_have_are_refused():
    code = CODES[4]
    codes = code.encode_clips(*batch([8]))
    with pytest.raises(ValueError, match=r"have \[2\] windows, expected \[3\]"):
        code.offset(codes, torch.tensor([12]), n_frames=12)


@pytest.mark.parametrize("name", ["mean", "decoder", "token", "levels"])
def test_tensors_that_do_not_fit_each_other_are_refused(name):
    code = CODES[None]
    damaged = code.tensors() | {name: code.tensors()[name][..., :-1]}
    with pytest.raises(ValueError, match=f"clip code: {name} has shape"):
        ClipCode.from_config(code.config(), damaged)

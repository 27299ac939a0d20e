"""What every encoder promises, on tiny random models of the real architectures."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from emoq_plugin.speech.encoders.registry import ENCODERS, build_encoder, encoder_class
from tests.speech.tiny_models import KINDS, make_waves

CLOSE = {"atol": 2e-5, "rtol": 1e-4}
LAYERED = [kind for kind, (_, make, _) in KINDS.items() if make]


@pytest.fixture(params=KINDS)
def kind(request):
    return request.param


@pytest.fixture
def encoder(tiny, kind):
    name, conf = tiny(kind)
    return build_encoder(name, **conf)


def test_every_encoder_is_under_this_contract():
    assert {name for name, _, _ in KINDS.values()} == set(ENCODERS)


def test_frames_are_float32_of_the_specifications_dimension_and_finite(encoder):
    waves = make_waves()
    before = [wave.copy() for wave in waves]
    for wave, kept, frames in zip(waves, before, encoder(waves), strict=True):
        assert frames.dtype == np.float32
        assert frames.ndim == 2 and frames.shape[1] == encoder.specification.dimension
        assert np.isfinite(frames).all() and frames.std() > 0
        np.testing.assert_array_equal(wave, kept)


def test_frames_come_at_the_specifications_rate(encoder):
    shift = encoder.sample_rate / encoder.specification.frame_rate_hz
    assert encoder.specification.frame_rate_hz == 50 and shift == 320
    waves = make_waves([int(1600 + i * shift) for i in range(4)])
    lengths = [len(frames) for frames in encoder(waves)]
    assert np.diff(lengths).tolist() == [1, 1, 1]
    # No encoder invents more than the frame that is cut at the end.
    assert 0 < lengths[0] <= 1600 / shift + 1


def test_a_wave_gives_the_same_frames_in_any_company(encoder):
    waves = make_waves()
    together = encoder(waves)
    backwards = encoder(waves[::-1])[::-1]
    for wave, one, two in zip(waves, together, backwards, strict=True):
        [alone] = encoder([wave])
        assert alone.shape == one.shape == two.shape
        np.testing.assert_allclose(one, alone, **CLOSE)
        np.testing.assert_allclose(two, alone, **CLOSE)


def test_numbers_of_16_bits_are_scaled_or_refused_but_never_taken_as_they_are(encoder):
    [wave] = make_waves([8000])
    integers = np.rint(wave / np.abs(wave).max() * 32767).astype(np.int16)
    [expected] = encoder([(integers / 32768).astype(np.float32)])
    np.testing.assert_array_equal(encoder([integers])[0], expected)
    with pytest.raises(ValueError, match="utterance 'u': values up to 32767, expected"):
        encoder([integers.astype(np.float32)], utterances=["u"])


def test_a_louder_neighbour_is_not_heard(encoder):
    wave, quiet, other = make_waves([2000, 2000, 3000])
    loud = [wave, 8 * quiet, 8 * other]
    first, second = encoder([wave, quiet, other])[0], encoder(loud)[0]
    np.testing.assert_allclose(first, second, **CLOSE)


def test_encoding_repeats_itself_to_the_bit(tiny, kind, encoder):
    name, conf = tiny(kind)
    again = build_encoder(name, **conf)
    waves = make_waves()
    for one, two, three in zip(encoder(waves), encoder(waves), again(waves)):
        np.testing.assert_array_equal(one, two)
        np.testing.assert_array_equal(one, three)
    assert encoder.specification.fingerprint() == again.specification.fingerprint()


def test_the_shortest_wave_gives_frames_and_a_shorter_one_an_error(encoder):
    least = encoder.minimum_samples
    assert least <= 1000 and len(encoder(make_waves([least]))[0]) >= 1
    with pytest.raises(ValueError, match=f"'u1': {least - 1} samples.*one frame"):
        encoder(make_waves([4000, least - 1]), utterances=["u0", "u1"])


@pytest.mark.parametrize("kind", LAYERED)
def test_layers_are_chosen_averaged_weighted_or_kept_in_one_pass(tiny, kind):
    name, conf = tiny(kind)
    waves = make_waves([2000, 1100])

    def ours(**options):
        encoder = build_encoder(name, **conf, **options)
        return encoder.specification, encoder(waves)

    single = [ours(layers=layer) for layer in range(4)]
    specification, kept = ours(layers="all", layer_mode="concat")
    assert specification.layers == [0, 1, 2, 3]
    assert specification.dimension == 4 * single[0][0].dimension
    average = ours(layers=[1, -1])[1]
    specification, weighted = ours(layers=[0, 2], layer_weights=[1, 3])
    assert specification.settings["layer_weights"] == [0.25, 0.75]
    for i in range(len(waves)):
        alone = [frames[i] for _, frames in single]
        np.testing.assert_allclose(kept[i], np.hstack(alone), **CLOSE)
        np.testing.assert_allclose(average[i], (alone[1] + alone[3]) / 2, **CLOSE)
        expected = 0.25 * alone[0] + 0.75 * alone[2]
        np.testing.assert_allclose(weighted[i], expected, **CLOSE)
        assert all(np.abs(a - b).max() > 1e-3 for a, b in zip(alone, alone[1:]))
    prints = {c.fingerprint() for c, _ in single} | {specification.fingerprint()}
    assert len(prints) == 5
    assert ours(layers=[-2])[0].fingerprint() == single[2][0].fingerprint()


@pytest.mark.parametrize("kind", LAYERED)
def test_the_specification_follows_the_weights_and_not_the_place(tiny, kind, tmp_path):
    name, conf = tiny(kind)
    specification = build_encoder(name, **conf).specification
    moved = tmp_path / "moved"
    shutil.copytree(conf["model"], moved)
    again = build_encoder(name, **conf | {"model": str(moved)}).specification
    assert again.fingerprint() == specification.fingerprint()
    assert len(specification.weights_sha256) == 64
    assert str(Path(conf["model"]).parent) not in str(specification.to_json())
    files = encoder_class(name).input_files(model=str(moved))
    assert files and all(path.parent == moved for path in files)


def test_autocast_and_short_products_change_nothing(encoder):
    waves = make_waves([4000, 1700])
    expected = encoder(waves)
    kept = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("medium")
    try:
        with torch.autocast("cpu", dtype=torch.bfloat16):
            found = encoder(waves)
    finally:
        torch.set_float32_matmul_precision(kept)
    for one, two in zip(found, expected, strict=True):
        np.testing.assert_array_equal(one, two)


def test_frames_that_are_no_numbers_are_named(encoder, monkeypatch):
    encode = encoder.encode

    def spoilt(waves):
        frames = encode(waves)
        frames[1][2, 0] = np.inf
        return frames

    monkeypatch.setattr(encoder, "encode", spoilt)
    message = (
        f"utterance 'b': encoder '{encoder.specification.encoder}' gives .* at frame 2"
    )
    with pytest.raises(ValueError, match=message):
        encoder(make_waves([4000, 3000]), utterances=["a", "b"])

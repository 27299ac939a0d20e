"""S3PRL's upstreams give through our path what S3PRL gives alone."""

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("s3prl")

from emoq_plugin.speech.encoders.registry import build_encoder  # noqa: E402
from tests.speech.tiny_models import make_waves  # noqa: E402


def _files(model):
    from emoq_plugin.speech.encoders.s3prl import S3prl

    return S3prl.input_files(model=model)


def test_frames_are_those_of_s3prl(tiny):
    from s3prl.nn import S3PRLUpstream

    name, conf = tiny("s3prl")
    [path] = _files(conf["model"])
    alone = S3PRLUpstream("hubert_local", path_or_url=str(path)).eval()
    encoder = build_encoder(name, **conf, layers="all", layer_mode="concat")
    for wave in make_waves([4000, 1700, 800]):
        with torch.no_grad():
            layers, _ = alone(torch.from_numpy(wave)[None], torch.tensor([len(wave)]))
        expected = torch.cat(layers, dim=-1)[0].numpy()
        np.testing.assert_allclose(encoder([wave])[0], expected, atol=2e-5, rtol=1e-4)
    assert encoder.specification.settings["upstream"] == "hubert"
    assert (
        "espnet-s3prl" in encoder.specification.versions
        or "s3prl" in encoder.specification.versions
    )


def test_a_file_and_its_directory_are_the_same_model(tiny):
    name, conf = tiny("s3prl")
    [path] = _files(conf["model"])
    by_file = build_encoder(name, **conf | {"model": str(path)})
    assert (
        by_file.specification.fingerprint()
        == build_encoder(name, **conf).specification.fingerprint()
    )
    assert _files(str(path)) == [path]


def test_upstreams_without_weights_need_no_file():
    encoder = build_encoder("s3prl", model="fbank_no_cmvn")
    assert (
        encoder.specification.layers == [0]
        and encoder.specification.frame_rate_hz == 100
    )
    [frames] = encoder(make_waves([1600]))
    assert frames.shape == (10, encoder.specification.dimension)


def test_unknown_names_and_kinds_are_answered_with_what_exists(tiny):
    with pytest.raises(ValueError, match="'huber' is neither.*hubert_large_ll60k"):
        build_encoder("s3prl", model="huber")
    name, conf = tiny("s3prl")
    for wrong in (None, "huber"):
        with pytest.raises(ValueError, match=f"of upstream '{wrong}'.*hubert.*wavlm"):
            build_encoder(name, **conf | {"upstream": wrong})


def test_a_checkpoint_of_another_kind_is_refused(tiny):
    name, conf = tiny("s3prl")
    with pytest.raises(ValueError, match="no checkpoint of S3PRL's upstream 'wavlm'"):
        build_encoder(name, **conf | {"upstream": "wavlm"})

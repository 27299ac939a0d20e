"""onnxruntime gives the codes and features of the quantizer."""

import numpy as np
import pytest
import torch

from emoq_plugin import EmoQuantizer
from emoq_plugin.bin import export
from emoq_plugin.core import CodebookBank, Normalization
from emoq_plugin.routing.base import routers
from emoq_plugin.routing.fit_calibrated import CalibratedSettings, fit_calibrated
from emoq_plugin.routing.onnx_export import export_onnx
from emoq_plugin.routing.quantizer import RoutedQuantizer
from tests.test_estimator import speech

onnxruntime = pytest.importorskip("onnxruntime")
EMOTIONS = ["angry", "happy", "sad"]


def make_bank(kind="level"):
    random = torch.Generator().manual_seed(0)
    experts = ["balanced", "specific/sad", "specific/angry", "specific/happy"]
    codebooks = [torch.randn(4, k, 5, generator=random) / 2**i
                 for i, k in enumerate((9, 7, 6))]  # fmt: skip
    learned = {
        "linear.mean": torch.randn(10, generator=random),
        "linear.scale": torch.rand(10, generator=random) + 0.5,
        "linear.weight": torch.randn(3, 10, generator=random),
        "linear.bias": torch.randn(3, generator=random),
    }
    clips = [torch.randn(30, 5, generator=random) + i % 3 for i in range(12)]
    fitted, _ = fit_calibrated(
        lambda: iter(clips),
        np.eye(3)[np.arange(12) % 3],
        [f"s{i // 3}" for i in range(12)],
        n_frames=360,
        frame_rate_hz=50.0,
        settings=CalibratedSettings(dimensions=4, codewords=4),
    )
    learned |= {f"calibrated.{name}": value for name, value in fitted.items()}
    return CodebookBank(
        experts,
        codebooks,
        Normalization(kind, torch.arange(5.0), torch.rand(5, generator=random) + 0.5),
        emotions=EMOTIONS,
        router_parameters=learned,
    )


def session(path):
    return onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])


@pytest.mark.parametrize("kind", ["corpus", "clip", "level"])
@pytest.mark.parametrize(
    "system",
    [
        "balanced",
        *(
            f"specific-{router}"
            for router, found in routers().items()
            if not found.is_control
        ),
    ],
)
def test_codes_routes_and_features_are_the_same(tmp_path, kind, system):
    if kind == "clip" and system in ("specific-cosine", "specific-gain"):
        pytest.skip("every time mean is zero: the cosine is undefined")
    make_bank(kind).save_pretrained(tmp_path)
    options = ["--system", system, "--n_levels", "2", "--onnx", str(tmp_path)]
    export.main(["--quantizer", str(tmp_path), *options])
    encode, decode = session(tmp_path / "encode.onnx"), session(
        tmp_path / "decode.onnx"
    )
    quantizer = RoutedQuantizer(make_bank(kind), system, n_levels=2)
    routes = set()
    for seed in range(20):
        torch.manual_seed(seed)
        clip = torch.randn(30 + seed, 5) * torch.rand(5) * 5 + torch.randn(5)
        expected = quantizer(clip[None])
        stream = encode.run(None, {"features": clip.numpy()})
        assert stream[0].tolist() == expected.codes[0].tolist()
        assert stream[1].tolist() == expected.route[0].tolist()
        [features] = decode.run(None, dict(zip(("codes", "route", "weights"), stream)))
        torch.testing.assert_close(torch.from_numpy(features), expected.features[0])
        routes.add(tuple(stream[1].tolist()))
    assert system == "balanced" or len(routes) > 1


@pytest.mark.parametrize("router", ["calibrated", "soft"])
def test_clip_codes_are_the_same(tmp_path, router):
    clips, labels, speakers = speech()
    options = {"codebook_size": 4, "norm": "level", "clip_bits": 4}
    quantizer = EmoQuantizer(router=router, **options)
    quantizer.fit(clips, labels, speakers=speakers)
    encode, decode = map(session, export_onnx(quantizer.quantizer_, tmp_path))
    names = ("codes", "route", "weights", "clip_codes")
    for clip in clips:
        expected = quantizer(clip[None])
        stream = encode.run(None, {"features": clip})
        for name, found in zip(names, stream, strict=True):
            np.testing.assert_allclose(found, getattr(expected, name)[0], rtol=1e-5)
        [features] = decode.run(None, dict(zip(names, stream)))
        np.testing.assert_allclose(features, expected.features[0], rtol=1e-4, atol=1e-5)
    quantizer = EmoQuantizer(router=router, clip_window=0.5, **options)
    quantizer.fit(clips, labels, speakers=speakers)
    with pytest.raises(ValueError, match="clip code of windows has no ONNX form"):
        export_onnx(quantizer.quantizer_, tmp_path)


def test_what_has_no_onnx_form_is_reported(tmp_path, caplog):
    for kind, system, message in (("speaker", "balanced", "needs the speaker's mean"),):
        make_bank(kind).save_pretrained(tmp_path)
        with pytest.raises(SystemExit):
            export.main(
                [
                    "--quantizer",
                    str(tmp_path),
                    "--system",
                    system,
                    "--onnx",
                    str(tmp_path),
                ]
            )
        assert message in caplog.text
    assert not list(tmp_path.glob("*.onnx"))

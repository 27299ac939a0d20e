"""ESPnet's own models with plug-in classes: build, train, save, load, infer, pack."""

import argparse
import copy
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
import yaml

import emoq_plugin
from emoq_plugin import EmoQuantizer
from emoq_plugin.core import CodebookBank, Normalization
from emoq_plugin.espnet_adapters.asr2 import Asr2Units
from emoq_plugin.espnet_adapters.portable import PortableQuantizer
from emoq_plugin.files import write_table
from emoq_plugin.speech.encoders.registry import build_encoder
from emoq_plugin.units.flat import flatten_codes, token_list

DIMENSION, RATE = 8, 16000
CARD = {
    "feature": {
        "encoder": "mel",
        "layers": [],
        "dimension": DIMENSION,
        "frame_rate_hz": 100.0,
        "sample_rate": RATE,
    }
}
UPSTREAM = {"n_fft": 256, "hop_length": 160, "n_mels": DIMENSION}
TOKENS = ["<blank>", "<unk>", *"abc", "<sos/eos>"]
ENCODER = {"output_size": 8, "attention_heads": 2, "linear_units": 8, "num_blocks": 1}


@pytest.fixture(scope="module")
def quantizer(tmp_path_factory):
    """Save a bank whose codebooks are on the scale of log-mel features."""
    random = torch.Generator().manual_seed(0)
    experts = ["balanced", "specific/angry", "specific/sad"]
    codebooks = [torch.randn(3, k, DIMENSION, generator=random) for k in (6, 5)]
    norm = Normalization("level", torch.zeros(DIMENSION), torch.full((DIMENSION,), 2.0))
    routers = {
        "linear.mean": torch.zeros(2 * DIMENSION),
        "linear.scale": torch.ones(2 * DIMENSION),
        "linear.weight": torch.randn(2, 2 * DIMENSION, generator=random),
        "linear.bias": torch.zeros(2),
    }
    path = tmp_path_factory.mktemp("bank")
    CodebookBank(
        experts,
        codebooks,
        norm,
        emotions=["angry", "sad"],
        card=CARD,
        router_parameters=routers,
    ).save_pretrained(path)
    return str(path)


def conf_of(quantizer, **options):
    conf = {"path": quantizer, "system": "specific-distortion"}
    return {"quantizer": conf, "upstream_conf": dict(UPSTREAM), **options}


@pytest.fixture(scope="module")
def asr():
    emoq_plugin.register()
    from espnet2.tasks.asr import ASRTask, frontend_choices

    return ASRTask, frontend_choices.get_class("emoq_quantized")


def waves(seconds=(0.5, 0.3)):
    random = torch.Generator().manual_seed(1)
    lengths = torch.tensor([int(s * RATE) for s in seconds])
    batch = torch.randn(len(lengths), int(lengths.max()), generator=random) / 8
    for row, length in zip(batch, lengths):
        row[length:] = 0
    return batch, lengths


def asr_arguments(task, frontend_conf, *options):
    parser = task.get_parser()
    args = parser.parse_args(
        ["--output_dir", "unused", "--frontend", "emoq_quantized"]
        + ["--token_list", "unused", "--encoder", "transformer", "--normalize", "none"]
        + ["--decoder", "transformer", "--model_conf", "ctc_weight=0.5", *options]
    )
    args.token_list, args.frontend_conf = TOKENS, frontend_conf
    args.encoder_conf = {**ENCODER, "input_layer": "linear"}
    args.decoder_conf = {"attention_heads": 2, "linear_units": 8, "num_blocks": 1}
    return args


def save(task, args, directory):
    """Build a model and write it as ESPnet's trainer does."""
    model = task.build_model(args)
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "config.yaml").write_text(yaml.safe_dump(vars(args)))
    torch.save(model.state_dict(), directory / "model.pth")
    return model.eval()


def features(model, batch=None):
    with torch.no_grad():
        return model.frontend(*(batch or waves()))[0]


# The frontend.


@pytest.mark.parametrize("system", ["balanced", "specific-linear", "specific-soft"])
@pytest.mark.parametrize("output", ["reconstruction", "embedding"])
def test_output_of_a_clip_does_not_depend_on_the_batch(asr, quantizer, system, output):
    torch.manual_seed(0)
    conf = conf_of(quantizer, output=output)
    conf["quantizer"]["system"] = system
    frontend = asr[1](**conf).eval()
    # ESPnet's short-time transform looks into the padding; what follows must not.
    frontend.upstream.forward = lambda frames, lengths: (frames, lengths)
    batch, lengths = torch.randn(2, 30, DIMENSION), torch.tensor([30, 17])
    frames, _ = frontend(batch, lengths)
    assert frames.shape == (2, 30, frontend.output_size())
    single, _ = frontend(batch[1:, :17], lengths[1:])
    torch.testing.assert_close(frames[1, :17], single[0])
    assert (frames[1, 17:] == 0).all()


def test_reconstruction_is_what_the_quantizer_alone_gives(asr, quantizer):
    frontend = asr[1](**conf_of(quantizer, n_levels=1)).eval()
    batch, lengths = waves()
    upstream, n_frames = frontend.upstream(batch, lengths)
    alone = emoq_plugin.load(quantizer, system="specific-distortion", n_levels=1)
    with torch.no_grad():
        assert torch.equal(
            frontend(batch, lengths)[0], alone(upstream, n_frames).features
        )


@pytest.mark.parametrize("rate", [RATE, 24000])
def test_the_encoder_of_the_quantizer_gives_the_units_of_the_toolkit(
    asr, tmp_path, rate
):
    encoder = build_encoder("fbank", num_mel_bins=DIMENSION)
    norm = Normalization("level", torch.zeros(DIMENSION), torch.ones(DIMENSION))
    codebooks = [torch.randn(1, 6, DIMENSION)]
    card = {"feature": encoder.specification.to_json()}
    bank = CodebookBank(["balanced"], codebooks, norm, emotions=[], card=card)
    bank.save_pretrained(tmp_path)
    conf = {"path": str(tmp_path), "system": "balanced"}
    frontend = asr[1](quantizer=conf, upstream="features", input_fs=rate).eval()
    batch, lengths = waves()
    frames, n_frames = frontend(batch, lengths)
    quantizer = emoq_plugin.load(str(tmp_path), system="balanced")
    for wave, length, found, n in zip(batch, lengths, frames, n_frames):
        units = quantizer.units((wave[:length].numpy(), rate))
        expected = bank.expert("balanced").decode_clip(torch.from_numpy(units.codes))
        assert torch.equal(found[:n], expected)
    # What ESPnet's loader gives for an ark of 16-bit audio: of no known full scale.
    with pytest.raises(ValueError, match="clip 0 of the batch: .*int64 have no full"):
        frontend((batch * 32767).long(), lengths)


def two_scale(folder, **options):
    random = np.random.default_rng(0)
    clips = [random.normal(n % 3, 1, (20, DIMENSION)) for n in range(32)]
    found = EmoQuantizer(4, router=None, norm="corpus", clip_bits=5, **options)
    found.fit(clips)
    found.quantizer_.bank.card["feature"] = CARD["feature"]
    found.save_pretrained(folder / "two_scale")
    return str(folder / "two_scale")


def test_frames_hold_what_the_clip_code_sends_also_from_a_checkpoint(asr, tmp_path):
    path = two_scale(tmp_path)
    options = {"upstream": "default", "upstream_conf": UPSTREAM}
    frontend = asr[1](quantizer={"path": path}, **options).eval()
    batch, lengths = waves()
    upstream, n_frames = frontend.upstream(batch, lengths)
    alone = emoq_plugin.load(path)(upstream, n_frames)
    assert alone.clip_codes.shape[:2] == (2, 1)
    frames = frontend(batch, lengths)[0]
    assert torch.equal(frames, alone.features)
    conf = {"path": path}  # filled with what a configuration saves
    trained = PortableQuantizer(conf)
    again = PortableQuantizer({k: v for k, v in conf.items() if k != "path"})
    again.load_state_dict(trained.state_dict())
    assert torch.equal(again(upstream, n_frames).features, alone.features)


@pytest.mark.parametrize("window", [None, 0.5])
def test_embedded_codes_have_clip_codes_in_front(asr, tmp_path, window):
    path = two_scale(tmp_path, clip_window=window, frame_rate=20.0)
    options = {"upstream": "default", "upstream_conf": UPSTREAM, "output": "embedding"}
    conf = {"path": path}
    frontend = asr[1](quantizer=conf, units_conf={"stack": 2}, **options).eval()
    batch, lengths = waves((0.5, 0.3))
    upstream, n_frames = frontend.upstream(batch, lengths)
    found = emoq_plugin.load(path)(upstream, n_frames)
    sizes = emoq_plugin.load(path).bank.clip_code.sizes
    n_windows = [1, 1] if window is None else [5, 3]
    frames, counts = frontend(batch, lengths)
    stacked = [-(-n // 2) for n in n_frames.tolist()]
    assert counts.tolist() == [n + t for n, t in zip(n_windows, stacked)]
    starts = torch.tensor([0, *sizes[:-1]]).cumsum(0)
    for row, n in enumerate(n_windows):
        vectors = frontend.clip_tokens.vectors(found.clip_codes[row, :n] + starts)
        torch.testing.assert_close(frames[row, :n], vectors.sum(dim=1))
        alone = found.codes[row : row + 1, : n_frames[row]]
        single, _ = frontend.embedding(alone, n_frames[row : row + 1], torch.ones(1, 1))
        torch.testing.assert_close(frames[row, n : counts[row]], single[0])
        assert (frames[row, counts[row] :] == 0).all()
    # Rebuilt from what the configuration saves, and a checkpoint.
    saved = {k: v for k, v in conf.items() if k != "path"}
    again = asr[1](quantizer=saved, units_conf={"stack": 2}, **options).eval()
    again.load_state_dict(frontend.state_dict())
    assert torch.equal(again(batch, lengths)[0], frames)


def test_clip_codes_are_refused_where_a_token_is_a_frame(tmp_path):
    from emoq_plugin.espnet_adapters.tokenizer_quantizer import TokenizerQuantizer

    with pytest.raises(ValueError, match="a tokenizer has no room for them"):
        TokenizerQuantizer({"path": two_scale(tmp_path)})


def test_gradient_goes_straight_through_and_not_into_padding(asr, quantizer):
    frontend = asr[1](**conf_of(quantizer))
    scale = torch.nn.Parameter(torch.ones(DIMENSION))
    plain = frontend.upstream.forward
    frontend.upstream.forward = lambda *a: (plain(*a)[0] * scale, plain(*a)[1])
    frames, _ = frontend(*waves())
    frames.sum().backward()
    batch, n_frames = plain(*waves())
    expected = sum(clip[:n].sum(dim=0) for clip, n in zip(batch, n_frames))
    torch.testing.assert_close(scale.grad, expected)


def test_levels_can_be_chosen_after_training(asr, quantizer):
    frontend = asr[1](**conf_of(quantizer)).eval()
    fewer = asr[1](**conf_of(quantizer, n_levels=1)).eval()
    both = frontend(*waves())[0]
    frontend.set_n_levels(1)
    assert torch.equal(frontend(*waves())[0], fewer(*waves())[0])
    assert not torch.equal(frontend(*waves())[0], both)
    with pytest.raises(ValueError, match="n_levels is 3, expected 1 to 2"):
        frontend.set_n_levels(3)
    embedding = asr[1](**conf_of(quantizer, output="embedding"))
    with pytest.raises(ValueError, match="trained on 2: it cannot change"):
        embedding.set_n_levels(1)


def test_bad_configurations_are_reported_before_training(asr, quantizer, tmp_path):
    build = asr[1]
    with pytest.raises(ValueError, match="gives 20 dimensions.*learned on 8 .mel"):
        build(**conf_of(quantizer) | {"upstream_conf": UPSTREAM | {"n_mels": 20}})
    with pytest.raises(ValueError, match="upstream is 'emoq_quantized', expected one"):
        build(**conf_of(quantizer, upstream="emoq_quantized"))
    with pytest.raises(ValueError, match="neither a directory, nor .*, nor a hub name"):
        build(**conf_of(str(tmp_path / "nothing")))
    with pytest.raises(ValueError, match="expected a mapping"):
        build(quantizer=quantizer)
    with pytest.raises(ValueError, match="unknown option 'dir'"):
        build(quantizer={"dir": quantizer})
    with pytest.raises(ValueError, match="name a system"):
        build(quantizer={"path": quantizer}, upstream_conf=UPSTREAM)
    with pytest.raises(ValueError, match="'specific-oracle' is a control"):
        build(quantizer={"path": quantizer, "system": "specific-oracle"})
    with pytest.raises(ValueError, match="says abc"):
        pinned = {"path": quantizer, "system": "balanced", "codebooks_sha256": "abc"}
        build(quantizer=pinned, upstream_conf=UPSTREAM)
    with pytest.raises(ValueError, match="output is 'codes'"):
        build(**conf_of(quantizer, output="codes"))


def test_another_layer_than_that_of_the_quantizer_is_reported(asr, quantizer, tmp_path):
    bank = CodebookBank.from_pretrained(quantizer)
    bank.card["feature"]["layers"] = [9]
    bank.save_pretrained(tmp_path)
    conf = conf_of(str(tmp_path), upstream="s3prl")
    with pytest.raises(ValueError, match=r"s3prl gives layer 6.*learned on layers .9."):
        asr[1](**conf | {"upstream_conf": {"layer": 6}})


def test_another_frame_rate_is_reported_at_the_first_batch(asr, quantizer):
    conf = conf_of(quantizer)
    conf["upstream_conf"]["hop_length"] = 320
    with pytest.raises(ValueError, match=r"26 frames for 8000 samples.*about 50"):
        asr[1](**conf)(*waves())
    # At 32 kHz they are a quarter of a second, for which 26 frames are right.
    conf = conf_of(quantizer, input_fs=2 * RATE)
    conf["upstream_conf"]["hop_length"] = 320
    asr[1](**conf)(*waves())


def test_the_sampling_rate_that_cls_gives_reaches_the_upstream(asr, quantizer):
    frontend = asr[1](**conf_of(quantizer), fs="16k")
    assert torch.equal(
        frontend.upstream.logmel.melmat,
        asr[1](**conf_of(quantizer)).upstream.logmel.melmat,
    )


# Models of ESPnet: the asr task.


@pytest.mark.parametrize("output", ["reconstruction", "embedding"])
def test_a_model_comes_back_without_the_quantizer(asr, quantizer, tmp_path, output):
    task, _ = asr
    torch.manual_seed(0)
    args = asr_arguments(
        task, conf_of(quantizer, output=output), "--init", "xavier_uniform"
    )
    model = save(task, args, tmp_path)
    config = tmp_path / "config.yaml"
    config.write_text(config.read_text().replace(quantizer, "/gone"))
    loaded, _ = task.build_model_from_file(config, tmp_path / "model.pth")
    assert torch.equal(features(loaded.eval()), features(model))
    bank = emoq_plugin.load(quantizer, system="specific-distortion").bank
    found = loaded.frontend.quantizer.routed.bank
    assert all(torch.equal(a, b) for a, b in zip(found.codebooks, bank.codebooks))
    conf = yaml.safe_load(config.read_text())["frontend_conf"]["quantizer"]
    assert conf["codebooks_sha256"] == bank.codebooks_sha256


def test_a_checkpoint_with_other_or_no_codebooks_is_refused(asr, quantizer, tmp_path):
    task, _ = asr
    save(task, asr_arguments(task, conf_of(quantizer)), tmp_path)
    states = torch.load(tmp_path / "model.pth")
    names = [name for name in states if name.endswith("codebook_1")]
    states[names[0]][0, 0, 0] += 1e-6
    torch.save(states, tmp_path / "model.pth")
    with pytest.raises(ValueError, match="codebooks of the checkpoint have sha256"):
        task.build_model_from_file(tmp_path / "config.yaml", tmp_path / "model.pth")
    del states[names[0]]
    torch.save(states, tmp_path / "model.pth")
    with pytest.raises(ValueError, match="the checkpoint has no codebooks"):
        task.build_model_from_file(tmp_path / "config.yaml", tmp_path / "model.pth")


def test_a_saved_configuration_without_checkpoint_does_not_run(
    asr, quantizer, tmp_path
):
    task, _ = asr
    save(task, asr_arguments(task, conf_of(quantizer)), tmp_path)
    model, _ = task.build_model_from_file(tmp_path / "config.yaml")
    with pytest.raises(ValueError, match="no checkpoint was loaded"):
        features(model)


def test_averaged_checkpoints_keep_the_codebooks_bit_for_bit(quantizer):
    module = PortableQuantizer({"path": quantizer, "system": "specific-linear"})
    states = module.state_dict()
    for n in range(2, 11):  # as espnet2.main_funcs.average_nbest_models does
        average = dict(states)
        for _ in range(n - 1):
            average = {k: v + states[k] for k, v in average.items()}
        module.load_state_dict({k: v / n for k, v in average.items()})


def test_a_packed_model_transcribes_as_the_original(
    asr, quantizer, tmp_path, monkeypatch
):
    from espnet2.bin.asr_inference import Speech2Text
    from espnet2.bin.pack import main as pack
    from espnet2.main_funcs.pack_funcs import unpack

    monkeypatch.chdir(tmp_path)
    task, _ = asr
    args = asr_arguments(task, conf_of(quantizer))
    save(task, args, Path("exp"))
    options = {"beam_size": 2, "maxlenratio": -5.0, "token_type": "char"}
    wave = waves()[0][0]
    first = Speech2Text("exp/config.yaml", "exp/model.pth", **options)(wave)
    pack(
        ["asr", "--asr_train_config", "exp/config.yaml"]
        + ["--asr_model_file", "exp/model.pth", "--outpath", "packed.zip"]
    )
    files = unpack("packed.zip", "elsewhere")
    second = Speech2Text(files["asr_train_config"], files["asr_model_file"], **options)(
        wave
    )
    assert [h[2] for h in first] == [h[2] for h in second]
    assert [float(h[3].score) for h in first] == [float(h[3].score) for h in second]


def test_espnets_trainer_trains_averages_and_resumes_a_quantized_model(
    asr, quantizer, tmp_path
):
    from espnet2.bin.asr_inference import Speech2Text

    task, _ = asr
    tables = {"wav.scp": {}, "text": {}}
    for n in range(4):
        soundfile.write(tmp_path / f"{n}.wav", waves((0.5,))[0][0].numpy() / 8, RATE)
        tables["wav.scp"][f"u{n}"] = tmp_path / f"{n}.wav"
        tables["text"][f"u{n}"] = "abc"
    for name, table in tables.items():
        write_table(tmp_path / name, table)
    write_table(tmp_path / "shape", {u: 8000 for u in tables["text"]})
    args = asr_arguments(task, conf_of(quantizer), "--init", "xavier_uniform")
    for part in ("train", "valid"):
        setattr(args, f"{part}_shape_file", [str(tmp_path / "shape")])
        setattr(
            args,
            f"{part}_data_path_and_name_and_type",
            [(str(tmp_path / "wav.scp"), "speech", "sound")]
            + [(str(tmp_path / "text"), "text", "text")],
        )
    args.output_dir, args.token_type = str(tmp_path / "exp"), "char"
    args.batch_type, args.batch_size, args.num_workers = "unsorted", 2, 0
    args.best_model_criterion = [("valid", "loss", "min")]
    args.keep_nbest_models, args.use_tensorboard, args.resume = 3, False, True
    for args.max_epoch in (2, 3):
        task.main(args=argparse.Namespace(**copy.deepcopy(vars(args))))
    model = tmp_path / "exp" / "valid.loss.ave_3best.pth"
    options = {"beam_size": 2, "maxlenratio": -3.0}
    speech2text = Speech2Text(model.with_name("config.yaml"), model, **options)
    assert speech2text(waves()[0][0])
    epochs = [f"{n}epoch.pth" for n in (1, 2, 3)]
    assert all((tmp_path / "exp" / name).exists() for name in epochs)
    found = speech2text.asr_model.frontend.quantizer.routed.codebooks_sha256
    assert (
        found
        == emoq_plugin.load(quantizer, system="specific-distortion").codebooks_sha256
    )


# The mt task: flat ids.


def unit_files(folder, sizes):
    random = np.random.default_rng(0)
    tables = {"units": {}, "text": {}, "units_shape": {}, "text_shape": {}}
    for n in range(6):
        codes = np.stack([random.integers(0, k, 5 + n) for k in sizes], axis=1)
        ids = flatten_codes(codes, sizes, expert=n % 3)
        tables["units"][f"u{n}"] = " ".join(map(str, ids))
        tables["text"][f"u{n}"] = "a b c"
        tables["units_shape"][f"u{n}"] = str(len(ids))
        tables["text_shape"][f"u{n}"] = "5"
    for name, table in tables.items():
        write_table(folder / name, table)
    tokens = token_list(sizes, n_experts=3)
    (folder / "units.tokens").write_text("\n".join(tokens) + "\n")
    (folder / "tokens").write_text("\n".join(TOKENS) + "\n")


@pytest.fixture(scope="module")
def translation(quantizer, tmp_path_factory):
    """Train two epochs with ESPnet's own command, and average them."""
    emoq_plugin.register()
    from espnet2.tasks.mt import MTTask

    folder = tmp_path_factory.mktemp("mt")
    unit_files(folder, [6, 5])
    conf = {
        "frontend": "emoq_units",
        "frontend_conf": {"quantizer": {"path": quantizer}, "output_size": 8,
                          "token_per_frame": 2, "embedding": "initialised"},
        "model": "discrete_asr",
        "model_conf": {"patch_size": 2, "ctc_weight": 0.3},
        "encoder": "transformer",
        "encoder_conf": {**ENCODER, "input_layer": "linear"},
        "decoder": "transformer",
        "decoder_conf": {"attention_heads": 2, "linear_units": 8, "num_blocks": 1},
        "init": "xavier_uniform", "max_epoch": 3, "keep_nbest_models": 3,
        "best_model_criterion": [["valid", "loss", "min"]], "optim": "adam",
        "batch_type": "unsorted", "batch_size": 3, "num_workers": 0,
        "use_preprocessor": True, "token_type": "word", "src_token_type": None,
        "use_tensorboard": False,
    }  # fmt: skip
    (folder / "train.yaml").write_text(yaml.safe_dump(conf))
    command = ["--config", f"{folder}/train.yaml", "--output_dir", f"{folder}/exp"]
    command += ["--token_list", f"{folder}/tokens"]
    command += ["--src_token_list", f"{folder}/units.tokens"]
    for part in ("train", "valid"):
        for name, file, kind in (
            ("src_text", "units", "text_int"),
            ("text", "text", "text"),
        ):
            command += [f"--{part}_data_path_and_name_and_type"]
            command += [f"{folder}/{file},{name},{kind}"]
            command += [f"--{part}_shape_file", f"{folder}/{file}_shape"]
    MTTask.main(cmd=command)
    return folder


def test_a_trained_averaged_model_of_units_loads_and_packs(translation, monkeypatch):
    from espnet2.bin.mt_inference import Text2Text
    from espnet2.bin.pack import main as pack
    from espnet2.main_funcs.pack_funcs import unpack

    monkeypatch.chdir(translation)
    ids = torch.tensor(
        flatten_codes(np.array([[1, 2], [3, 4], [5, 0]]), [6, 5], expert=2)
    )
    options = {"beam_size": 2, "maxlenratio": -4.0}
    model = "exp/valid.loss.ave_3best.pth"
    first = Text2Text("exp/config.yaml", model, **options)(ids)
    pack(
        ["st", "--st_train_config", "exp/config.yaml"]
        + ["--st_model_file", model, "--outpath", "packed.zip"]
    )
    files = unpack("packed.zip", "elsewhere")
    second = Text2Text(files["st_train_config"], files["st_model_file"], **options)(ids)
    assert first[0][2] == second[0][2]
    assert float(first[0][3].score) == float(second[0][3].score)
    conf = yaml.safe_load(Path("exp/config.yaml").read_text())["frontend_conf"]
    assert len(conf["quantizer"]["saved"]["codebooks_sha256"]) == 2


@pytest.fixture
def text_frontend(quantizer):
    emoq_plugin.register()
    from espnet2.tasks.mt import frontend_choices

    def build(**conf):
        conf = {"quantizer": {"path": quantizer}, "output_size": 7} | conf
        return frontend_choices.get_class("emoq_units")(
            **{"input_size": len(token_list([6, 5], n_experts=3))} | conf
        ).eval()

    return build


def test_flat_ids_are_embedded_by_the_expert_in_them(text_frontend):
    torch.manual_seed(0)
    frontend = text_frontend(use_route=False)
    codes = np.array([[1, 2], [3, 4], [5, 0]])
    ids = torch.tensor(flatten_codes(codes, [6, 5], expert=1))[None]
    end = frontend.boundary_id
    batch = torch.cat([torch.tensor([[end, end]]), ids, torch.tensor([[end, end]])], 1)
    frames, lengths = frontend(batch, torch.tensor([8]))
    assert lengths.tolist() == [4]
    assert (frames[0, 4] == 0).all()
    torch.testing.assert_close(frames[0, 0], frontend.boundary)
    vectors = sum(
        (frontend.codebooks[level][1, codes[:, level]] - frontend.offset[level])
        / frontend.scale[level]
        for level in range(2)
    )
    torch.testing.assert_close(frames[0, 1:4], frontend.projection(vectors))


def test_trained_vectors_start_from_the_codebooks_even_after_init(text_frontend):
    from espnet2.torch_utils.initialize import initialize

    tied = text_frontend()
    started = text_frontend(embedding="initialised")
    at_random = text_frontend(embedding="random")
    for frontend in (started, at_random):
        initialize(frontend, "xavier_uniform")
        frontend.load_state_dict(tied.state_dict(), strict=False)
    ids = torch.tensor(flatten_codes(np.array([[1, 2], [3, 4]]), [6, 5]))[None]
    lengths = torch.tensor([4])
    expected, _ = tied(ids, lengths)
    torch.testing.assert_close(started(ids, lengths)[0], expected)
    assert not torch.allclose(at_random(ids, lengths)[0], expected)
    assert started.vectors[0].requires_grad
    assert sum(p.numel() for p in tied.parameters()) < sum(
        p.numel() for p in started.parameters()
    )


@pytest.mark.parametrize("n_levels", [1, 2])
def test_clip_tokens_of_flat_ids_are_frames_of_their_own(tmp_path, n_levels):
    """What the asr2 card writes is what the frontend reads, <sos/eos> included."""
    from espnet2.tasks.mt import frontend_choices

    path = two_scale(tmp_path, n_levels=n_levels)
    card = Asr2Units.describe(
        emoq_plugin.load(path), path=path, stream="multi", deduplicate=False,
        src_lang="units",
    )  # fmt: skip
    sizes, tokens = card.clip_sizes, ["<blank>", "<unk>", *card.tokens(), "<sos/eos>"]
    assert len(tokens) == 2 + 4 * n_levels + sum(sizes) + 1 == card.n_units + 3
    torch.manual_seed(0)
    build = frontend_choices.get_class("emoq_units")
    conf = {"path": path}
    frontend = build(len(tokens), conf, n_levels, output_size=7).eval()
    codes = np.arange(3 * n_levels).reshape(3, n_levels) % 4
    clip = np.array([[size - 1 for size in sizes]])
    ids = torch.from_numpy(card.source(codes, {"balanced": 1.0}, clip))
    named = [tokens[i] for i in ids[: len(sizes) * n_levels]]
    assert named == [f"clip{i}c{s - 1}" for i, s in enumerate(sizes) for _ in codes[0]]
    end = torch.full((n_levels,), frontend.boundary_id)
    batch = torch.cat([end, ids])[None]
    frames, lengths = frontend(batch, torch.tensor([batch.shape[1]]))
    assert lengths.tolist() == [1 + len(sizes) + 3]
    torch.testing.assert_close(frames[0, 0], frontend.boundary)
    last = torch.from_numpy(np.cumsum(sizes) - 1)
    vectors = frontend.clip_vectors(last)
    torch.testing.assert_close(frames[0, 1 : 1 + len(sizes)], vectors)
    plain, _ = super(type(frontend), frontend).forward(
        torch.from_numpy(codes)[None], torch.tensor([3]), torch.ones(1, 1)
    )
    torch.testing.assert_close(frames[0, 1 + len(sizes) :], plain[0])
    again = build(len(tokens), {"saved": conf["saved"]}, n_levels, output_size=7).eval()
    again.load_state_dict(frontend.state_dict())
    assert torch.equal(again(batch, torch.tensor([batch.shape[1]]))[0], frames)
    alone = torch.from_numpy(flatten_codes(codes, [4] * n_levels))[None]
    with pytest.raises(ValueError, match="row 0 has no clip tokens"):
        frontend(alone, torch.tensor([alone.shape[1]]))
    with pytest.raises(ValueError, match=f"expected {len(tokens)}: .*clip tokens"):
        build(len(tokens) - sum(sizes), {"path": path}, n_levels, output_size=7)


def test_ids_that_no_unit_has_are_named(text_frontend):
    frontend = text_frontend()
    good = torch.tensor(flatten_codes(np.array([[1, 2], [3, 4]]), [6, 5]))[None]
    with pytest.raises(ValueError, match="3 ids are no multiple of 2 levels"):
        frontend(good, torch.tensor([3]))
    with pytest.raises(ValueError, match="row 0, frame 1.*another expert"):
        frontend(good + torch.tensor([0, 0, 11, 11]), torch.tensor([4]))
    with pytest.raises(ValueError, match="row 0, frame 0.*<blank> or <unk>"):
        frontend(torch.tensor([[1, 9]]), torch.tensor([2]))
    with pytest.raises(ValueError, match="level 0: unit id 10 in row 0, frame 0"):
        frontend(good.flip(1), torch.tensor([4]))


def test_vocabularies_that_do_not_fit_are_reported_before_training(text_frontend):
    with pytest.raises(ValueError, match="has 400 tokens, expected 36"):
        text_frontend(input_size=400)
    with pytest.raises(ValueError, match="token_per_frame is 4, the units have 2"):
        text_frontend(token_per_frame=4)


# The tokenizer task.


def test_the_tokenizer_quantizer_keeps_the_contract(asr, quantizer):
    from espnet2.tasks.gan_tok import quantizer_choices
    from espnet2.tok.tokenizer import SpeechTokenizer

    conf = {"path": quantizer, "system": "specific-distortion"}
    module = quantizer_choices.get_class("emoq")(quantizer=conf)
    assert (module.feature_dim, module.num_clusters) == (DIMENSION, 2 * 6)
    from espnet2.asr.frontend.default import DefaultFrontend

    tokenizer = SpeechTokenizer(DefaultFrontend(**UPSTREAM), module).eval()
    output = tokenizer(*waves())
    alone = emoq_plugin.load(quantizer, system="specific-distortion")
    quantized = alone(output.continuous, output.lengths)
    tokens = quantized.codes[..., 0] + 6 * quantized.route
    for row, length in enumerate(output.lengths):
        assert torch.equal(output.token_ids[row, :length], tokens[row, :length])
        hard = output.assignment[row, :length].argmax(dim=-1)
        assert torch.equal(hard, tokens[row, :length])
        assert (output.assignment[row, length:] == 0).all()
    torch.testing.assert_close(output.quantized_features, quantized.features)


def test_gradients_reach_the_frontend_of_a_tokenizer(asr, quantizer):
    from emoq_plugin.espnet_adapters.tokenizer_quantizer import TokenizerQuantizer

    module = TokenizerQuantizer({"path": quantizer, "system": "balanced"})
    frames = torch.randn(2, 7, DIMENSION, requires_grad=True)
    output = module(frames, torch.tensor([7, 4]))
    (output.assignment * torch.randn(6)).sum().backward()
    assert (frames.grad[0] != 0).any()
    assert (frames.grad[1, 4:] == 0).all()
    assert not list(module.parameters())
    with pytest.raises(ValueError, match="soft route"):
        TokenizerQuantizer({"path": quantizer, "system": "specific-soft"})


def test_configurations_are_plain_yaml(asr, quantizer):
    conf = conf_of(quantizer, output="embedding")
    asr[1](**conf)
    assert yaml.safe_load(yaml.safe_dump(conf)) == conf


@pytest.mark.parametrize("output", ["reconstruction", "embedding"])
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_frames_that_are_no_numbers_never_reach_a_model(asr, quantizer, output, value):
    frontend = asr[1](**conf_of(quantizer, output=output))
    batch, lengths = waves()
    batch[1, 2000] = value
    with pytest.raises(
        ValueError, match="utterance 1 of the batch: frame .* NaN or inf"
    ):
        frontend(batch, lengths)


def test_a_tokenizer_makes_no_tokens_of_frames_that_are_no_numbers(asr, quantizer):
    from emoq_plugin.espnet_adapters.tokenizer_quantizer import TokenizerQuantizer

    tokenizer = TokenizerQuantizer({"path": quantizer, "system": "specific-distortion"})
    x = torch.zeros(2, 5, DIMENSION)
    x[1, 3, 0] = float("nan")
    with pytest.raises(ValueError, match="utterance 1 of the batch: frame 3 of the "):
        tokenizer(x, torch.tensor([5, 5]))


def test_autocast_and_half_change_no_unit_of_a_frontend(asr, quantizer):
    module = PortableQuantizer({"path": quantizer, "system": "specific-linear"})
    x = torch.randn(8, 30, DIMENSION, generator=torch.Generator().manual_seed(0))
    lengths = torch.full((8,), 30)
    expected = module(x, lengths)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(module(x, lengths).codes, expected.codes)
    module.half()
    module.verify()
    assert torch.equal(module(x, lengths).codes, expected.codes)

"""Properties of the emotion recognition model and its pooling."""

import math
from pathlib import Path

import pytest
import torch

from emoq_plugin.espnet_adapters.attentive_pooling import AttentiveStatisticsPooling
from emoq_plugin.espnet_adapters.ser_task import SERTask

CONFIG = str(Path(__file__).parents[2] / "conf" / "ser" / "transformer.yaml")


def arguments_of(tiny, quantizer, *options: str):
    arguments = SERTask.get_parser().parse_args(
        [
            "--config",
            CONFIG,
            "--output_dir",
            "x",
            "--emotions",
            *tiny.emotions,
            *options,
        ]
    )
    arguments.frontend_conf |= {"quantizer": quantizer, "experts": tiny.experts}
    return arguments


def make_model(tiny, quantizer, *options: str):
    return SERTask.build_model(arguments_of(tiny, quantizer, *options))


@pytest.mark.parametrize("pooling", ["attentive_stats", "mean"])
def test_posteriors_do_not_depend_on_padding(quantizer, pooling, tiny):
    arguments = arguments_of(tiny, quantizer, "--pooling", pooling)
    if pooling == "mean":
        arguments.pooling_conf = {}
    model = SERTask.build_model(arguments).eval()
    codes, lengths, route = tiny.batch()
    batch = model.predict(codes, lengths, route)
    torch.testing.assert_close(batch.sum(1), torch.ones(3))
    longer = torch.nn.functional.pad(codes, (0, 0, 0, 5), value=-1)
    torch.testing.assert_close(model.predict(longer, lengths, route), batch)
    for row, length in enumerate(lengths):
        one = slice(row, row + 1)
        single = model.predict(codes[one, :length], lengths[one], route[one])
        torch.testing.assert_close(single, batch[one], atol=1e-5, rtol=0)


@pytest.mark.parametrize("encoder", ["conformer", "e_branchformer"])
def test_other_encoders_of_espnet_can_be_chosen(quantizer, encoder, tiny):
    conf = "{output_size: 16, attention_heads: 2, linear_units: 32, num_blocks: 1}"
    arguments = SERTask.get_parser().parse_args(
        ["--output_dir", "x", "--emotions", *tiny.emotions, "--encoder", encoder]
        + ["--encoder_conf", conf, "--encoder_conf", "input_layer=linear"]
    )
    arguments.frontend_conf = {"quantizer": quantizer, "experts": tiny.experts}
    model = SERTask.build_model(arguments).eval()
    assert model.predict(*tiny.batch()).shape == (3, 2)


def test_initialisation_leaves_the_codebooks_alone(quantizer, tiny):
    arguments = arguments_of(tiny, quantizer, "--init", "xavier_uniform")
    model = SERTask.build_model(arguments)
    model.frontend.verify_codebooks()
    for level, codebook in enumerate(model.frontend.codebooks):
        assert torch.equal(codebook, tiny.bank().codebooks[level][1:])
    assert not any("codebook" in name for name, _ in model.named_parameters())
    assert arguments.frontend_conf["quantizer"] is None


def test_soft_loss_is_the_cross_entropy_against_the_vote_shares(quantizer, tiny):
    model = make_model(tiny, quantizer, "--model_conf", "label_smoothing=0.0").eval()
    codes, lengths, route = tiny.batch()
    votes = torch.tensor([[0.7, 0.3], [0.5, 0.5], [0.0, 1.0]])
    loss, stats, weight = model(codes, lengths, votes, route)
    posteriors = model.predict(codes, lengths, route)
    expected = -(votes * posteriors.log()).sum(1).mean()
    torch.testing.assert_close(loss[0], expected)
    assert weight.item() == 3
    right = (posteriors.argmax(1) == torch.tensor([0, -1, 1])).sum() + 1  # one tie
    assert stats["acc"].item() == pytest.approx(right.item() / 3)


def test_hard_loss_sees_only_the_largest_share(quantizer, tiny):
    model = make_model(tiny, quantizer, "--model_conf", "loss=hard").eval()
    codes, lengths, route = tiny.batch()
    votes = torch.tensor([[0.7, 0.3], [0.9, 0.1], [0.0, 1.0]])
    loss = model(codes, lengths, votes, route)[0]
    torch.testing.assert_close(loss, model(codes, lengths, votes.round(), route)[0])


def test_class_weights_scale_each_class(quantizer, tiny):
    conf = ["--model_conf", "label_smoothing=0.0"]
    plain = make_model(tiny, quantizer, *conf).eval()
    heavy = make_model(
        tiny, quantizer, *conf, "--model_conf", "class_weights=[3.0, 1.0]"
    ).eval()
    heavy.load_state_dict(plain.state_dict())
    codes, lengths, route = tiny.batch()
    votes = torch.tensor([[1.0, 0.0]]).expand(3, 2)
    torch.testing.assert_close(
        heavy(codes, lengths, votes, route)[0],
        3 * plain(codes, lengths, votes, route)[0],
    )


def test_wrong_model_settings_are_refused(quantizer, tiny):
    with pytest.raises(ValueError, match="loss is 'both'"):
        make_model(tiny, quantizer, "--model_conf", "loss=both")
    with pytest.raises(ValueError, match="1 numbers for 2 emotions"):
        make_model(tiny, quantizer, "--model_conf", "class_weights=[1.0]")
    codes, lengths, route = tiny.batch()
    with pytest.raises(ValueError, match="3 classes, the model has 2"):
        make_model(tiny, quantizer)(codes, lengths, torch.ones(3, 3) / 3, route)


def test_even_attention_gives_the_mean_and_the_deviation():
    pooling = AttentiveStatisticsPooling(2, attention_size=3)
    torch.nn.init.zeros_(pooling.attention[2].weight)
    frames = torch.tensor([[[1.0, 3.0, 99.0], [0.0, 0.0, 99.0]]])
    pooled = pooling(frames, torch.tensor([2]))
    expected = torch.tensor([[2.0, 0.0, 1.0, math.sqrt(1e-6)]])
    torch.testing.assert_close(pooled, expected)
    assert pooling.output_size() == 4
    torch.testing.assert_close(pooling(frames[..., :2]), pooled)

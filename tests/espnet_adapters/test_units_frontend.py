"""Properties of the frontend that embeds unit ids by their codebook vectors."""

import pytest
import torch

from emoq_plugin.espnet_adapters.units_frontend import UnitsFrontend


def make_frontend(tiny, quantizer, **conf) -> UnitsFrontend:
    return UnitsFrontend(quantizer, experts=tiny.experts, output_size=7, **conf).eval()


@pytest.mark.parametrize("level_mode", ["sum", "concat", "learned"])
def test_frames_of_a_batch_are_those_of_single_utterances(quantizer, level_mode, tiny):
    frontend = make_frontend(tiny, quantizer, level_mode=level_mode)
    codes, lengths, route = tiny.batch()
    frames, _ = frontend(codes, lengths, route)
    assert frames.shape == (3, 6, 7)
    for row, length in enumerate(lengths):
        single, _ = frontend(
            codes[row : row + 1, :length], lengths[row : row + 1], route[row : row + 1]
        )
        torch.testing.assert_close(frames[row, :length], single[0])
        assert (frames[row, length:] == 0).all()


def test_sum_is_an_affine_map_of_the_reconstruction(quantizer, tiny):
    frontend = make_frontend(tiny, quantizer, use_route=False)
    codes, lengths, route = tiny.batch()
    frames, _ = frontend(codes[:1], lengths[:1], route[:1])
    bank = tiny.bank()
    expert = bank.experts.index(tiny.experts[0])
    reconstruction = sum(
        bank.codebooks[level][expert, codes[0, :, level]] for level in range(2)
    )
    standard = (reconstruction - frontend.offset.sum(0)) / frontend.scale[0]
    torch.testing.assert_close(frames[0], frontend.projection(standard))


def test_learned_weights_start_from_the_sum_and_receive_gradient(quantizer, tiny):
    codes, lengths, route = tiny.batch()
    summed = make_frontend(tiny, quantizer)
    learned = make_frontend(tiny, quantizer, level_mode="learned")
    learned.load_state_dict(summed.state_dict(), strict=False)
    frames, _ = learned(codes, lengths, route)
    torch.testing.assert_close(frames, summed(codes, lengths, route)[0])
    frames.square().sum().backward()
    assert (learned.level_weight.grad != 0).all()


def test_a_mixture_with_all_its_weight_on_one_expert_equals_the_hard_route(
    quantizer, tiny
):
    frontend = make_frontend(tiny, quantizer)
    codes, lengths, route = tiny.batch()
    mixed = torch.cat([codes, codes.roll(1, dims=1).clamp(min=0)], dim=-1)
    mixed_route = torch.cat([route, torch.zeros(3, 2)], dim=-1)
    torch.testing.assert_close(
        frontend(mixed, lengths, mixed_route)[0], frontend(codes, lengths, route)[0]
    )


def test_a_mixture_lies_between_its_experts(quantizer, tiny):
    frontend = make_frontend(tiny, quantizer)
    codes = torch.tensor([[[1, 2, 3, 4]]])
    length = torch.tensor([1])
    first, _ = frontend(codes[..., :2], length, torch.tensor([[1.0, 0.0]]))
    second, _ = frontend(codes[..., 2:], length, torch.tensor([[0.0, 1.0]]))
    both, _ = frontend(codes, length, torch.tensor([[0.25, 0.0, 0.0, 0.75]]))
    torch.testing.assert_close(both, 0.25 * first + 0.75 * second)


def test_the_route_changes_the_frames_of_equal_ids_by_embedding(quantizer, tiny):
    frontend = make_frontend(tiny, quantizer)
    # With equal codewords in both experts only the embedding can differ.
    for level in frontend.codebooks:
        level[1] = level[0]
    codes, lengths, _ = tiny.batch()
    one, _ = frontend(codes[:1], lengths[:1], torch.tensor([[1.0, 0.0]]))
    two, _ = frontend(codes[:1], lengths[:1], torch.tensor([[0.0, 1.0]]))
    difference = frontend.route_embedding.weight[:, 0] - (
        frontend.route_embedding.weight[:, 1]
    )
    torch.testing.assert_close(one - two, difference.expand_as(one))


def test_stacked_frames_do_not_depend_on_padding(quantizer, tiny):
    frontend = make_frontend(tiny, quantizer, stack=4)
    codes, lengths, route = tiny.batch()
    frames, n_stacked = frontend(codes, lengths, route)
    assert n_stacked.tolist() == [2, 1, 1]
    assert frames.shape == (3, 2, 7)
    assert (frames[1:, 1:] == 0).all()
    for row, length in enumerate(lengths):
        one = slice(row, row + 1)
        single, (n,) = frontend(codes[one, :length], lengths[one], route[one])
        torch.testing.assert_close(frames[row, :n], single[0])
    with pytest.raises(ValueError, match="stack is 0"):
        make_frontend(tiny, quantizer, stack=0)


def test_ids_of_one_level_may_lack_the_last_axis(quantizer, tiny):
    frontend = make_frontend(tiny, quantizer, n_levels=1)
    codes, lengths, route = tiny.batch()
    flat, _ = frontend(codes[..., 0], lengths, route)
    torch.testing.assert_close(flat, frontend(codes[..., :1], lengths, route)[0])


def test_an_id_outside_the_codebook_is_named_with_level_and_size(quantizer, tiny):
    frontend = make_frontend(tiny, quantizer)
    codes, lengths, route = tiny.batch()
    codes[2, 3, 1] = 6
    with pytest.raises(ValueError, match=r"level 1: unit id 6 in row 2, frame 3.*K=6"):
        frontend(codes, lengths, route)
    codes[2, 3, 1] = -1
    with pytest.raises(ValueError, match=r"level 1: unit id -1"):
        frontend(codes, lengths, route)


def test_shapes_that_do_not_fit_are_refused(quantizer, tiny):
    frontend = make_frontend(tiny, quantizer)
    codes, lengths, route = tiny.batch()
    with pytest.raises(ValueError, match="3 ids a frame and the route 2 numbers"):
        frontend(torch.cat([codes, codes[..., :1]], -1), lengths, route)
    with pytest.raises(ValueError, match="no route given.*2 experts"):
        frontend(codes, lengths)


def test_wrong_configurations_are_refused(quantizer, tiny):
    with pytest.raises(ValueError, match="level_mode is 'mean'"):
        make_frontend(tiny, quantizer, level_mode="mean")
    with pytest.raises(ValueError, match=r"no expert \['happy'\]"):
        UnitsFrontend(quantizer, experts=["happy"])
    with pytest.raises(ValueError, match="3 levels, the quantizer has 2"):
        make_frontend(tiny, quantizer, n_levels=3)
    with pytest.raises(ValueError, match="units were made with abc"):
        make_frontend(tiny, quantizer, quantizer_sha256="abc")
    with pytest.raises(ValueError, match="frontend_conf needs 'quantizer'"):
        UnitsFrontend()


def test_no_quantizer_is_needed_to_load_a_checkpoint(quantizer, tiny):
    trained = make_frontend(tiny, quantizer)
    loaded = UnitsFrontend(output_size=7, **trained.portable_conf()).eval()
    loaded.load_state_dict(trained.state_dict(), strict=False)
    batch = tiny.batch()
    assert torch.equal(loaded(*batch)[0], trained(*batch)[0])


def test_a_tampered_codebook_is_refused_and_its_level_named(quantizer, tiny):
    trained = make_frontend(tiny, quantizer)
    states = {key: value.clone() for key, value in trained.state_dict().items()}
    states["codebook_1"][0, 0, 0] += 1e-6 * states["codebook_1"].abs().max()
    loaded = UnitsFrontend(output_size=7, **trained.portable_conf())
    with pytest.raises(ValueError, match="codebook of level 1 of the checkpoint"):
        loaded.load_state_dict(states, strict=False)


def test_a_checkpoint_without_codebooks_is_refused(quantizer, tiny):
    trained = make_frontend(tiny, quantizer)
    states = dict(trained.state_dict())
    del states["codebook_0"]
    loaded = UnitsFrontend(output_size=7, **trained.portable_conf())
    with pytest.raises(ValueError, match="no codebooks: codebook_0 missing"):
        loaded.load_state_dict(states, strict=False)

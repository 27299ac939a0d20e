"""Every router on a bank whose routes one can compute by hand."""

import math

import numpy as np
import pytest
import torch

from emoq_plugin.core.batch_encoding import batch_encoding, decode_route
from emoq_plugin.routing.base import RoutingInputs, get_router, routers
from emoq_plugin.routing.learn import fit_routers
from emoq_plugin.routing.routers.distortion import fit_soft_temperature
from emoq_plugin.routing.systems import System, parse_systems
from emoq_plugin.routing.training import RouterTraining

EMOTIONS = ["angry", "happy", "sad"]
SPECIFIC = [f"specific/{e}" for e in EMOTIONS]


def encode(bank, frames):
    return batch_encoding(bank, torch.tensor(frames)[None])


def route(bank, frames, system, *, utterance="", emotion=None, **options):
    inputs = RoutingInputs(
        encode(bank, frames), utterances=[utterance], emotions=[emotion], **options
    )
    places, weights = System.parse(system).route(inputs)
    names = [bank.experts[place] for place in places[0].tolist()]
    return dict(zip(names, weights[0].tolist()))


def place(bank, expert):
    return [bank.experts.index(expert)]


def test_distortion_is_the_mean_squared_error(bank):
    clip = encode(bank, [[4.0, 0.0], [5.5, 1.0]])
    # Errors (0, 0) and (-0.5, 1): 1.25 over two frames of two dimensions.
    angry, balanced = (place(bank, e) for e in ("specific/angry", "balanced"))
    assert float(clip.distortion(angry, 1)) == pytest.approx(1.25 / 4)
    assert float(clip.distortion(balanced, 1)) == pytest.approx((10 + 4.5**2) / 4)


def test_cosine_is_between_the_time_means(bank):
    clip = encode(bank, [[3.0, 3.0], [5.0, 5.0]])
    # Mean (4, 4); angry gives (4, 0) and (4 or 6, 0), on the first axis.
    angry, balanced = (place(bank, e) for e in ("specific/angry", "balanced"))
    assert float(clip.cosine(angry, 1)) == pytest.approx(math.sqrt(0.5))
    assert float(clip.cosine(balanced, 1)) == pytest.approx(1.0)


@pytest.mark.parametrize("router", ["distortion", "cosine", "gain"])
@pytest.mark.parametrize(
    ("frames", "expert"),
    [
        ([[4.0, 0.0], [6.0, 1.0]], "specific/angry"),
        ([[0.5, 4.0]], "specific/happy"),
        ([[-5.0, 0.0], [-3.0, 0.0]], "specific/sad"),
    ],
)
def test_a_clip_goes_to_the_expert_that_fits(bank, router, frames, expert):
    assert route(bank, frames, f"specific-{router}") == {expert: 1.0}


def test_cosine_looks_at_the_direction_and_distortion_at_the_distance(make_bank):
    bank = make_bank(
        {
            "balanced": [[9.0, 9.0], [8.0, 8.0]],
            "specific/angry": [[100.0, 0.0], [200.0, 0.0]],
            "specific/happy": [[1.0, 1.0], [2.0, 2.0]],
            "specific/sad": [[-1.0, -5.0], [-2.0, -5.0]],
        }
    )
    assert route(bank, [[1.0, 0.0]], "specific-cosine") == {"specific/angry": 1.0}
    assert route(bank, [[1.0, 0.0]], "specific-distortion") == {"specific/happy": 1.0}


def test_gain_falls_back_to_balanced_when_no_expert_gains(make_bank, bank):
    assert route(bank, [[1.0, 1.0]], "specific-gain") == {"balanced": 1.0}
    # Equal is no gain.
    alike = make_bank({e: [[1.0, 0.0], [2.0, 0.0]] for e in ["balanced", *SPECIFIC]})
    assert route(alike, [[1.0, 1.0]], "specific-gain") == {"balanced": 1.0}


def test_the_router_looks_at_the_levels_that_depth_says(make_bank):
    near, far = [[1.0, 0.0], [1.0, 0.0]], [[2.0, 0.0], [2.0, 0.0]]
    bank = make_bank(
        {
            "specific/angry": [near, [[0.0, 0.0], [0.0, 0.0]]],
            "specific/happy": [far, [[-2.0, 0.0], [-1.9, 0.0]]],
            "specific/sad": [[[9.0, 9.0]] * 2] * 2,
        }
    )
    frames = [[0.0, 0.0]]
    assert route(bank, frames, "specific-distortion", depth=1) == {SPECIFIC[0]: 1.0}
    assert route(bank, frames, "specific-distortion", depth=2) == {SPECIFIC[1]: 1.0}


def test_linear_takes_the_class_of_the_highest_logit(make_bank):
    weight = torch.zeros(3, 4)
    weight[2, 0], weight[1, 3] = 1.0, 1.0  # sad: mean of x; happy: deviation of y
    learned = {
        "linear.mean": torch.tensor([2.0, 0.0, 0.0, 0.0]),
        "linear.scale": torch.tensor([1.0, 1.0, 1.0, 0.5]),
        "linear.weight": weight,
        "linear.bias": torch.tensor([0.5, 0.0, 0.0]),
    }
    bank = make_bank(router_parameters=learned)
    # mean x = 3: sad has 1. Deviation of y = 1, scaled 2: happy has 2. Else angry, 0.5.
    assert route(bank, [[3.0, 0.0]], "specific-linear") == {"specific/sad": 1.0}
    frames = [[3.0, -1.0], [3.0, 1.0]]
    assert route(bank, frames, "specific-linear") == {"specific/happy": 1.0}
    assert route(bank, [[1.0, 0.0]], "specific-linear") == {"specific/angry": 1.0}


def test_linear_without_a_learned_router_says_so(bank):
    with pytest.raises(ValueError, match="no linear router"):
        route(bank, [[1.0, 0.0]], "specific-linear")


def test_soft_mixes_the_best_two_by_their_posterior(make_bank):
    # Distortions at (1, 0) are 4.5 (angry) and 8.5 (happy): a margin of 4.
    bank = make_bank(
        router_parameters={"soft.temperature": torch.tensor(4 / math.log(4))}
    )
    found = route(bank, [[1.0, 0.0]], "specific-soft")
    assert list(found) == ["specific/angry", "specific/happy"]
    assert found["specific/angry"] == pytest.approx(0.8)
    assert sum(found.values()) == pytest.approx(1.0)


@pytest.mark.parametrize("temperature", [1e-6, 0.1, 1.0, 10.0, 1e6])
def test_soft_weights_are_one_of_sixteen_and_sum_to_one(make_bank, temperature):
    bank = make_bank(router_parameters={"soft.temperature": torch.tensor(temperature)})
    for x in (-5.0, 0.0, 0.1, 2.0, 300.0):
        first, second = route(bank, [[x, 1.0]], "specific-soft").values()
        assert first + second == pytest.approx(1.0)
        assert 0.5 <= first <= 1.0
        assert (first - 0.5) * 30 == pytest.approx(round((first - 0.5) * 30))


@pytest.mark.parametrize("router", ["oracle", "wrong", "random"])
def test_controls_ignore_the_clip_and_follow_utterance_and_seed(bank, router):
    system = f"specific-{router}"
    names = [f"utt{i}" for i in range(60)]

    def routes(x, seed):
        return [
            next(
                iter(
                    route(
                        bank, [[x, 0.0]], system, utterance=u, emotion="sad", seed=seed
                    )
                )
            )
            for u in names
        ]

    assert routes(4.0, 0) == routes(-9.0, 0)
    allowed = {"oracle": SPECIFIC[2:], "wrong": SPECIFIC[:2], "random": SPECIFIC}
    assert set(routes(0.0, 0)) == set(allowed[router])
    if router != "oracle":
        assert routes(0.0, 0) != routes(0.0, 1)


@pytest.mark.parametrize("router", ["oracle", "wrong"])
def test_controls_that_need_the_class_name_a_clip_without_one(bank, router):
    with pytest.raises(ValueError, match="'u7' has no class"):
        route(bank, [[0.0, 0.0]], f"specific-{router}", utterance="u7")


@pytest.mark.parametrize("system", ["capacity-oracle", "capacity-wrong"])
def test_a_class_that_has_no_expert_is_named(bank, system):
    with pytest.raises(
        ValueError, match="no expert of class 'sad' among .'capacity/0'"
    ):
        route(bank, [[0.0, 0.0]], system, emotion="sad")


def test_the_bits_of_a_route_count_what_a_decoder_must_know(bank):
    def bits(system):
        return System.parse(system).side_bits(bank)

    assert bits("balanced") == 0.0
    assert bits("specific-distortion") == pytest.approx(math.log2(3))
    assert bits("specific-gain") == pytest.approx(math.log2(4))  # E + 1: the fallback
    assert bits("specific-soft") == pytest.approx(math.log2(3 * 2) + 4)
    assert bits("capacity-distortion") == 1.0
    assert get_router("oracle").side_bits(4) == 2.0


def test_an_unknown_router_names_those_that_exist():
    with pytest.raises(ValueError, match="unknown router 'nearest'") as error:
        System.parse("specific-nearest")
    assert all(name in str(error.value) for name in routers())
    with pytest.raises(ValueError, match="unknown router ''"):
        get_router("")


def test_systems_that_a_bank_cannot_serve_are_explained(bank):
    with pytest.raises(ValueError, match="no expert set 'biased95'.*'capacity'"):
        System.parse("biased95-cosine").experts(bank)
    with pytest.raises(ValueError, match="3 experts: name a router.*specific-dist"):
        System.parse("specific").experts(bank)
    with pytest.raises(ValueError, match="one expert.*write 'balanced'"):
        System.parse("balanced-soft").experts(bank)
    without = bank.subset(SPECIFIC)
    with pytest.raises(ValueError, match="no expert set 'balanced'"):
        System.parse("specific-gain").experts(without)


def test_systems_are_read_once_with_balanced_first():
    names = ["specific-soft", "balanced", "specific-soft", "capacity-random"]
    systems = [system.name for system in parse_systems(names)]
    assert systems == ["balanced", "specific-soft", "capacity-random"]


def test_a_mixture_decodes_to_the_weighted_sum(bank):
    mixture = {"specific/angry": 0.75, "specific/sad": 0.25}
    places = torch.tensor([[bank.experts.index(e) for e in mixture]])
    codes = encode(bank, [[1.0, 0.0], [5.5, 0.0]]).codes(places, 1)[0]
    assert codes.tolist() == [[0, 0], [1, 0]]
    assert decode_route(bank, codes, mixture).tolist() == [[2.0, 0.0], [3.5, 0.0]]
    with pytest.raises(ValueError, match="code 2 is outside"):
        decode_route(bank, codes + 1, mixture)


def test_the_temperature_is_high_where_distortion_says_little():
    random = np.random.default_rng(0)
    truth = random.integers(3, size=300)
    targets = torch.from_numpy(np.eye(3)[truth])
    noise = torch.from_numpy(random.uniform(size=(300, 3)))
    temperature = {
        strength: float(fit_soft_temperature(noise - strength * targets, targets))
        for strength in (0.0, 0.3, 3.0)
    }
    assert temperature[0.0] > 3 * temperature[0.3] > 3 * temperature[3.0]


def test_the_temperature_is_the_most_likely_one():
    random = np.random.default_rng(0)
    distortions = torch.from_numpy(random.uniform(size=(4000, 3)))
    posteriors = (-distortions / 0.2).softmax(dim=1)
    assert float(fit_soft_temperature(distortions, posteriors)) == pytest.approx(
        0.2, rel=0.1
    )


def test_fitted_routers_send_training_clips_to_their_class(bank):
    random = np.random.default_rng(0)
    centers = torch.tensor([[5.0, 0.0], [0.0, 5.0], [-5.0, 0.0]])
    truth = np.arange(30) % 3
    frames = [
        centers[c] + torch.from_numpy(random.normal(size=(9, 2)).astype(np.float32))
        for c in truth
    ]
    training = RouterTraining(
        lambda: iter(frames),
        np.eye(3)[truth],
        [f"s{i % 5}" for i in range(30)],
        n_frames=270,
        frame_rate_hz=50.0,
        bank=bank,
    )
    bank.router_parameters, _ = fit_routers(training, shared=False)
    for clip, c in zip(frames, truth):
        for router in ("linear", "soft"):
            found = route(bank, clip.tolist(), f"specific-{router}")
            assert next(iter(found)) == SPECIFIC[c]


def test_a_random_route_needs_the_name_of_the_clip(bank):
    with pytest.raises(ValueError, match="no name, which the draw of a control"):
        route(bank, [[0.0, 0.0]], "specific-random")


def test_a_batch_is_routed_as_its_clips_alone(deep_bank):
    lengths = torch.tensor([4, 9, 1, 6])
    x = torch.randn(4, 9, 3, generator=torch.Generator().manual_seed(1)) * 3
    together = batch_encoding(deep_bank, x, lengths)
    for name in ("cosine", "gain", "distortion", "linear", "soft"):
        system = System.parse(f"specific-{name}")
        places, weights = system.route(RoutingInputs(together, depth=2))
        for b, n in enumerate(lengths.tolist()):
            alone = batch_encoding(deep_bank, x[b : b + 1, :n])
            expected = system.route(RoutingInputs(alone, depth=2))
            assert torch.equal(places[b], expected[0][0])
            assert torch.equal(weights[b], expected[1][0])


def test_a_router_is_one_class_that_is_found_by_its_name(deep_bank):
    from emoq_plugin.routing.base import Router, single

    class LastRouter(Router):
        """Takes the last expert."""

        name = "last"

        def choose(self, inputs, experts):
            n_clips = len(inputs.clips.lengths)
            return single(torch.full((n_clips,), len(experts) - 1))

    try:
        assert route(deep_bank, [[0.0, 0.0, 0.0]], "specific-last") == {
            "specific/sad": 1.0
        }
        assert System.parse("specific-last").title == "Emo-Q, last router"
    finally:
        del LastRouter  # not for other tests
        import gc

        gc.collect()
    with pytest.raises(ValueError, match="unknown router 'last'"):
        get_router("last")

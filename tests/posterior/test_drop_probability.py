"""Plans with varied drop probabilities: paired with the nominal plan, right in law, and nothing is left behind."""

import contextlib
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from hardware.drop_probability import GaussianProbability
from lit_scaledrop.layers import ScaleDropout
from lit_scaledrop.layers.stochastic import stochastic_layers
from lit_scaledrop.modules.classifier import LitClassifier
from lit_scaledrop.posterior import draw_plan, enumerate_plan
from lit_scaledrop.posterior.drop_probability import (
    as_built,
    chip_probabilities,
    injected,
    read_probabilities,
    redrawing,
    scale_dropouts,
    seeded,
    set_probabilities,
)
from lit_scaledrop.posterior.posterior import PosteriorPredictive

P = (0.1, 0.2, 0.5)


@pytest.fixture
def net():
    torch.manual_seed(0)
    layers = [layer for p in P for layer in (nn.Linear(4, 4), ScaleDropout(4, p))]
    for layer in layers[1::2]:
        layer.scale.data.uniform_(0.5, 2)
    return nn.Sequential(*layers)


def gaussian(sigma):
    return GaussianProbability(sigma).probability


def noted(probability):
    """The function, and what it gave so far."""
    given = []

    def note(p, generator):
        given.append(probability(p, generator))
        return given[-1]

    return note, given


def kept(plan):
    """Keep bits, (samples, layers)."""
    return torch.stack([draw[:, 0, 0] for draw in plan.draws.values()], 1)


# --- plans ---


def test_sigma_zero_is_the_plan_without():
    network = LitClassifier("lenet5", width=0.25, p=0.3, mask="element", drop_value="random").network
    one, other = draw_plan(network, 20, 3), draw_plan(network, 20, 3, probability=gaussian(0.0))
    assert one.draws.keys() == other.draws.keys()
    for name, draw in one.draws.items():
        assert torch.equal(draw, other.draws[name])


@settings(max_examples=20, derandomize=True)
@given(sigma=st.floats(0, 1e3), seed=st.integers(0, 99), samples=st.integers(1, 30))
def test_masks_compare_the_same_numbers_with_other_probabilities(sigma, seed, samples):
    model = nn.Sequential(*[ScaleDropout(2, p) for p in P])
    note, given = noted(gaussian(sigma))
    bits = kept(draw_plan(model, samples, seed, probability=note))
    # what draw_plan documents: one number a pass and layer, pass after pass, from a generator with this seed
    generator = torch.Generator().manual_seed(seed)
    uniform = torch.stack([torch.rand(1, 1, 1, generator=generator).squeeze() for _ in range(samples * len(P))])
    actual = torch.stack(given)
    assert actual.shape == (samples, len(P))
    assert bool(((actual >= 0) & (actual <= 1)).all())
    assert torch.equal(bits, (uniform.view(samples, len(P)) >= actual.float()).float())


def test_the_first_passes_of_a_longer_plan_are_the_shorter_plan(net):
    long, short = (kept(draw_plan(net, samples, 5, probability=gaussian(0.2))) for samples in (40, 7))
    assert torch.equal(long[:7], short)
    assert not torch.equal(long, kept(draw_plan(net, 40, 6, probability=gaussian(0.2))))


def test_nothing_is_left_behind(net):
    before, stream = read_probabilities(scale_dropouts(net)), torch.get_rng_state()
    draw_plan(net, 5, 0, probability=gaussian(0.3))
    PosteriorPredictive(net, 5, probability=gaussian(0.3), chip=1)(torch.zeros(2, 4))
    inside = []
    with contextlib.suppress(KeyboardInterrupt), as_built(net, gaussian(0.3), 0):
        inside.append(read_probabilities(scale_dropouts(net)))
        raise KeyboardInterrupt
    assert not torch.equal(inside[0], before)
    assert torch.equal(read_probabilities(scale_dropouts(net)), before)
    assert torch.equal(torch.get_rng_state(), stream)


def test_streams_have_nothing_in_common():
    keys = [("chip", 1), ("chip", 2), ("train", 1), ("train", 1, 2), ("train", 12)]
    assert len({seeded(*key).initial_seed() for key in keys}) == len(keys)
    # that of a plan's probabilities is not that of its masks
    assert seeded("probability", 0).initial_seed() != torch.Generator().manual_seed(0).initial_seed()


def test_what_makes_no_sense_is_refused(net):
    for scheme in ("stratified", "systematic"):
        with pytest.raises(ValueError, match=f"'{scheme}' counts drops by one p"):
            draw_plan(net, 5, 0, scheme, gaussian(0.1))
    with pytest.raises(ValueError, match="give a seed"):
        draw_plan(net, 5, torch.Generator(), probability=gaussian(0.1))
    with pytest.raises(ValueError, match="no Scale-Dropout layer"):
        draw_plan(nn.Linear(2, 2), 5, probability=gaussian(0.1))
    with pytest.raises(ValueError, match="name a chip"):
        PosteriorPredictive(net, 5, execution="exact", probability=gaussian(0.1))
    with pytest.raises(ValueError, match="a chip needs the probability"):
        PosteriorPredictive(net, 5, chip=1)
    layers = scale_dropouts(net)
    for wrong in (torch.tensor([0.1, 0.2]), torch.tensor([0.1, 0.2, 1.1]), torch.tensor([0.1, 0.2, math.nan])):
        with pytest.raises(ValueError, match="3 probabilities from 0 to 1"):
            set_probabilities(layers, wrong)
    with pytest.raises(ValueError, match="from 0 to 1"), redrawing(net, lambda p, _: p + 1, seeded("x")) as redraw:
        redraw()


def test_injected_by_hand():
    nominal, actual = torch.tensor([0.1, 0.5]), torch.tensor([0.2, 0.2], dtype=torch.float64)
    assert injected(nominal, actual) == pytest.approx({"hw/p_shift": 0.2, "hw/p_min": 0.2, "hw/p_max": 0.2})


# --- the law of the masks ---


def clipped_moments(p, sigma):
    """Mean and variance of a Gaussian that is clipped to [0, 1], in closed form."""
    cdf = lambda x: 0.5 * math.erfc(-x / math.sqrt(2))  # noqa: E731
    pdf = lambda x: math.exp(-(x**2) / 2) / math.sqrt(2 * math.pi)  # noqa: E731
    a, b = (0 - p) / sigma, (1 - p) / sigma
    inside = cdf(b) - cdf(a)
    mean = p * inside + sigma * (pdf(a) - pdf(b)) + 1 - cdf(b)
    square = (p**2 + sigma**2) * inside + sigma * (2 * p * (pdf(a) - pdf(b)) + sigma * (a * pdf(a) - b * pdf(b)))
    return mean, square + 1 - cdf(b) - mean**2


def test_redrawn_probabilities_leave_bernoulli_bits_of_their_mean_and_a_chip_does_not():
    """Drops among T passes: binomial of the mean of p^ where it is redrawn, over-dispersed over finished chips."""
    sigma, samples, plans = 0.15, 25, 250
    model = nn.Sequential(*[ScaleDropout(2, p) for p in P])
    used, chips = [], []
    for seed in range(plans):
        used.append((1 - kept(draw_plan(model, samples, seed, probability=gaussian(sigma)))).sum(0))
        with as_built(model, gaussian(sigma), seed):
            chips.append((1 - kept(draw_plan(model, samples, seed))).sum(0))
    for layer, p in enumerate(P):
        mean, variance = clipped_moments(p, sigma)
        binomial = samples * mean * (1 - mean)
        dispersed = binomial + samples * (samples - 1) * variance
        for counts, expected in ((used, binomial), (chips, dispersed)):
            drops = torch.stack(counts)[:, layer].double()
            assert abs(drops.mean() - samples * mean) < 4 * math.sqrt(expected / plans)
            # a sample variance is off by sqrt(2 / n) of itself, relatively, and by more for heavier tails
            assert drops.var() == pytest.approx(expected, rel=5 * math.sqrt(2 / plans))
        assert dispersed > 1.5 * binomial
    # cut off at 0 the mean moves: the one trace that the redrawn variation leaves
    assert clipped_moments(0.1, sigma)[0] > 0.12
    assert clipped_moments(0.5, sigma)[0] == pytest.approx(0.5)


# --- predictions ---


def test_every_execution_draws_alike(net):
    x = torch.randn(3, 4, generator=torch.Generator().manual_seed(1))
    for chip in (None, 4):
        options = {"probability": gaussian(0.2), "chip": chip}
        loop, folded, shared = (
            PosteriorPredictive(net, 12, 2, execution, **options)(x).logits
            for execution in ("loop", "folded", "shared")
        )
        torch.testing.assert_close(loop, folded)
        torch.testing.assert_close(loop, shared)
    nominal = PosteriorPredictive(net, 12, 2)(x).logits
    assert torch.equal(nominal, PosteriorPredictive(net, 12, 2, probability=gaussian(0.0))(x).logits)
    assert torch.equal(nominal, PosteriorPredictive(net, 12, 2, probability=gaussian(0.0), chip=9)(x).logits)
    assert not torch.equal(nominal, loop)


def test_exact_weights_of_a_chip_are_products_of_its_probabilities(net):
    actual = chip_probabilities(read_probabilities(scale_dropouts(net)), gaussian(0.03), 7)
    posterior = PosteriorPredictive(net, execution="exact", probability=gaussian(0.03), chip=7)
    (plan,) = posterior.plans
    expected = torch.where(kept(plan) > 0, 1 - actual.float(), actual.float()).double().prod(1)
    torch.testing.assert_close(plan.weights, expected)
    assert plan.samples == 8
    assert not torch.allclose(plan.weights, enumerate_plan(net).weights)
    other = PosteriorPredictive(net, execution="exact", probability=gaussian(0.03), chip=8).plans[0]
    assert not torch.allclose(plan.weights, other.weights)


def test_schemes_count_drops_by_the_probabilities_of_the_chip(net):
    actual = chip_probabilities(read_probabilities(scale_dropouts(net)), gaussian(0.03), 7)
    for scheme in ("stratified", "systematic"):
        (plan,) = PosteriorPredictive(net, 40, scheme=scheme, probability=gaussian(0.03), chip=7).plans
        assert ((1 - kept(plan)).sum(0) - 40 * actual).abs().max() < 1 + 1e-4


def test_auto_takes_all_masks_of_a_chip_and_none_where_p_is_redrawn(net):
    x = torch.zeros(2, 4)
    chip = PosteriorPredictive(net, 100, execution="auto", probability=gaussian(0.03), chip=7)
    redrawn = PosteriorPredictive(net, 100, execution="auto", probability=gaussian(0.03))
    chip(x)
    redrawn(x)
    assert chip.choice == "exact"
    assert redrawn.choice != "exact"
    assert redrawn.num_samples == 100
    exact = PosteriorPredictive(net, execution="exact", probability=gaussian(0.03), chip=7)
    assert torch.equal(chip.plans[0].weights, exact.plans[0].weights)
    assert stochastic_layers(net).keys() == chip.plans[0].draws.keys()

"""Plans: enumeration in the right order with the right mass, and schemes that stay unbiased with less variance."""

import itertools
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from lit_scaledrop.layers import STE, MCDropout, ScaleDropout
from lit_scaledrop.layers.weight_sampling import SpinBayesLinear
from lit_scaledrop.posterior import draw_plan, enumerate_plan
from lit_scaledrop.posterior.plans import Scheme

SCHEMES = ("iid", "stratified", "systematic")


def layers_of(*p, **options):
    return nn.Sequential(*[ScaleDropout(3, value, **options) for value in p])


def kept(plan):
    """Keep bits, (samples, layers)."""
    return torch.stack([draw[:, 0, 0] for draw in plan.draws.values()], 1)


def probability(bits, p):
    return math.prod(float(1 - q if bit else q) for bit, q in zip(bits, p, strict=True))


@settings(max_examples=50, derandomize=True)
@given(p=st.lists(st.sampled_from([0.0, 0.1, 0.3, 0.5, 0.9, 1.0]), max_size=7))
def test_enumeration_is_every_possible_mask_by_falling_probability(p):
    net = layers_of(*p)
    plan = enumerate_plan(net)
    free = [q for q in p if 0 < q < 1]
    assert plan.samples == 2 ** len(free) == len(plan.weights)
    assert plan.uncovered == 0
    if not p:
        return
    bits = kept(plan).tolist()
    assert len({tuple(row) for row in bits}) == plan.samples
    expected = [probability(row, [float(layer.p) for layer in net]) for row in bits]
    torch.testing.assert_close(plan.weights, torch.tensor(expected, dtype=torch.float64))
    assert plan.weights.sum().item() == pytest.approx(1)
    assert (plan.weights.diff() <= 1e-12).all()


@settings(max_examples=50, derandomize=True)
@given(p=st.lists(st.floats(0.01, 0.99), min_size=3, max_size=8), mass=st.floats(0.05, 0.999))
def test_truncation_takes_the_fewest_masks_that_cover_the_mass(p, mass):
    net = layers_of(*p)
    p = [float(layer.p) for layer in net]
    every = sorted((probability(bits, p) for bits in itertools.product((0, 1), repeat=len(p))), reverse=True)
    needed = next(n for n in range(1, len(every) + 1) if math.fsum(every[:n]) >= mass - 1e-12)
    if needed == len(every):
        return
    plan = enumerate_plan(net, mass, max_leaves=len(every) - 1)
    assert abs(plan.samples - needed) <= (abs(math.fsum(every[:needed]) - mass) < 1e-9)
    covered = math.fsum(every[: plan.samples])
    assert plan.uncovered == pytest.approx(1 - covered)
    torch.testing.assert_close(plan.weights * covered, torch.tensor(every[: plan.samples], dtype=torch.float64))


@settings(max_examples=30, derandomize=True)
@given(p=st.lists(st.floats(0.05, 0.95), min_size=3, max_size=6), mass=st.floats(0.1, 0.9), seed=st.integers(0, 99))
def test_uncovered_mass_bounds_the_error_of_any_probability(p, mass, seed):
    net = layers_of(*p)
    full, part = enumerate_plan(net), enumerate_plan(net, mass, max_leaves=2 ** len(p) - 1)
    generator = torch.Generator().manual_seed(seed)
    # the hardest cases, a probability of 0 on what is covered and 1 on the rest and the other way round; a random one
    rank = torch.arange(full.samples, dtype=torch.float64)
    for value in (rank >= part.samples, rank < part.samples, torch.rand(full.samples, generator=generator)):
        value = value.double()
        exact = (full.weights * value).sum()
        assert abs((part.weights * value[: part.samples]).sum() - exact) <= part.uncovered + 1e-9


def test_too_many_masks_are_refused_with_the_mass_that_they_cover():
    with pytest.raises(
        ValueError, match=r"the 8 most probable of 1024 masks cover 0\.00781 of the probability, not 0\.9"
    ):
        enumerate_plan(layers_of(*[0.5] * 10), 0.9, max_leaves=8)
    with pytest.raises(ValueError, match="mass"):
        enumerate_plan(layers_of(0.5), 0.0)


@pytest.mark.parametrize(
    ("layer", "message"),
    [
        (ScaleDropout(3, 0.1, mask="element"), "element-wise masks"),
        (ScaleDropout(3, 0.1, drop_value="random"), "random drop values"),
        (MCDropout(3, 0.5), "MCDropout"),
    ],
)
def test_what_cannot_be_enumerated_is_refused(layer, message):
    with pytest.raises(ValueError, match=f"{message}.*execution='shared'"):
        enumerate_plan(nn.Sequential(layer))


def test_what_is_certain_is_no_branch():
    certain = nn.Sequential(
        ScaleDropout(3, 0.0, mask="element"), ScaleDropout(3, 1.0, mask="element"),
        ScaleDropout(3, 0.0, drop_value="random"), ScaleDropout(3, 0.3),
    )  # fmt: skip
    plan = enumerate_plan(certain)
    assert [draw[0, 0].tolist() for draw in plan.draws.values()] == [[1] * 3, [0] * 3, [1], [1]]
    assert plan.samples == 2


@pytest.mark.parametrize("scheme", SCHEMES)
def test_every_scheme_gives_every_mask_its_probability(scheme):
    p = [0.1, 0.5, 0.3]
    net, plans, samples = layers_of(*p), 600, 6
    counts = torch.zeros(8)
    for seed in range(plans):
        bits = kept(draw_plan(net, samples, seed, scheme))
        counts += torch.bincount((bits @ torch.tensor([4.0, 2.0, 1.0])).long(), minlength=8)
    expected = torch.tensor([probability(bits, p) for bits in itertools.product((0, 1), repeat=3)])
    # independent passes have the largest error of the three
    error = (expected * (1 - expected) / (plans * samples)).sqrt()
    assert ((counts / (plans * samples) - expected).abs() <= 4 * error).all()


@pytest.mark.parametrize("scheme", SCHEMES)
def test_each_pass_by_itself_is_a_random_one(scheme):
    net = layers_of(0.2, 0.5)
    bits = torch.stack([kept(draw_plan(net, 5, seed, scheme)) for seed in range(1000)])
    for index, p in enumerate((0.2, 0.5)):
        assert (bits[:, :, index].mean(0) - (1 - p)).abs().max() < 4 * (p * (1 - p) / 1000) ** 0.5


@settings(max_examples=50, derandomize=True)
@given(
    p=st.lists(st.floats(0, 1), min_size=1, max_size=6),
    samples=st.integers(1, 40),
    seed=st.integers(0, 999),
    scheme=st.sampled_from(["stratified", "systematic"]),
)
def test_schemes_drop_each_layer_as_often_as_they_should(p, samples, seed, scheme):
    net = layers_of(*p)
    dropped = (1 - kept(draw_plan(net, samples, seed, scheme))).sum(0)
    for layer, count in zip(net, dropped.tolist(), strict=True):
        assert math.floor(samples * float(layer.p) - 1e-6) <= count <= math.ceil(samples * float(layer.p) + 1e-6)


def test_a_systematic_plan_has_every_mask_as_often_as_it_should():
    for seed in range(20):
        bits = kept(draw_plan(layers_of(0.5, 0.5, 0.25), 16, seed, "systematic"))
        counts = torch.bincount((bits @ torch.tensor([4.0, 2.0, 1.0])).long(), minlength=8)
        assert counts.tolist() == [1, 3, 1, 3, 1, 3, 1, 3]


def test_schemes_have_less_variance():
    p, net = [0.1, 0.1, 0.2, 0.2, 0.5], layers_of(0.1, 0.1, 0.2, 0.2, 0.5)
    torch.manual_seed(0)
    value = torch.sigmoid(torch.tensor(list(itertools.product((0.0, 1.0), repeat=5))) @ torch.randn(5) - 1)
    exact = sum(probability(b, p) * value[i] for i, b in enumerate(itertools.product((0, 1), repeat=5)))
    variance = {}
    for scheme in SCHEMES:
        bits = torch.stack([kept(draw_plan(net, 20, seed, scheme)) for seed in range(100)])
        estimates = value[(bits @ torch.tensor([16.0, 8, 4, 2, 1])).long()].mean(1)
        variance[scheme] = estimates.var()
        assert abs(estimates.mean() - exact) < 4 * (variance[scheme] / 100).sqrt()
    assert variance["stratified"] < variance["iid"] / 2
    assert variance["systematic"] < variance["iid"] / 2


@pytest.mark.parametrize("scheme", ["stratified", "systematic"])
def test_layers_with_many_numbers_are_stratified(scheme):
    net = nn.Sequential(MCDropout(50, 0.5), ScaleDropout(8, 0.25, mask="element"), ScaleDropout(3, 1.0, "random"))
    plan = draw_plan(net, 8, 0, scheme)
    assert (plan.draws["0"].sum(0) == 4).all()
    assert (plan.draws["1"][:, 0].sum(0) == 6).all()
    # one drop value in each eighth of the range from .5 to 1.5
    assert ((plan.draws["2"][:, 1, 0] - 0.5) * 8).floor().sort().values.tolist() == list(range(8))


def test_schemes_are_checked_and_reproducible():
    net = layers_of(0.3, 0.4)
    with pytest.raises(Exception, match="sobol"):  # the shape check of the tests is faster than ours
        draw_plan(net, 3, 0, "sobol")
    for scheme in SCHEMES:
        state = torch.get_rng_state()
        assert torch.equal(kept(draw_plan(net, 9, 4, scheme)), kept(draw_plan(net, 9, 4, scheme)))
        assert torch.equal(state, torch.get_rng_state())
    assert Scheme.__args__ == SCHEMES


def test_a_single_bit_without_a_probability_is_drawn_by_every_scheme():
    """SpinBayes with two arrays: one fair bit and no drop probability."""
    torch.manual_seed(0)
    layer = SpinBayesLinear(6, 4, STE(), STE(), arrays=2)
    for scheme in ("iid", "stratified", "systematic"):
        bits = draw_plan(layer, 40, 1, scheme).draws[""].float()
        assert bits.shape == (40, 1)
        assert abs(bits.mean() - 0.5) < (0.4 if scheme == "iid" else 0.01)

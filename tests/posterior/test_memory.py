"""Bits that a junction remembers: marginals, correlations and the variance of the mean against a two-state chain."""

import math

import pytest
import torch
from torch import nn

from lit_scaledrop.layers import ScaleDropout
from lit_scaledrop.posterior import PosteriorPredictive, draw_plan
from lit_scaledrop.posterior.evaluation import Evaluation, build_posterior
from lit_scaledrop.posterior.variation import Variation

RHO = 0.6


def layers_of(*p, **options):
    return nn.Sequential(*[ScaleDropout(3, value, **options) for value in p])


def dropped(plan):
    """Whether a pass drops a layer, (passes, layers)."""
    return 1 - torch.stack([draw[:, 0, 0] for draw in plan.draws.values()], 1).double()


def correlation(a, b):
    return torch.corrcoef(torch.stack([a, b]))[0, 1].item()


def test_marginals_are_those_of_each_layer():
    p, passes = (0.1, 0.3, 0.5), 8000
    share = dropped(draw_plan(layers_of(*p), passes, 1, correlation=RHO)).mean(0)
    # successive passes are three draws apart
    inflation = (1 + RHO**3) / (1 - RHO**3)
    for got, wanted in zip(share.tolist(), p, strict=True):
        assert abs(got - wanted) < 4 * math.sqrt(wanted * (1 - wanted) * inflation / passes)


def test_one_layer_is_a_two_state_chain():
    p, passes = 0.3, 20_000
    bits = dropped(draw_plan(layers_of(p), passes, 0, correlation=RHO))[:, 0]
    before, after = bits[:-1], bits[1:]
    for state, stays in ((1, RHO + (1 - RHO) * p), (0, RHO + (1 - RHO) * (1 - p))):
        seen = after[before == state] == state
        assert abs(seen.double().mean() - stays) < 4 * math.sqrt(stays * (1 - stays) / len(seen))
    for lag in (1, 2, 4):
        assert correlation(bits[:-lag], bits[lag:]) == pytest.approx(RHO**lag, abs=0.03)
    # variance of the mean over T passes
    t = 40
    exact = 1 + 2 * sum((1 - k / t) * RHO**k for k in range(1, t))
    assert exact == pytest.approx((1 + RHO) / (1 - RHO), rel=0.05)
    means = bits.unflatten(0, (-1, t)).mean(1)
    inflation = means.var().item() / (p * (1 - p) / t)
    assert inflation == pytest.approx(exact, rel=4 * math.sqrt(2 / (passes / t)))


def test_the_variance_of_a_prediction_grows_alike():
    """The mean over T passes of a network with one layer is linear in how often that is dropped."""
    network = nn.Sequential(nn.Linear(2, 4), ScaleDropout(4, 0.3), nn.Linear(4, 3)).eval()
    nn.init.constant_(network[1].scale, 3.0)
    x, t, plans = torch.randn(1, 2, generator=torch.Generator().manual_seed(0)), 24, 250
    variances = []
    for rho in (0.0, RHO):
        means = [PosteriorPredictive(network, t, seed, correlation=rho)(x).logits.mean(0) for seed in range(plans)]
        variances.append(torch.stack(means).var(0).sum().item())
    exact = 1 + 2 * sum((1 - k / t) * RHO**k for k in range(1, t))
    assert variances[1] / variances[0] == pytest.approx(exact, rel=4 * math.sqrt(4 / plans))


def test_memory_goes_from_layer_to_layer_and_on_to_the_next_pass():
    p, passes = (0.5, 0.5, 0.2), 10_000
    bits = dropped(draw_plan(layers_of(*p), passes, 3, correlation=RHO))
    assert correlation(bits[:, 0], bits[:, 1]) == pytest.approx(RHO, abs=0.04)
    # two layers of other p share what the comonotone pair shares
    comonotone = (0.2 - 0.2 * 0.5) / math.sqrt(0.2 * 0.8 * 0.5 * 0.5)
    assert correlation(bits[:, 1], bits[:, 2]) == pytest.approx(RHO * comonotone, abs=0.04)
    assert correlation(bits[:-1, 2], bits[1:, 0]) == pytest.approx(RHO * comonotone, abs=0.04)
    assert correlation(bits[:-1, 0], bits[1:, 0]) == pytest.approx(RHO**3, abs=0.05)


def test_an_element_has_a_junction_of_its_own():
    plan = draw_plan(nn.Sequential(ScaleDropout(2, 0.5, mask="element"), ScaleDropout(3, 0.5, mask="element")),
                     8000, 0, correlation=RHO)  # fmt: skip
    two, three = (1 - draw[:, 0].double() for draw in plan.draws.values())
    assert correlation(two[:, 0], three[:, 0]) == pytest.approx(RHO, abs=0.05)
    assert correlation(two[:, 0], three[:, 1]) == pytest.approx(0, abs=0.05)
    # the third is not drawn by the first layer, and remembers its last pass
    assert correlation(three[:-1, 2], three[1:, 2]) == pytest.approx(RHO, abs=0.05)


def test_random_values_are_no_bits():
    net = layers_of(0.5, drop_value="random")
    plain, remembered = (draw_plan(net, 200, 0, correlation=rho).draws["0"] for rho in (0.0, RHO))
    # the values of the plan without memory, whose bits are repeated
    assert torch.equal(plain[:, 1], remembered[:, 1])
    assert 0 < (plain[:, 0] != remembered[:, 0]).double().mean() < 0.5


def test_without_memory_the_plan_is_what_it_was():
    net = layers_of(0.5, 0.5)
    plain, none, weak = (
        dropped(draw_plan(net, 4000, 0, **how)) for how in ({}, {"correlation": 0.0}, {"correlation": 0.1})
    )
    assert torch.equal(plain, none)
    # repeated with probability 0.1, and then another bit in half of the cases
    assert (plain != weak).double().mean().item() == pytest.approx(0.05, abs=0.01)
    first = dropped(draw_plan(net, 40, 0, correlation=0.1))
    assert torch.equal(first, weak[:40])


def test_executions_agree_and_none_takes_bits_as_independent():
    network = nn.Sequential(nn.Linear(2, 4), *layers_of(0.5, 0.3), nn.Linear(4, 3)).eval()
    network[1], network[2] = ScaleDropout(4, 0.5), ScaleDropout(4, 0.3)
    x = torch.randn(5, 2)
    loop, shared = (PosteriorPredictive(network, 30, 0, how, correlation=RHO)(x).logits for how in ("loop", "shared"))
    torch.testing.assert_close(loop, shared)
    auto = PosteriorPredictive(network, 30, 0, "auto", correlation=RHO)
    auto(x)
    assert auto.choice != "exact"
    with pytest.raises(ValueError, match="these are correlated"):
        PosteriorPredictive(network, 30, 0, "exact", correlation=RHO)


def test_as_a_setting():
    network = nn.Sequential(nn.Linear(2, 4), ScaleDropout(4, 0.3)).eval()
    asked = Evaluation(samples=30, correlation=RHO)
    assert asked.variation == Variation(sigma=0.0, correlation=RHO)
    plan = build_posterior(network, asked).plans[0]
    assert torch.equal(plan.draws["1"], draw_plan(network, 30, 0, correlation=RHO).draws["1"])
    # together with a chip's own p
    chip = Evaluation(samples=30, correlation=RHO, mtj="sot_80nm_wide", redraw="chip", chip=2)
    assert not torch.equal(build_posterior(network, chip).plans[0].draws["1"], plan.draws["1"])
    assert Evaluation(correlation=0.0).variation is None
    with pytest.raises(ValueError, match="draws no bits"):
        asked.variation.require(nn.Linear(2, 2))


@pytest.mark.parametrize("rho", [-0.1, 1.0, float("nan")])
def test_what_is_no_correlation(rho):
    with pytest.raises(ValueError, match="0 or above and below 1"):
        draw_plan(layers_of(0.5), 2, 0, correlation=rho)
    with pytest.raises(ValueError, match="are drawn by 'iid'"):
        draw_plan(layers_of(0.5), 2, 0, "systematic", correlation=0.5)
    with pytest.raises(ValueError, match="give a seed"):
        draw_plan(layers_of(0.5), 2, torch.Generator(), correlation=0.5)

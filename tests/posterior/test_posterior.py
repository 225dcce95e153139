"""The posterior as a whole: exact distributions, what auto chooses, ensembles, evaluation."""

import itertools
import logging

import pytest
import torch
from torch import nn

import fakes.networks
from lit_scaledrop.evaluation.evaluate import evaluate_network
from lit_scaledrop.layers import MaskPlan, MCDropout, sampling, stochastic_layers
from lit_scaledrop.methods.classification import METHODS
from lit_scaledrop.metrics.classification import classification_metrics
from lit_scaledrop.networks import build_network
from lit_scaledrop.posterior.evaluation import Evaluation
from lit_scaledrop.posterior.posterior import PosteriorPredictive


def network_of(network="lenet5", method="proposed", width=0.25, seed=0, **scale):
    return fakes.networks.network_of(network, method, width, 0.8, seed, **scale)


def images(batch=4):
    return torch.randn(batch, 3, 32, 32, generator=torch.Generator().manual_seed(0))


@torch.no_grad()
def enumerated(net, x):
    """Mean probabilities by brute force: a loop over all masks."""
    layers = stochastic_layers(net)
    total = 0
    for bits in itertools.product((0.0, 1.0), repeat=len(layers)):
        weight = 1.0
        for bit, layer in zip(bits, layers.values(), strict=True):
            weight *= float(1 - layer.p) if bit else float(layer.p)
        with sampling(net, {n: torch.full((1, 1, 1), b) for n, b in zip(layers, bits, strict=True)}):
            total = total + weight * net(x).softmax(-1)
    return total


@pytest.mark.parametrize("drop_value", ["unitary", "average"])
@pytest.mark.parametrize("network", ["lenet5", "vgg_small"])
def test_exact_is_the_weighted_sum_over_all_masks(network, drop_value):
    net, x = network_of(network, drop_value=drop_value, width=0.1), images()
    exact = PosteriorPredictive(net, execution="exact")(x)
    assert exact.num_samples == 2 ** len(stochastic_layers(net))
    assert exact.uncovered == 0
    torch.testing.assert_close(exact.mean, enumerated(net, x), rtol=1e-5, atol=1e-6)


def test_exact_under_given_probabilities_of_each_layer():
    net, x = network_of(), images()
    for layer, p in zip(stochastic_layers(net).values(), (0.05, 0.9, 0.37), strict=True):
        layer.p.fill_(p)  # as under device variation
    torch.testing.assert_close(PosteriorPredictive(net, execution="exact")(x).mean, enumerated(net, x))


def test_uncovered_mass_bounds_the_error_of_every_probability():
    net, x = network_of("vgg_small", width=0.1, p=0.3), images()
    full = PosteriorPredictive(net, execution="exact")(x)
    for mass in (0.3, 0.6, 0.9):
        part = PosteriorPredictive(net, execution="exact", mass=mass, max_leaves=31)(x)
        assert part.num_samples < 32
        assert 0 < part.uncovered <= 1 - mass
        error = (part.mean - full.mean).abs().max().item()
        assert 0 < error <= part.uncovered
        assert part.cpu().uncovered == part.cat([part, part]).uncovered == part.uncovered


@pytest.mark.parametrize("scheme", ["iid", "stratified", "systematic"])
def test_sampled_means_agree_with_exact_within_their_error(scheme):
    net, x = network_of(), images()
    exact, samples = PosteriorPredictive(net, execution="exact")(x), 400
    sampled = PosteriorPredictive(net, samples, seed=3, execution="shared", scheme=scheme)(x)
    error = (exact.variance / samples).sqrt()
    assert error.max() > 5e-4  # there is something to estimate
    assert ((sampled.mean - exact.mean).abs() <= 4 * error + 1e-6).all()


def test_ensembles_of_every_execution():
    members, x = [network_of(seed=1), network_of(seed=2)], images()
    loop = PosteriorPredictive(members, 4, seed=5)(x)
    shared = PosteriorPredictive(members, 4, seed=5, execution="shared")(x)
    torch.testing.assert_close(shared.logits, loop.logits, rtol=1e-5, atol=1e-5)
    exact = PosteriorPredictive(members, execution="exact")(x)
    torch.testing.assert_close(exact.mean, (enumerated(members[0], x) + enumerated(members[1], x)) / 2)
    part = PosteriorPredictive(members, execution="exact", mass=0.5, max_leaves=7)
    assert part(x).uncovered == pytest.approx(sum(plan.uncovered for plan in part.plans) / 2)


@pytest.mark.parametrize(
    ("options", "samples", "batch", "choice", "reason"),
    [
        ({"network": "vgg_small"}, 20, 4, "exact", "all 32 masks cost 6.4 passes, the loop 20"),
        ({"network": "vgg_small"}, 10, 4, "shared", "the prefixes of 10 passes"),
        ({"network": "resnet20"}, 20, 4, "shared", "the prefixes of 20 passes"),
        ({"network": "vgg_small", "drop_value": "random"}, 20, 4, "shared", "the prefixes"),
        ({"method": "mc_dropout_htanh"}, 20, 4, "shared", "the prefixes of 20 passes cost 1."),
        ({"network": "resnet20", "mask": "element", "p": 0.5}, 4, 3, "folded", "save little (3.7 of 4 passes)"),
        ({"network": "resnet20", "mask": "element", "p": 0.5}, 4, 5, "loop", "save little (3.7 of 4 passes)"),
        ({"method": "irnet"}, 20, 4, "loop", "nothing is random"),
    ],
)
def test_auto_chooses_by_the_work_and_says_why(options, samples, batch, choice, reason, caplog):
    posterior = PosteriorPredictive(network_of(**options), samples, execution="auto", row_budget=16)
    assert posterior.choice == ""
    with caplog.at_level(logging.INFO, "lit_scaledrop.posterior"):
        first = posterior(images(batch))
        posterior(images(batch))
    assert posterior.choice == choice
    assert reason in posterior.reason
    assert [record.getMessage() for record in caplog.records] == [f"execution: {choice}, {posterior.reason}"]
    if choice != "exact":
        loop = PosteriorPredictive(posterior.networks, samples)(images(batch))
        torch.testing.assert_close(first.logits, loop.logits, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("execution", ["shared", "exact", "auto"])
def test_nothing_else_changes(execution):
    net = network_of().train()
    net.hidden[0].norm.eval()
    before, state = torch.get_rng_state(), {k: v.clone() for k, v in net.state_dict().items()}
    modes = [module.training for module in net.modules()]
    x = images()
    PosteriorPredictive(net, 5, execution=execution)(x)
    assert torch.equal(before, torch.get_rng_state())
    assert all(torch.equal(state[k], v) for k, v in net.state_dict().items())
    assert modes == [module.training for module in net.modules()]
    for layer in stochastic_layers(net).values():
        assert layer._planned is None
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in net.modules())


def test_a_plan_of_ones_own():
    net, x = network_of(), images()
    posterior = PosteriorPredictive(net, execution="shared")
    names = list(stochastic_layers(net))
    posterior.plans = [MaskPlan({name: torch.ones(1, 1, 1) for name in names}, 1)]
    torch.testing.assert_close(posterior(x).logits[0], net(x).detach())


def test_bad_settings_are_refused():
    net = network_of()
    with pytest.raises(Exception, match="fast"):  # the shape check of the tests is faster than ours
        PosteriorPredictive(net, execution="fast")
    with pytest.raises(ValueError, match="row_budget"):
        PosteriorPredictive(net, row_budget=0)
    with pytest.raises(Exception, match="sobol"):
        PosteriorPredictive(net, scheme="sobol")
    with pytest.raises(ValueError, match="no exact distribution"):
        PosteriorPredictive(nn.Sequential(nn.Linear(3, 3), MCDropout(3)), execution="exact")


def test_deterministic_networks_make_one_pass_of_every_execution():
    net, x = network_of(method="irnet"), images()
    for execution in ("loop", "folded", "shared", "exact", "auto"):
        logits = PosteriorPredictive(net, 20, execution=execution)(x).logits
        torch.testing.assert_close(logits, net(x).detach()[None])


def test_evaluation_takes_every_execution():
    net, batches = network_of(), [(images(5), torch.arange(5)), (images(3), torch.arange(3))]
    metrics = {}
    for execution in ("loop", "folded", "shared", "exact", "auto"):
        evaluation = Evaluation(execution=execution)
        metrics[execution], how = evaluate_network(net, batches, evaluation, classification_metrics(10))
        assert how["execution"] == ("exact" if execution == "auto" else execution)
        assert how["samples"] == (8 if how["execution"] == "exact" else 20)
    assert metrics["exact"] == metrics["auto"]
    for name, value in metrics["loop"].items():
        assert metrics["shared"][name] == pytest.approx(value, rel=1e-4, abs=1e-6)
        assert metrics["folded"][name] == pytest.approx(value, rel=1e-4, abs=1e-6)


def test_many_batches_are_predicted_as_one():
    torch.manual_seed(0)
    posterior = PosteriorPredictive(build_network("lenet5", METHODS["proposed"], in_channels=1, width=0.25), samples=4)
    x = torch.randn(7, 1, 32, 32)
    whole = posterior(x)
    for batches in (x.split(3), [[part, torch.zeros(len(part))] for part in x.split(3)]):
        torch.testing.assert_close(posterior.over(batches).logits, whole.logits)
    with pytest.raises(ValueError, match="nothing to join"):
        posterior.over([])

"""Plans: reproducible, independent of batch and device, and without side effects."""

import pytest
import torch

import fakes.networks
from lit_scaledrop.layers import MCDropout, sampling, stochastic_layers
from lit_scaledrop.methods.classification import METHODS
from lit_scaledrop.posterior import draw_plan
from lit_scaledrop.posterior.posterior import PosteriorPredictive

BAYESIAN = [name for name, method in METHODS.items() if method.stochastic]


def network_of(method, network="lenet5"):
    return fakes.networks.network_of(network, method, 0.5)


@pytest.mark.parametrize("method", BAYESIAN)
def test_same_seed_same_plan_and_longer_plans_begin_alike(method):
    net = network_of(method)
    short, again, long = draw_plan(net, 3, 7), draw_plan(net, 3, 7), draw_plan(net, 6, 7)
    for name in stochastic_layers(net):
        assert torch.equal(short.draws[name], again.draws[name])
        assert torch.equal(short.draws[name], long.draws[name][:3])
    other = draw_plan(net, 50, 8)
    random = not all(layer.turns for layer in stochastic_layers(net).values())  # members take turns, whatever the seed
    assert any(not torch.equal(other.draws[n], draw_plan(net, 50, 7).draws[n]) for n in other.draws) == random


@pytest.mark.parametrize("method", BAYESIAN)
@pytest.mark.parametrize("network", ["lenet5", "resnet20"])
def test_loop_and_folded_agree(method, network):
    net = network_of(method, network)
    x = torch.randn(5, 3, 32, 32)
    loop = PosteriorPredictive(net, 6, seed=3, execution="loop")(x)
    folded = PosteriorPredictive(net, 6, seed=3, execution="folded")(x)
    torch.testing.assert_close(loop.logits, folded.logits, rtol=1e-5, atol=1e-5)
    assert loop.logits.std(0).max() > 0


@pytest.mark.parametrize("method", BAYESIAN)
def test_prediction_does_not_depend_on_the_batch(method):
    net = network_of(method)
    x = torch.randn(6, 3, 32, 32)
    posterior = PosteriorPredictive(net, 4)
    halves = torch.cat([posterior(x[:2]).logits, posterior(x[2:]).logits], 1)
    torch.testing.assert_close(posterior(x).logits, halves, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("method", BAYESIAN)
@pytest.mark.parametrize("execution", ["loop", "folded"])
def test_sampling_touches_neither_random_stream_nor_batchnorm_nor_modes(method, execution):
    net = network_of(method).train()
    before, state = torch.get_rng_state(), {k: v.clone() for k, v in net.state_dict().items()}
    modes = [module.training for module in net.modules()]
    PosteriorPredictive(net, 3, execution=execution)(
        torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    )
    assert torch.equal(before, torch.get_rng_state())
    assert all(torch.equal(state[k], v) for k, v in net.state_dict().items())
    assert modes == [module.training for module in net.modules()]
    assert all(layer._planned is None for layer in stochastic_layers(net).values())


def test_draws_are_removed_after_an_error():
    net = network_of("proposed")
    with pytest.raises(RuntimeError), sampling(net, draw_plan(net, 1).single(0)):
        net(torch.randn(1, 7, 32, 32))
    assert all(layer._planned is None for layer in stochastic_layers(net).values())


def test_plan_of_another_network_is_refused():
    plan = draw_plan(network_of("proposed", "resnet20"), 1)
    net = network_of("proposed")
    with pytest.raises(ValueError, match="another network"), sampling(net, plan.single(0)):
        pass


def test_plan_with_the_wrong_rows_is_refused():
    net = network_of("proposed")
    with sampling(net, draw_plan(net, 2).folded(4)), pytest.raises(ValueError, match="8 rows"):
        net(torch.randn(4, 3, 32, 32))


def test_samples_below_one_are_refused():
    with pytest.raises(ValueError, match="at least 1"):
        draw_plan(network_of("proposed"), 0)
    with pytest.raises(ValueError, match="at least 1"):
        PosteriorPredictive(network_of("fp"), 0)


def test_deterministic_network_makes_one_pass():
    posterior = PosteriorPredictive(network_of("irnet"), 20)
    assert posterior(torch.randn(2, 3, 32, 32)).num_samples == 1


def test_ensemble_is_its_members_one_after_the_other():
    members = [network_of("irnet"), network_of("proposed")]
    x = torch.randn(3, 3, 32, 32)
    logits = PosteriorPredictive(members, 4, seed=5)(x).logits
    torch.testing.assert_close(logits[:1], PosteriorPredictive(members[0], 4)(x).logits)
    torch.testing.assert_close(logits[1:], PosteriorPredictive(members[1], 4, seed=6)(x).logits)


def test_mc_dropout_keeps_the_expectation_and_drops_all_at_one():
    torch.manual_seed(0)
    out = MCDropout(50, 0.5).train()(torch.ones(2000, 50))
    assert set(out.unique().tolist()) == {0.0, 2.0}
    assert abs(out.mean() - 1) < 5 / (100_000**0.5)
    assert MCDropout(3, 1.0).train()(torch.ones(2, 3)).abs().max() == 0
    assert torch.equal(MCDropout(3, 0.0).train()(torch.ones(2, 3)), torch.ones(2, 3))

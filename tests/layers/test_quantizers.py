"""What the baselines' layers do beside one product: steps of the optimizer, schedules, learned intervals, losses."""

import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn
from torch.distributions import Normal, kl_divergence

from lit_scaledrop.callbacks import EstimatorSchedule
from lit_scaledrop.layers import (
    BinaryConv2d,
    BinaryLinear,
    DistributionLoss,
    DropConnectConv2d,
    DropConnectLinear,
    SpinBayesLinear,
    SpinDrop,
    distribution_loss,
    follow_optimizer,
    sampling,
)
from lit_scaledrop.layers.dropout import fix_shapes
from lit_scaledrop.layers.quantizers import (
    DSQ,
    ClippedSign,
    DoReFaInput,
    LABWeight,
    ReCUInput,
    ReCUWeight,
    XNORWeight,
    straight_through,
)
from lit_scaledrop.methods.classification import METHODS
from lit_scaledrop.modules.classifier import LitClassifier
from lit_scaledrop.networks import build_network, vgg_small
from lit_scaledrop.networks.vgg import VGGSmall
from lit_scaledrop.posterior import draw_plan
from lit_scaledrop.posterior.posterior import PosteriorPredictive


def layer_of(method, n_in=6, n_out=4):
    torch.manual_seed(0)
    return METHODS[method].linear_layer(n_in, n_out)


# --- after a step ---


@pytest.mark.parametrize("method", ["bnn", "rad", "lab"])
def test_proxy_weights_are_clipped_after_a_step(method):
    layer = layer_of(method)
    layer.weight.data.fill_(0.99)
    optimizer = torch.optim.SGD(layer.parameters(), 1.0)
    handle = follow_optimizer(layer, optimizer)
    layer(torch.ones(2, 6)).sum().backward()
    assert layer.weight.grad.unique().tolist() == [2.0]
    optimizer.step()
    assert layer.weight.unique().tolist() == [-1.0]  # and not 0.99 - 2
    handle.remove()
    optimizer.step()
    assert layer.weight.unique().tolist() == [-3.0]


def test_lab_follows_adams_second_moment():
    layer = layer_of("lab")
    optimizer = torch.optim.Adam(layer.parameters(), 1e-2)
    follow_optimizer(layer, optimizer)
    x, target = torch.randn(32, 6), torch.randn(32, 4)
    for _ in range(5):
        optimizer.zero_grad()
        (layer(x) - target).square().mean().backward()
        optimizer.step()
    moment = optimizer.state[layer.weight]["exp_avg_sq"]
    torch.testing.assert_close(layer.weight_estimator.second_moment, moment)
    # proposition 3.1 with the optimizer's own d
    d = (moment.sqrt() + 1e-8).double().numpy()
    w = layer.weight.detach().double().numpy()
    alpha = np.abs(d * w).sum() / d.sum()
    assert abs(alpha - np.abs(w).mean()) > 1e-4  # the curvature matters
    np.testing.assert_allclose(layer.binary_weight().detach().numpy(), alpha * np.where(w >= 0, 1, -1), rtol=1e-5)
    # it minimizes the quadratic model of the loss, d-weighted distance to the proxies
    distances = [(d * (w - a * np.where(w >= 0, 1, -1)) ** 2).sum() for a in (0.99 * alpha, alpha, 1.01 * alpha)]
    assert distances[1] == min(distances)
    assert "weight_estimator.second_moment" in layer.state_dict()


def test_lab_has_its_curvature_under_sgd_and_without_a_gradient():
    estimator = LABWeight(torch.ones(2, 2))
    weight = nn.Parameter(torch.full((2, 2), 0.5))
    with torch.no_grad():
        estimator.after_step(weight)
    assert estimator.second_moment.abs().max() == 0
    weight.grad = torch.full((2, 2), 2.0)
    with torch.no_grad():
        estimator.after_step(weight)
    torch.testing.assert_close(estimator.second_moment, torch.full((2, 2), 0.004))


def test_nothing_follows_where_nothing_is_needed():
    for method in ("irnet", "proposed", "fp", "dsq"):
        layer = layer_of(method)
        assert follow_optimizer(layer, torch.optim.SGD(layer.parameters(), 0.1)) is None


# --- schedules and learned intervals ---


def test_recu_quantile_grows_from_085_to_099():
    estimator = ReCUWeight()
    taus = []
    for progress in (0.0, 0.5, 1.0):
        estimator.set_progress(progress)
        taus.append(float(estimator.tau))
    slope = 0.14 / (math.e - 1)
    assert taus == pytest.approx([0.85, slope * math.exp(0.5) + 0.85 - slope, 0.99])
    with pytest.raises(ValueError, match="tau_min"):
        ReCUWeight(0.4)


def test_recu_quantile_is_that_of_a_laplace_distribution():
    weight = torch.distributions.Laplace(0.0, 1.0).sample((400_000,)).requires_grad_()
    estimator = ReCUWeight(0.9, 0.9)
    estimator(weight).sum().backward()
    # a tenth lies beyond each of the two quantiles
    assert (weight.grad == 0).float().mean().item() == pytest.approx(0.2, abs=0.005)


def test_schedule_reaches_recu():
    model = LitClassifier("lenet5", "recu", width=0.5)
    trainer = SimpleNamespace(
        current_epoch=3, num_training_batches=5, accumulate_grad_batches=1, estimated_stepping_batches=20
    )
    EstimatorSchedule().on_train_epoch_start(trainer, model)  # type: ignore[arg-type]
    taus = {float(m.tau) for m in model.modules() if isinstance(m, ReCUWeight)}
    assert len(taus) == 1
    assert 0.93 < taus.pop() < 0.99


def test_recu_input_divides_in_training_only():
    x = torch.tensor([[0.1, -0.2, 0.3]], requires_grad=True)
    layer = ReCUInput().eval()
    assert layer(x).tolist() == [[1.0, -1.0, 1.0]]
    layer(x).sum().backward()
    torch.testing.assert_close(x.grad, torch.tensor([[1.8, 1.6, 1.4]]))
    assert layer.train()(x).tolist() == [[1.0, -1.0, 1.0]]


def soft(x, log_c, logit):
    """Eq. 3-8 with one bit, as the paper writes them: interval i = 0 of 1, middle 0."""
    c, a = math.exp(log_c), 1 / (1 + math.exp(-logit))
    lower, delta = -c, 2 * c
    k = math.log(2 / a - 1) / delta
    s = 1 / math.tanh(0.5 * k * delta)
    phi = s * np.tanh(k * (np.clip(x, -c, c) - (lower + 0.5 * delta)))
    return lower + delta * (0 + (phi + 1) / 2)


def test_dsq_learns_interval_and_softness_by_the_soft_quantizer():
    layer = DSQ(0.8, 0.3).double()
    x = torch.linspace(-1.5, 1.5, 30, dtype=torch.double)
    y = layer(x)
    np.testing.assert_allclose(y.detach().numpy(), 0.8 * np.where(x >= 0, 1, -1))
    upstream = torch.randn(30, dtype=torch.double, generator=torch.Generator().manual_seed(0))
    (y * upstream).sum().backward()
    log_c, logit, eps = layer.log_bound.item(), layer.softness_logit.item(), 1e-6

    def total(log_c, logit):
        return (soft(x.numpy(), log_c, logit) * upstream.numpy()).sum()

    for parameter, step in ((layer.log_bound, (eps, 0)), (layer.softness_logit, (0, eps))):
        up, down = total(log_c + step[0], logit + step[1]), total(log_c - step[0], logit - step[1])
        assert parameter.grad.item() == pytest.approx((up - down) / (2 * eps), rel=1e-5)
    # and it goes to the hard one
    np.testing.assert_allclose(soft(np.array([-0.5, 0.5]), 0.0, math.log(1e-9)), [-1, 1], atol=1e-1)


def test_dsq_is_checked():
    for options in ({"bound": 0.0}, {"softness": 1.0}):
        with pytest.raises(ValueError, match="DSQ needs"):
            DSQ(**options)


def test_signs_of_zero_and_dorefas_states():
    zero = torch.zeros(2, 3)
    for estimator in (ClippedSign(), ReCUInput().eval(), DSQ(1.0)):
        assert (estimator(zero) == 1).all()
    assert set(DoReFaInput()(torch.randn(100)).tolist()) == {0.0, 1.0}
    assert XNORWeight()(torch.tensor([[1.0, -3.0]])).tolist() == [[2.0, -2.0]]
    x = torch.tensor([2.0], requires_grad=True)
    straight_through(x, torch.tensor([1.0]), torch.tensor([0.5])).backward()
    assert x.grad.item() == 0.5


# --- RAD ---


def test_distribution_loss_against_numpy():
    rng = np.random.default_rng(0)
    x = np.stack([rng.normal(0, 2.5, 400), rng.normal(3, 1, 400), rng.normal(0, 9, 400), rng.normal(-0.2, 0.3, 400)])
    mean, std = x.mean(1), x.std(1)
    expected = [
        np.maximum(mean**2 - std**2, 0),
        np.maximum(std - 4, 0) ** 2,
        np.maximum(np.minimum(2 - mean - std, 2 + mean - std), 0) ** 2,
    ]
    assert [np.flatnonzero(term).tolist() for term in expected] == [[1], [2], [3]]
    images = torch.tensor(x).reshape(4, 4, 10, 10).transpose(0, 1)
    assert distribution_loss(images).item() == pytest.approx(np.sum(expected) / 4)
    assert distribution_loss(torch.tensor(x).T).item() == pytest.approx(np.sum(expected) / 4)


def test_distribution_loss_has_a_gradient_also_of_a_constant_channel():
    x = torch.full((4, 2), 3.0, requires_grad=True)
    layer = DistributionLoss(1.0).train()
    assert layer(x) is x
    layer.loss.backward()
    assert torch.isfinite(x.grad).all()
    assert x.grad.abs().max() > 0


# --- random weights and inputs ---


def test_dropconnect_keeps_the_expectation_and_one_mask_a_batch():
    torch.manual_seed(0)
    layer = DropConnectLinear(40, 30).train()
    x = torch.randn(6, 40)
    mean = torch.stack([layer(x) for _ in range(600)]).mean(0)
    torch.testing.assert_close(mean, x @ layer.weight.T, atol=0.1, rtol=0)
    same = layer(x[:1].expand(5, -1))
    assert (same == same[0]).all()
    assert torch.equal(layer.eval()(x), x @ layer.weight.T)
    layer.p.fill_(1.0)
    with sampling(layer_in := nn.Sequential(layer), draw_plan(layer_in, 1).single(0)):
        assert layer_in(x).abs().max() == 0


def test_rows_of_different_passes_have_their_own_weights():
    torch.manual_seed(0)
    net = nn.Sequential(DropConnectConv2d(2, 3, 3, padding=1))
    plan, x = draw_plan(net, 3, 5), torch.randn(4, 2, 5, 5)
    with sampling(net, plan.folded(4)):
        folded = net(x.repeat(3, 1, 1, 1)).unflatten(0, (3, 4))
    for index in range(3):
        weight = net[0].weight * plan.draws["0"][index] / 0.5
        torch.testing.assert_close(folded[index], torch.conv2d(x, weight, padding=1))


def test_spinbayes_draws_each_of_its_arrays():
    torch.manual_seed(0)
    layer = SpinBayesLinear(50, 20, METHODS["spinbayes"].linear_layer(2, 2).weight_estimator, nn.Identity(), arrays=8)
    assert layer.random_bits == 3
    bits = layer.draw(4000, torch.Generator().manual_seed(0))
    index = (bits * torch.tensor([1, 2, 4])).sum(1)
    counts = torch.bincount(index, minlength=8)
    assert (counts - 500).abs().max() < 5 * (4000 / 8 * 7 / 8) ** 0.5
    weights = {tuple(layer.weight_of(draw).flatten().tolist()) for draw in bits[:200]}
    assert len(weights) == 8
    # what differs is about the share that a Gaussian of sigma 0.5 around a standard normal one turns over
    flipped = (layer.weight_of(bits[0]) != layer.binary_weight()).float().mean().item()
    assert flipped == pytest.approx(math.atan(0.5) / math.pi, abs=0.04)
    assert "noise" in layer.state_dict()
    for arrays in (1, 3):
        with pytest.raises(ValueError, match="2, 4, 8"):
            SpinBayesLinear(2, 2, nn.Identity(), nn.Identity(), arrays=arrays)


def test_spinbayes_divergence_against_torch():
    torch.manual_seed(0)
    layer = METHODS["spinbayes"].linear_layer(50, 20)
    layer.log_sigma.data.uniform_(-2, 0)
    posterior = Normal(layer.proxy_weight(), layer.log_sigma.exp())
    expected = kl_divergence(posterior, Normal(0.0, 1.0)).mean()
    torch.testing.assert_close(layer.divergence(), expected)


def test_spindrop_drops_behind_the_sign():
    """A dropped input adds nothing; in front of the sign it would be +1."""
    torch.manual_seed(0)
    conv = METHODS["spatial_spindrop"].conv_layer(2, 3, 1)
    x = -torch.ones(1, 2, 4, 4)
    net = nn.Sequential(conv)
    with sampling(net, {"0.input_estimator.1": torch.tensor([True, False]).reshape(1, 2, 1, 1)}):
        y = net(x)
    expected = -conv.binary_weight()[:, :1].expand(3, 1, 1, 1).reshape(1, 3, 1, 1) / 0.9
    torch.testing.assert_close(y, expected.expand(1, 3, 4, 4))


def test_spindrop_knows_its_neurons_before_any_forward_pass():
    net = build_network("vgg_small", METHODS["spindrop"], width=0.125)
    shapes = [m.shape for m in net.modules() if isinstance(m, SpinDrop)]
    assert shapes == [(16, 32, 32), (16, 16, 16), (32, 16, 16), (32, 8, 8), (64, 8, 8)]
    larger = VGGSmall(METHODS["spindrop"], width=0.125)  # its function would finish it
    with pytest.raises(ValueError, match="needs the sizes of the feature maps"):
        draw_plan(larger, 1)
    with pytest.raises(ValueError, match="build the network for images of this size"):
        net.hidden.train()[:2](torch.randn(2, 16, 8, 8))
    # finding out disturbs nothing
    net = vgg_small(METHODS["spindrop"], width=0.125).train()
    before, stream = {k: v.clone() for k, v in net.state_dict().items()}, torch.get_rng_state()
    fix_shapes(net, (3, 32, 32))
    assert net.training
    assert torch.equal(stream, torch.get_rng_state())
    assert all(torch.equal(before[k], v) for k, v in net.state_dict().items())


def test_binary_layers_take_groups_and_dilation():
    torch.manual_seed(0)
    conv = BinaryConv2d(4, 6, 3, nn.Identity(), nn.Identity(), groups=2, dilation=2, padding=2, normalize=False)
    x = torch.randn(1, 4, 7, 7)
    torch.testing.assert_close(conv(x), torch.conv2d(x, conv.weight, padding=2, dilation=2, groups=2))
    linear = BinaryLinear(4, 3, nn.Identity(), nn.Identity(), normalize=False)
    torch.testing.assert_close(linear(torch.ones(1, 4)), linear.weight.sum(1)[None])


def test_all_arrays_of_spinbayes_can_be_enumerated():
    torch.manual_seed(0)
    net = build_network("lenet5", METHODS["spinbayes"], width=0.25).eval()
    for module in net.modules():
        if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
            module.running_var.fill_(50)
    x = torch.randn(3, 3, 32, 32)
    exact = PosteriorPredictive(net, execution="exact")(x)
    assert exact.num_samples == 4**3
    sampled = PosteriorPredictive(net, 600, seed=1, execution="shared")(x)
    error = sampled.variance.amax().sqrt().item() / 600**0.5
    torch.testing.assert_close(exact.mean, sampled.mean, atol=6 * error, rtol=0)
    assert exact.variance.max() > 0

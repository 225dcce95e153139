"""Models that are not ours, converted: what becomes binary, and that training and the posterior work on the result."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torchvision.models import resnet18

from lit_scaledrop import METHODS, PosteriorPredictive, ScaleDropout, convert, draw_plan
from lit_scaledrop.layers import BinaryConv2d, BinaryLinear, SpinDrop, follow_optimizer, stochastic_layers
from lit_scaledrop.networks.convert import ChannelBias
from lit_scaledrop.posterior.posterior import MaskPlan

SHAPE = (3, 32, 32)


def torchvision_model():
    torch.manual_seed(0)
    return resnet18(num_classes=10).eval()


def timm_model():
    timm = pytest.importorskip("timm", reason="timm is not installed")
    torch.manual_seed(0)
    return timm.create_model("resnet10t", pretrained=False, num_classes=10, zero_init_last=False).eval()


MODELS = {"torchvision resnet18": torchvision_model, "timm resnet10t": timm_model}


@pytest.fixture(params=MODELS)
def model(request):
    return MODELS[request.param]()


def norms(network):
    return [m for m in network.modules() if isinstance(m, nn.BatchNorm2d)]


def calibrated(network):
    """With running statistics of its own, as after training; a bit that is drawn must reach the output."""
    network.train()
    with torch.no_grad():
        for _ in range(3):
            network(torch.randn(8, *SHAPE))
    for layer in network.modules():
        if isinstance(layer, ScaleDropout):
            layer.scale.data.uniform_(0.5, 1.5)
    return network.eval()


def test_forward_training_step_and_posterior(model):
    before = {name: value.clone() for name, value in model.state_dict().items()}
    converted = convert(model, "proposed", input_shape=SHAPE)
    network = converted.network
    # the model that was given is as it was; BatchNorm is not touched by the conversion
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    for mine, theirs in zip(norms(network), norms(model), strict=True):
        assert all(torch.equal(mine.state_dict()[key], value) for key, value in theirs.state_dict().items())
    binary = [m for m in network.modules() if isinstance(m, BinaryConv2d)]
    convs = [m for m in model.modules() if isinstance(m, nn.Conv2d)]
    assert len(binary) == len(convs) - 1
    assert len([m for m in network.modules() if isinstance(m, ScaleDropout)]) == len(binary)

    images, labels = torch.randn(4, *SHAPE), torch.arange(4)
    assert network(images).shape == (4, 10)
    network.train()
    optimizer = torch.optim.Adam(network.parameters(), 1e-3)
    weights = [layer.weight.detach().clone() for layer in binary]
    F.cross_entropy(network(images), labels).backward()
    missing = [n for n, p in network.named_parameters() if p.grad is None or not p.grad.isfinite().all()]
    assert not missing
    optimizer.step()
    assert all(not torch.equal(old, layer.weight) for old, layer in zip(weights, binary, strict=True))

    network = calibrated(network)
    state = {name: value.clone() for name, value in network.state_dict().items()}
    loop = PosteriorPredictive(network, 8, seed=1)(images)
    folded = PosteriorPredictive(network, 8, seed=1, execution="folded")(images)
    torch.testing.assert_close(loop.logits, folded.logits, rtol=1e-4, atol=1e-4)
    assert loop.variance.max() > 0
    assert all(torch.equal(state[name], value) for name, value in network.state_dict().items())


def test_the_table_says_what_changed_and_what_was_left():
    conversion = convert(torchvision_model(), input_shape=SHAPE, keep=["first", "last", "*.downsample.*"])
    why = {change.name: change for change in conversion.changes}
    assert why["conv1"].why == "first layer"
    assert why["fc"].why == "last layer"
    assert why["layer2.0.downsample.0"].why == "kept as asked"
    assert why["layer4.1.conv2"].after == "BinaryConv2d + ScaleDropout"
    assert why["relu"].after == "Clip"
    assert len([c for c in conversion.changes if c.after.startswith("Binary")]) == 16
    # nothing rectified reaches a sign
    assert not [m for m in conversion.network.modules() if isinstance(m, nn.ReLU)]
    text = str(conversion).splitlines()
    assert text[0].split() == ["layer", "before", "after", "why"]
    assert text[-1] == "25 layers changed, 5 left"
    assert len(text) == len(conversion.changes) + 2


def test_weights_are_the_proxies_and_probabilities_follow_the_sizes():
    model = torchvision_model()
    network = convert(model, "proposed", input_shape=SHAPE).network
    assert torch.equal(network.layer4[1].conv2.conv.weight, model.layer4[1].conv2.weight)
    assert float(network.layer1[0].conv1.scale.p) == pytest.approx(0.1)
    assert float(network.layer4[1].conv2.scale.p) == pytest.approx(0.5)
    assert all(not module.training for module in network.modules())


@pytest.mark.parametrize("method", [name for name, method in METHODS.items() if name != "fp" and method.members == 1])
def test_every_method_converts(method):
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, 6, 3, stride=2, padding=1), nn.BatchNorm2d(6),
        nn.ReLU(), nn.Flatten(), nn.Linear(54, 8), nn.ReLU(), nn.Linear(8, 2),
    )  # fmt: skip
    network = convert(model, method, input_shape=(3, 8, 8)).network
    x = torch.randn(16, 3, 8, 8)
    optimizer = torch.optim.SGD(network.parameters(), 0.1)
    follow_optimizer(network, optimizer)
    network.train()
    network(x).square().mean().backward()
    optimizer.step()
    assert network.eval()(x).isfinite().all()
    for kind in (BinaryConv2d, BinaryLinear):
        assert len([m for m in network.modules() if isinstance(m, kind)]) == METHODS[method].binary
    assert bool(stochastic_layers(network)) == METHODS[method].stochastic
    for name, layer in stochastic_layers(network).items():
        assert draw_plan(network, 1).draws[name].numel() == (1 if layer.turns else layer.random_bits)  # a member
    spin = [m for m in network.modules() if type(m) is SpinDrop]
    assert [m.random_bits for m in spin] == {"spindrop": [4 * 36, 54], "spatial_spindrop": [4, 54]}.get(method, [])


def test_bias_is_kept_behind_the_scale():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(1, 2, 1), nn.Tanh(), nn.Conv2d(2, 3, 1), nn.Tanh(), nn.Conv2d(3, 1, 1))
    network = convert(model, input_shape=(1, 4, 4)).network
    assert torch.equal(network[2].bias.bias, model[2].bias)
    names = [type(part) for part in network[2]]
    assert names == [BinaryConv2d, ScaleDropout, ChannelBias]
    network[2].scale.scale.data.fill_(3.0)
    inside = network[2].conv(torch.ones(1, 2, 4, 4))
    torch.testing.assert_close(network[2](torch.ones(1, 2, 4, 4)), 3 * inside + model[2].bias.reshape(3, 1, 1))


def test_a_functional_relu_is_found():
    class Functional(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b, self.c = nn.Conv2d(1, 2, 1), nn.Conv2d(2, 2, 1), nn.Conv2d(2, 1, 1)

        def forward(self, x):
            return self.c(torch.relu(self.b(torch.relu(self.a(x)))))

    with pytest.raises(ValueError, match="binary inputs of b are all equal"):
        convert(Functional(), input_shape=(1, 4, 4))
    # kept, it is no binary layer; then there is none
    with pytest.raises(ValueError, match="nothing to convert"):
        convert(Functional(), input_shape=(1, 4, 4), keep=["first", "last", "b"])


def test_what_is_left_alone():
    model = nn.Sequential(
        nn.Conv2d(3, 4, 1), nn.Conv2d(4, 4, 3, groups=4), nn.Conv2d(4, 4, 1, padding=1, padding_mode="circular"),
        nn.Conv2d(4, 8, 1, groups=2, dilation=2), nn.Conv2d(8, 2, 1),
    )  # fmt: skip
    conversion = convert(model, "irnet", input_shape=(3, 8, 8))
    assert [c.why for c in conversion.changes] == [
        "first layer", "depthwise", "padding mode circular", "1-bit weights and inputs", "last layer",
    ]  # fmt: skip
    assert conversion.network[3].conv.groups == 2
    with pytest.raises(ValueError, match=r"'nope' matches no layer; the model runs 0, 1"):
        convert(model, input_shape=(3, 8, 8), keep=["nope"])
    with pytest.raises(ValueError, match="FP has nothing to convert"):
        convert(model, "fp", input_shape=(3, 8, 8))
    tokens = nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 4), nn.Linear(4, 2))
    with pytest.raises(ValueError, match="kept or left"):
        convert(tokens, input_shape=(5, 3))


def test_conversion_draws_plans_without_a_forward_pass():
    network = convert(torchvision_model(), "spindrop", input_shape=SHAPE).network
    plan = draw_plan(network, 2)
    assert isinstance(plan, MaskPlan)
    assert sum(draws[0].numel() for draws in plan.draws.values()) == sum(
        layer.random_bits for layer in stochastic_layers(network).values()
    )


def small(*middle, size=8):
    """A convolution in front of ``middle``, a linear layer behind it."""
    torch.manual_seed(0)
    front = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), *middle, nn.Flatten())
    features = front(torch.zeros(1, 3, size, size)).shape[1]
    return nn.Sequential(*front, nn.Linear(features, 4))


def test_shared_modules_are_converted_wherever_they_are():
    conv, act = nn.Conv2d(8, 8, 3, padding=1), nn.ReLU()
    conversion = convert(small(act, conv, act, conv), input_shape=(3, 8, 8))
    net = conversion.network
    assert net[2] is net[4]
    assert net[1] is net[3]
    assert type(net[2].conv) is BinaryConv2d
    assert [(c.name, c.after.split(" ")[0]) for c in conversion.changes] == [
        ("0", "Conv2d"), ("1, 3", "Clip"), ("2, 4", "BinaryConv2d"), ("6", "Linear"),
    ]  # fmt: skip
    # a ReLU between two uses of one layer stands in front of a binary layer
    between = convert(small(nn.ReLU(), conv, nn.ReLU(), conv), input_shape=(3, 8, 8))
    assert [c.after.split(" ")[0] for c in between.changes] == ["Conv2d", "Clip", "BinaryConv2d", "Clip", "Linear"]
    more = small(act, conv, act, conv, nn.Tanh(), nn.Conv2d(8, 8, 1))
    assert type(convert(more, input_shape=(3, 8, 8), keep=["4"]).network[2]) is nn.Conv2d  # by its other name


def test_tied_weights_stay_tied():
    first, second = nn.Conv2d(8, 8, 3, padding=1), nn.Conv2d(8, 8, 3, padding=1)
    second.weight = first.weight
    model = small(first, nn.Tanh(), second)
    net = convert(model, input_shape=(3, 8, 8)).network
    assert net[1].conv.weight is net[3].conv.weight
    assert net[1].conv.weight is not first.weight  # the model's own are not touched
    torch.testing.assert_close(net[1].conv.weight, first.weight)
    assert net[1].bias.bias is not net[3].bias.bias
    kept = convert(model, input_shape=(3, 8, 8), keep=["3"]).network  # one converted, one left
    assert kept[1].conv.weight is kept[3].weight


@pytest.mark.parametrize("method", ["proposed", "dsq", "mc_dropconnect", "spinbayes"])
def test_frozen_layers_stay_frozen(method):
    model = small(nn.ReLU(), nn.Conv2d(8, 8, 3, padding=1), nn.BatchNorm2d(8))
    model[:3].requires_grad_(False)
    conversion = convert(model, method, input_shape=(3, 8, 8))
    trained = [name for name, p in conversion.network.named_parameters() if p.requires_grad]
    assert trained == ["3.weight", "3.bias", "5.weight", "5.bias"]
    assert conversion.changes[2].why.endswith(", frozen")
    model[2].weight.requires_grad_(True)  # its bias alone is frozen
    network = convert(model, method, input_shape=(3, 8, 8)).network
    assert not network[2].bias.bias.requires_grad
    assert network.get_submodule("2.conv").weight.requires_grad


class SqueezeExcite(nn.Module):
    """As timm has it: channels are weighted by what two small layers make of their means."""

    def __init__(self, channels):
        super().__init__()
        self.fc1, self.act, self.fc2 = nn.Conv2d(channels, 4, 1), nn.ReLU(), nn.Conv2d(4, channels, 1)

    def forward(self, x):
        return x * self.fc2(self.act(self.fc1(x.mean((2, 3), keepdim=True)))).sigmoid()


class FreshBlock(nn.Module):
    """A residual block that begins as the identity: the scale of its last BatchNorm is zero."""

    def __init__(self):
        super().__init__()
        self.conv, self.norm, self.se, self.act = nn.Conv2d(8, 8, 3, padding=1), nn.BatchNorm2d(8), None, nn.ReLU()
        self.se = SqueezeExcite(8)
        nn.init.zeros_(self.norm.weight)

    def forward(self, x):
        return self.act(self.se(self.norm(self.conv(x))) + x)


def test_fresh_norms_of_zero_are_looked_through():
    net = convert(small(nn.ReLU(), FreshBlock(), FreshBlock()), input_shape=(3, 8, 8)).network
    assert type(net[2].se.fc1.conv) is BinaryConv2d
    assert not net[2].norm.weight.any()  # and stay what they are


@pytest.mark.parametrize("name", ["seresnet18", "resnet18d"])
def test_fresh_networks_of_timm(name):
    timm = pytest.importorskip("timm", reason="timm is not installed")
    conversion = convert(timm.create_model(name, num_classes=10), input_shape=(3, 64, 64))
    assert conversion.network.eval()(torch.randn(2, 3, 64, 64)).shape == (2, 10)


def test_scale_dropout_in_full_precision():
    model = small(nn.ReLU(), nn.Conv2d(8, 8, 3, padding=1, groups=8), nn.ReLU(), nn.Conv2d(8, 8, 3)).eval()
    conversion = convert(model, input_shape=(3, 8, 8), binary=False)
    assert [c.why for c in conversion.changes if "Scale" in c.after] == ["a scale that is dropped"] * 2
    net, x = conversion.network, torch.randn(3, 3, 8, 8)
    torch.testing.assert_close(net(x), model(x))  # scales of one: nothing is changed yet
    net[2].scale.scale.data.fill_(2.0)
    net[4].scale.scale.data.fill_(3.0)

    def by_hand(first, second):
        h = F.conv2d(model[:2](x), model[2].weight, None, padding=1, groups=8) * (2 if first else 1)
        h = F.conv2d(F.relu(h + model[2].bias[:, None, None]), model[4].weight) * (3 if second else 1)
        return model[6](torch.flatten(h + model[4].bias[:, None, None], 1))

    exact = PosteriorPredictive(net, execution="exact")
    found = exact(x)
    drawn = [tuple(bool(draws[index].item()) for draws in exact.plans[0].draws.values()) for index in range(4)]
    torch.testing.assert_close(found.logits, torch.stack([by_hand(*bits) for bits in drawn]).detach())
    with pytest.raises(ValueError, match="'IR-Net' has none"):
        convert(model, "irnet", input_shape=(3, 8, 8), binary=False)


def test_mc_dropout_by_its_name():
    model = small(nn.ReLU(), nn.Conv2d(8, 8, 3)).eval()
    conversion = convert(model, "mc_dropout", input_shape=(3, 8, 8))
    assert [c.name for c in conversion.changes if c.before != c.after] == ["4"]
    x = torch.randn(2, 3, 8, 8)
    posterior = PosteriorPredictive(conversion.network, samples=5)
    found = posterior(x)
    (masks,) = posterior.plans[0].draws.values()
    with torch.no_grad():
        by_hand = torch.stack([model[4](model[:4](x) * mask / 0.5) for mask in masks])
    torch.testing.assert_close(found.logits, by_hand)
    with pytest.raises(ValueError, match="nothing to convert"):
        convert(nn.Sequential(nn.Conv2d(3, 4, 1), nn.Conv2d(4, 2, 1)), "mc_dropout", input_shape=(3, 4, 4))

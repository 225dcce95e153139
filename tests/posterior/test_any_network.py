"""Networks that are not ours: their dropout against loops written by hand, what they return and are given."""

from dataclasses import dataclass

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from lit_scaledrop import PosteriorPredictive, Predictive, ScaleDropout
from lit_scaledrop.layers.torch_dropout import PlannedDropout, find_places
from lit_scaledrop.posterior.any_network import two_classes

T = 6


class Block(nn.Module):
    def __init__(self, width_in, width, stride):
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(width_in, width, 3, stride, 1, bias=False), nn.BatchNorm2d(width)
        self.conv2, self.bn2 = nn.Conv2d(width, width, 3, 1, 1, bias=False), nn.BatchNorm2d(width)
        self.skip = nn.Identity() if stride == 1 else nn.Conv2d(width_in, width, 1, stride, bias=False)

    def forward(self, x):
        return F.relu(self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x))))) + self.skip(x))


class ResNet18(nn.Module):
    """As timm has it: a dropout of the pooled features, called as a function with ``self.training``."""

    def __init__(self, classes=10, width=8, drop_rate=0.0):
        super().__init__()
        self.drop_rate = drop_rate
        self.conv1, self.bn1 = nn.Conv2d(3, width, 7, 2, 3, bias=False), nn.BatchNorm2d(width)
        widths = [width * 2 ** (index // 2) for index in range(8)]
        strides = [2 if index in (2, 4, 6) else 1 for index in range(8)]
        blocks = map(Block, [width, *widths[:-1]], widths, strides)
        self.layers = nn.Sequential(*blocks)
        self.fc = nn.Linear(widths[-1], classes)

    def features(self, x):
        return self.layers(F.max_pool2d(F.relu(self.bn1(self.conv1(x))), 3, 2, 1)).mean((2, 3))

    def forward(self, x):
        x = self.features(x)
        if self.drop_rate:
            x = F.dropout(x, p=float(self.drop_rate), training=self.training)
        return self.fc(x)


def resnet(**options):
    torch.manual_seed(0)
    return ResNet18(**options).eval()


def images(batch=5):
    return torch.randn(batch, 3, 64, 64, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("execution", ["loop", "folded", "shared", "auto"])
def test_a_resnet18_of_timms_make_is_mc_dropout_for_the_same_masks(execution):
    net, x = resnet(drop_rate=0.5), images()
    posterior = PosteriorPredictive(net, samples=T, seed=3, execution=execution)
    found = posterior(x)
    (masks,) = posterior.plans[0].draws.values()
    assert masks.shape == (T, 64)
    with torch.no_grad():
        by_hand = torch.stack([net.fc(net.features(x) * mask / 0.5) for mask in masks])
    torch.testing.assert_close(found.logits, by_hand, rtol=1e-5, atol=1e-5)
    assert found.num_samples == T
    assert found.mutual_information.min() > 0
    if execution == "auto":  # all of the network in front of the dropout is shared
        assert posterior.choice == "shared"
        assert posterior.passes(x) < 1.1


def test_masks_are_bernoulli_and_do_not_depend_on_the_batch():
    net, x = resnet(drop_rate=0.3), images()
    posterior = PosteriorPredictive(net, samples=100, seed=3)
    whole = posterior(x).logits
    torch.testing.assert_close(torch.cat([posterior(x[:2]).logits, posterior(x[2:]).logits], 1), whole)
    (masks,) = posterior.plans[0].draws.values()
    assert masks.float().mean().item() == pytest.approx(0.7, abs=4 * (0.21 / masks.numel()) ** 0.5)


def test_a_network_of_timm():
    timm = pytest.importorskip("timm", reason="timm is not installed")
    torch.manual_seed(0)
    net, x = timm.create_model("resnet18", num_classes=10, drop_rate=0.5).eval(), images(2)
    posterior = PosteriorPredictive(net, samples=3)
    found = posterior(x)
    (masks,) = posterior.plans[0].draws.values()
    with torch.no_grad():
        features = net.global_pool(net.forward_features(x))
        by_hand = torch.stack([net.fc(features * mask / 0.5) for mask in masks])
    torch.testing.assert_close(found.logits, by_hand, rtol=1e-5, atol=1e-5)


SELU = -1.7580993408473766


def alpha(x, keep, p):
    a = ((1 - p) * (1 + p * SELU**2)) ** -0.5
    return a * (x * keep + SELU * (1 - keep)) - a * SELU * p


def plain(x, keep, p):
    return x * keep / (1 - p)


LAYERS = {
    "dropout": (nn.Dropout(0.4), (4, 6, 6), plain),
    "dropout1d": (nn.Dropout1d(0.4), (4, 6), plain),
    "dropout2d": (nn.Dropout2d(0.4), (4, 6, 6), plain),
    "dropout3d": (nn.Dropout3d(0.4), (4, 3, 3, 3), plain),
    "alpha_dropout": (nn.AlphaDropout(0.4), (4, 6), alpha),
    "feature_alpha_dropout": (nn.FeatureAlphaDropout(0.4), (4, 6), alpha),
}


@pytest.mark.parametrize("kind", LAYERS)
def test_every_dropout_of_pytorch(kind):
    layer, shape, formula = LAYERS[kind]
    net = nn.Sequential(layer, nn.Flatten()).eval()
    x = torch.randn(3, *shape)
    posterior = PosteriorPredictive(net, samples=T)
    (keep,) = (posterior(x), *posterior.plans[0].draws.values())[1:]
    by_hand = torch.stack([formula(x, mask.float(), 0.4).flatten(1) for mask in keep])
    torch.testing.assert_close(posterior(x).logits, by_hand)
    channels = kind not in ("dropout", "alpha_dropout")
    assert keep[0].numel() == (4 if channels else torch.Size(shape).numel())
    # PyTorch's own values of what is kept and dropped
    torch.manual_seed(0)
    theirs = layer.train()(x)
    kept = torch.isclose(theirs, formula(x, torch.ones(()), 0.4))
    torch.testing.assert_close(theirs, formula(x, kept.float(), 0.4))


class Tokens(nn.Module):
    """Inputs in dimension 1, as sequences have them, and several heads an input in dimension 0."""

    def __init__(self):
        super().__init__()
        self.drop, self.head_drop, self.out = nn.Dropout(0.5), nn.Dropout(0.5), nn.Linear(8, 3)

    def parts(self, x):
        return x.movedim(1, 0)  # (tokens, batch, 8)

    def forward(self, x):
        rows = self.drop(self.parts(x)).movedim(0, 1)
        heads = self.head_drop(rows.reshape(len(x) * 2, 2, 8))
        return self.out(heads.reshape(len(x), 4, 8).mean(1))


def test_inputs_in_other_dimensions():
    torch.manual_seed(0)
    net, x = Tokens(), torch.randn(3, 4, 8)
    posterior = PosteriorPredictive(net, samples=T)
    found = posterior(x)
    draws = dict(posterior.plans[0].draws)
    first, second = draws["dropout.drop:0"], draws["dropout.head_drop:0"]
    assert first.shape[1:].numel() == 32
    by_hand = [
        net.out((x * 2 * a.reshape(4, 8) * 2 * b.reshape(4, 8)).mean(1)).detach()
        for a, b in zip(first, second, strict=True)
    ]
    torch.testing.assert_close(found.logits, torch.stack(by_hand))
    torch.testing.assert_close(PosteriorPredictive(net, samples=T, execution="folded")(x).logits, found.logits)


def test_one_dropout_called_twice_has_two_masks():
    class Twice(nn.Module):
        def __init__(self):
            super().__init__()
            self.drop = nn.Dropout(0.5)

        def forward(self, x):
            return self.drop(self.drop(x))

    posterior = PosteriorPredictive(Twice(), samples=20)
    posterior(torch.ones(2, 9))
    assert list(posterior.plans[0].draws) == ["dropout.drop:0", "dropout.drop:1"]
    first, second = posterior.plans[0].draws.values()
    assert not torch.equal(first, second)


def test_ours_and_theirs_are_sampled_together():
    torch.manual_seed(0)
    scale = ScaleDropout(16, p=0.5)
    scale.scale.data.uniform_(0.5, 1.5)
    net, x = nn.Sequential(nn.Linear(4, 16), scale, nn.Dropout(0.5), nn.Linear(16, 3)), torch.randn(3, 4)
    loop, shared = (PosteriorPredictive(net, samples=T, execution=how)(x) for how in ("loop", "shared"))
    torch.testing.assert_close(loop.logits, shared.logits)
    off = PosteriorPredictive(net, samples=T, sample_dropout=False)
    assert list((off(x), off.plans[0].draws)[1]) == ["1"]
    assert PosteriorPredictive(net[2:], samples=T, sample_dropout=False)(torch.randn(3, 16)).num_samples == 1
    with pytest.raises(ValueError, match="no exact distribution"):
        PosteriorPredictive(net, execution="exact")(x)


def test_another_size_of_images_has_masks_of_its_own():
    net = nn.Sequential(nn.Conv2d(3, 4, 1), nn.Dropout(0.5), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    posterior = PosteriorPredictive(net, samples=T)
    for size in (8, 6, 8):
        posterior(torch.randn(2, 3, size, size))
        assert next(iter(posterior.plans[0].draws.values())).shape == (T, 4, size, size)


def test_nothing_of_the_network_changes():
    net, x = resnet(drop_rate=0.5).train(), images()
    before, state = torch.get_rng_state(), {k: v.clone() for k, v in net.state_dict().items()}
    PosteriorPredictive(net, samples=3)(x)
    assert torch.equal(before, torch.get_rng_state())
    assert all(torch.equal(state[k], v) for k, v in net.state_dict().items())
    assert all(module.training for module in net.modules())
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in net.modules())


def test_what_cannot_be_sampled_is_refused_or_named():
    class Noisy(nn.Module):
        def forward(self, x):
            return x + torch.randn_like(x)

    with pytest.raises(ValueError, match="draws its own random numbers"):
        PosteriorPredictive(Noisy())(torch.ones(2, 3))
    encoder = nn.Sequential(nn.TransformerEncoderLayer(8, 2, 16, batch_first=True), nn.Flatten())
    with pytest.raises(ValueError, match=r"0.self_attn \(MultiheadAttention\) cannot be sampled"):
        PosteriorPredictive(encoder)(torch.randn(2, 3, 8))
    encoder[0].self_attn.dropout = 0.0
    assert PosteriorPredictive(encoder, samples=T)(torch.randn(2, 3, 8)).variance.max() > 0

    class TrainingOnly(nn.Module):
        def __init__(self):
            super().__init__()
            self.drop = nn.Dropout(0.5)

        def forward(self, x):
            return self.drop(x) if self.training else x

    with pytest.warns(UserWarning, match=r"drop \(Dropout\) acts in training only: nothing else is random"):
        PosteriorPredictive(TrainingOnly())(torch.ones(2, 3))

    class Pooled(nn.Module):
        def forward(self, x):
            return F.dropout(x.mean(0, keepdim=True), 0.5).expand(len(x), -1)

    with pytest.raises(ValueError, match="not clear which part is whose"):
        PosteriorPredictive(Pooled())(torch.ones(2, 3))


def test_one_logit_is_a_sigmoid():
    torch.manual_seed(0)
    net, x = nn.Sequential(nn.Linear(4, 16), nn.Dropout(0.5), nn.Linear(16, 1)), torch.randn(3, 4)
    posterior = PosteriorPredictive(net, samples=T)
    found = posterior(x)
    (masks,) = posterior.plans[0].draws.values()
    with torch.no_grad():
        z = torch.stack([net[2](net[0](x) * mask / 0.5) for mask in masks])[..., 0]
    torch.testing.assert_close(found.mean[:, 1], z.sigmoid().mean(0))
    assert found.num_classes == 2
    flat = nn.Sequential(nn.Linear(4, 1), nn.Flatten(0))
    torch.testing.assert_close(PosteriorPredictive(flat)(x).mean[:, 1], flat(x).detach().sigmoid())
    maps = nn.Conv2d(3, 1, 1)
    pixels = PosteriorPredictive(maps)(torch.ones(2, 3, 4, 4))
    assert pixels.mean.shape == (32, 2)
    with pytest.raises(ValueError, match="two classes"):
        Predictive(torch.zeros(1, 3, 1))
    several = torch.randn(3, 4)
    assert two_classes(several) is several


@dataclass
class Output:
    loss: torch.Tensor | None
    logits: torch.Tensor


@pytest.mark.parametrize(
    ("wrap", "output"),
    [
        (lambda z: (z, z[:, :1]), None),
        (lambda z: [z], None),
        (lambda z: {"logits": z, "features": z[:, :1]}, None),
        (lambda z: {"out": z, "aux": z[:, :1]}, None),
        (lambda z: {"scores": z}, None),
        (lambda z: Output(None, z), None),
        (lambda z: {"a": z[:, :1], "b": z}, "b"),
        (lambda z: Output(None, z), "logits"),
        (lambda z: (z[:, :1], z), 1),
        (lambda z: (z[:, :1], {"deep": z}), lambda given: given[1]["deep"]),
    ],
)
def test_logits_are_found_in_what_a_network_returns(wrap, output):
    class Wrapped(nn.Module):
        def __init__(self):
            super().__init__()
            self.linear = nn.Linear(4, 3)

        def forward(self, x):
            return wrap(self.linear(x))

    net, x = Wrapped(), torch.randn(2, 4)
    torch.testing.assert_close(PosteriorPredictive(net, output=output)(x).logits[0], net.linear(x).detach())


def test_what_is_not_plain_is_asked_for():
    class Ambiguous(nn.Module):
        def forward(self, x):
            return {"a": x, "b": x}

    with pytest.raises(ValueError, match="a dict of a, b, in which the logits are ambiguous: select"):
        PosteriorPredictive(Ambiguous())(torch.ones(2, 3))
    posterior, x = PosteriorPredictive(nn.Linear(4, 3)), torch.randn(6, 4)
    batches = [{"image": part, "label": torch.zeros(len(part))} for part in x.split(4)]
    torch.testing.assert_close(posterior.over(batches).logits, posterior(x).logits)
    odd = [{"left": part, "right": part + 1} for part in x.split(4)]
    with pytest.raises(ValueError, match="a batch is a dict of left, right"):
        posterior.over(odd)
    torch.testing.assert_close(posterior.over(odd, inputs="left").logits, posterior(x).logits)
    right = posterior.over(odd, inputs=lambda batch: batch["right"])
    torch.testing.assert_close(right.logits, posterior(x + 1).logits)


def test_places_are_named_after_the_module_that_calls():
    net = nn.Sequential(nn.Sequential(nn.Linear(4, 4), nn.Dropout(0.2)), nn.Dropout(0.0), nn.Dropout(1.0))
    places, output, drew = find_places(net, torch.randn(1, 4))
    assert list(places) == ["0_1:0", "2:0"]
    assert output.shape == (2, 4)
    assert not drew
    assert PosteriorPredictive(net)(torch.randn(3, 4)).logits.abs().max() == 0  # p = 1 drops all
    assert PlannedDropout((4,), 0.5).eval()(torch.ones(2, 4)).sum() == 8  # without a plan nothing is dropped


def test_double_precision_stays():
    net = nn.Sequential(nn.Linear(4, 4), nn.Dropout(0.5), nn.Linear(4, 2)).double()
    assert PosteriorPredictive(net)(torch.randn(3, 4, dtype=torch.float64)).logits.dtype is torch.float64


def test_networks_of_an_ensemble_count_alike_however_many_passes_they_make():
    torch.manual_seed(0)
    plain, random, x = nn.Linear(8, 3), nn.Sequential(nn.Dropout(0.5), nn.Linear(8, 3)), torch.randn(4, 8)
    found = PosteriorPredictive([plain, random], samples=T)(x)
    each = (plain(x).detach().softmax(1) + PosteriorPredictive(random, samples=T, seed=1)(x).mean) / 2
    torch.testing.assert_close(found.mean, each)
    assert found.num_samples == 1 + T


class Reshaping(nn.Module):
    """Time steps or windows folded into the rows, in front of the inputs or behind them."""

    def __init__(self, steps_first):
        super().__init__()
        self.drop, self.out, self.steps_first = nn.Dropout(0.5), nn.Linear(8, 3), steps_first

    def forward(self, x):
        rows = self.drop((x.transpose(0, 1) if self.steps_first else x).reshape(-1, 8))
        inputs = rows.reshape(-1, len(x), 8).transpose(0, 1) if self.steps_first else rows.reshape(len(x), -1, 8)
        return self.out(inputs.mean(1))


def test_rows_that_belong_to_several_inputs_by_turns_are_refused():
    with pytest.raises(ValueError, match="rows of several inputs alternate where drop drops"):
        PosteriorPredictive(Reshaping(True), samples=T)(torch.randn(4, 6, 8))


class LastRow(Reshaping):
    def forward(self, x):
        return self.out(self.drop(x)[torch.arange(len(x)), -1])


@pytest.mark.parametrize("kind", [Reshaping, LastRow])
def test_sharing_is_refused_where_the_network_counts_rows_as_its_input_has_them(kind):
    torch.manual_seed(0)
    net, x = kind(False), torch.randn(4, 6, 8)
    loop = PosteriorPredictive(net, samples=T)(x)
    for how in ("folded", "auto"):
        torch.testing.assert_close(PosteriorPredictive(net, samples=T, execution=how)(x).logits, loop.logits)
    with pytest.raises(ValueError, match="differ from separate ones"):
        PosteriorPredictive(net, samples=T, execution="shared")(x)


def test_dropout_that_always_acts_is_refused_where_it_is_not_sampled():
    class Always(nn.Module):
        def forward(self, x):
            return F.dropout(x, 0.5)

    x = torch.randn(2, 3)
    assert PosteriorPredictive(Always(), samples=T)(x).num_samples == T
    with pytest.raises(ValueError, match="draws its own random numbers"):
        PosteriorPredictive(Always(), samples=T, sample_dropout=False)(x)


def test_calls_of_dropout_that_depend_on_the_input_are_refused():
    class Early(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.second = nn.Dropout(0.5), nn.Dropout(0.5)

        def forward(self, x):
            return self.second(self.first(x) if x.mean() > 0 else x)

    posterior = PosteriorPredictive(Early(), samples=T)
    posterior(torch.ones(2, 3))
    with pytest.raises(RuntimeError, match="must not depend on the values of its input"):
        posterior(-torch.ones(2, 3))


def test_a_batch_of_one_that_is_squeezed():
    class Squeezed(nn.Module):
        def __init__(self, classes):
            super().__init__()
            self.linear, self.drop = nn.Linear(4, classes), nn.Dropout(0.5)

        def forward(self, x):
            return self.drop(self.linear(x)).squeeze()

    x = torch.randn(3, 4)
    one = PosteriorPredictive(Squeezed(1), samples=T)
    torch.testing.assert_close(one(x).mean[:1], one(x[:1]).mean)
    with pytest.raises((ValueError, TypeError), match=r"6, ?3"):  # not three inputs of one logit
        PosteriorPredictive(Squeezed(3), samples=T)(x[:1])


def test_plans_that_are_given_stay():
    net, x = nn.Sequential(nn.Dropout(0.5), nn.Linear(8, 3)), torch.randn(4, 8)
    first, second = (PosteriorPredictive(net, samples=T, seed=seed) for seed in (0, 1))
    expected = first(x)
    second.plans = first.plans
    assert torch.equal(second(x).logits, expected.logits)


def test_all_masks_stay_all_masks_for_another_size_of_images():
    class Own(nn.Module):
        def __init__(self):
            super().__init__()
            self.scale, self.out = ScaleDropout(3, p=0.5), nn.Linear(3, 3)

        def forward(self, x):
            return {"logits": self.out(self.scale(x).mean((2, 3)))}

    posterior = PosteriorPredictive(Own(), samples=20, execution="auto")
    assert posterior(torch.randn(2, 3, 8, 8)).num_samples == 2
    other = posterior(torch.randn(2, 3, 6, 6))
    assert posterior.choice == "exact"
    assert other.num_samples == 2


@pytest.mark.filterwarnings("ignore:.torch.jit")
def test_dropout_in_torchscript_is_named():
    net, x = nn.Sequential(nn.Linear(4, 3), nn.Dropout(0.5)).eval(), torch.randn(2, 4)
    for made in (torch.jit.script(net), torch.jit.trace(net, x)):
        with pytest.warns(UserWarning, match=r"1 \(Dropout\) acts in training only"):
            found = PosteriorPredictive(made)(x)
        torch.testing.assert_close(found.logits[0], net(x).detach())

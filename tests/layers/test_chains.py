"""What leads to a sign is one comparison for each channel, found by bisection and right for every number."""

from contextlib import nullcontext

import pytest
import torch
from torch import nn
from torch.func import functional_call

from binary_networks import binary
from lit_scaledrop.deploy.thresholds import fold
from lit_scaledrop.layers import lowering
from lit_scaledrop.layers.activations import Clip
from lit_scaledrop.layers.binary import EDE, STE, BinaryConv2d
from lit_scaledrop.layers.bits import available
from lit_scaledrop.layers.bits.operation import BITS, PACK, SUMS
from lit_scaledrop.layers.recorded import Recorded
from lit_scaledrop.layers.recording import UnrecordableError, can_be_parted, record
from lit_scaledrop.layers.scale_dropout import ScaleDropout
from lit_scaledrop.layers.stochastic import drawing_alone
from lit_scaledrop.methods.classification import METHODS
from lit_scaledrop.networks import build_network
from lit_scaledrop.posterior.posterior import PosteriorPredictive

pytestmark = pytest.mark.skipif(not available(), reason="no C compiler: there are no kernels")


def norm(channels, seed=0):
    made, generator = nn.BatchNorm2d(channels), torch.Generator().manual_seed(seed)
    made.running_mean.normal_(0, 5, generator=generator)
    made.running_var.uniform_(1, 30, generator=generator)
    nn.init.normal_(made.weight, generator=generator)
    nn.init.normal_(made.bias, generator=generator)
    return made


def scale(channels, bias=False, p=0.5):
    made = ScaleDropout(channels, p, bias=bias)
    nn.init.normal_(made.scale, 1, 0.7)  # some of them negative
    if bias:
        nn.init.normal_(made.bias, 0, 3)
    return made


@pytest.fixture(autouse=True)
def seeded():
    torch.manual_seed(0)


def chains_of(network, x):
    """Of more than the sign itself, in their order."""
    found, true = [], lowering.of_chain
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(lowering, "of_chain", lambda chain, told: found.append(chain) or true(chain, told))
        lowering.lower(record(network, x))
    return [chain for chain in found if chain.between]


def kinds(posterior):
    """Kinds of the operations of what a posterior has recorded last; none where its network runs as it is."""
    recorded = next(reversed(posterior._multiplier.recorded.values()), None)
    routines = [] if recorded is None else recorded.routines
    return [of.kind for each in routines for of in each.routine.operations]


def posteriors(network, execution="loop", samples=2):
    return [PosteriorPredictive(network, samples, 1, execution, backend=backend) for backend in ("bits", "torch")]


def both(network, x):
    """Logits of a posterior in bits, which records, and of one in floats."""
    ours, floats = posteriors(nn.Sequential(network, nn.Flatten()).eval())
    return ours(x).logits, floats(x).logits, kinds(ours)


CASES = {
    "norm": lambda c: [norm(c), Clip()],
    "scale": lambda c: [scale(c), norm(c), Clip()],
    "affine": lambda c: [scale(c, bias=True), norm(c), Clip()],
    "scale behind": lambda c: [norm(c), scale(c, bias=True), nn.Hardtanh()],
    "pool": lambda c: [nn.MaxPool2d(2), scale(c), norm(c), nn.Identity(), Clip()],
    "pool between": lambda c: [scale(c, bias=True), nn.MaxPool2d(2), norm(c), Clip()],
    "pool behind": lambda c: [scale(c), norm(c), Clip(), nn.MaxPool2d(3)],
}


@pytest.mark.parametrize("weight_scale", ["none", "power_of_two"])
@pytest.mark.parametrize("case", CASES)
def test_every_sum_has_its_sign(case, weight_scale):
    """All integers that can be, for a scale that is kept and one that is dropped, against the modules themselves."""
    source = binary(7, 12, weight_scale=weight_scale)
    network = nn.Sequential(source, *CASES[case](12), binary(12, 3)).eval()
    (chain,) = chains_of(network, torch.randn(1, 7, 8, 8))
    assert chain.source is source
    size = source.binary_weight().detach().abs().flatten(1)[:, 0]
    sums = (torch.arange(-63, 64)[:, None] * size).view(127, 12, 1, 1).repeat(1, 1, 8, 8)
    for keep in (1.0, 0.0):
        draw = torch.tensor([[[keep]]]) if chain.random else None
        threshold, direction, _ = chain.thresholds(draw)
        with torch.no_grad(), drawing_alone(chain.random, draw) if chain.random else nullcontext():
            expected = sums
            for module in chain.between:
                expected = module(expected)
        ours = sums * direction[0].view(-1, 1, 1) >= threshold[0].view(-1, 1, 1)
        assert torch.equal(ours, expected >= 0)
        assert 0 < ours.float().mean() < 1


def test_numbers_that_are_no_sums():
    """Behind a full-precision convolution the threshold is one of all floats: just there the sign turns."""
    network = nn.Sequential(nn.Conv2d(2, 12, 3), norm(12), Clip(), binary(12, 3)).eval()
    (chain,) = chains_of(network, torch.randn(1, 2, 8, 8))
    threshold, direction, _ = chain.thresholds(None)
    edge = threshold[0] * direction[0]
    below = torch.where(
        direction[0] > 0,
        torch.nextafter(edge, -torch.tensor(torch.inf)),
        torch.nextafter(edge, torch.tensor(torch.inf)),
    )
    with torch.no_grad():
        at, beside = (network[1](x.view(1, -1, 1, 1).repeat(1, 1, 8, 8))[0, :, 0, 0] >= 0 for x in (edge, below))
    assert at.all()
    assert not beside.any()


def test_channels_of_one_sign():
    flat = norm(4)
    with torch.no_grad():
        flat.weight.zero_()
        flat.bias.copy_(torch.tensor([1.0, -1.0, 0.0, torch.nan]))
    network = nn.Sequential(binary(3, 4), flat, binary(4, 2)).eval()
    (chain,) = chains_of(network, torch.randn(1, 3, 8, 8))
    threshold, direction, _ = chain.thresholds(None)
    assert direction.tolist() == [[1, 1, 1, 1]]
    assert threshold.isnan().tolist() == [[False, True, False, True]]  # which no number reaches
    assert threshold[0, ::2].tolist() == [-torch.inf, -torch.inf]


def test_infinite_numbers():
    """A factor of zero makes a constant of finite numbers, and no number of infinite ones."""
    flat = norm(5)
    with torch.no_grad():
        flat.weight.copy_(torch.tensor([0.0, 0.0, 1.0, -1.0, torch.nan]))
        flat.bias.copy_(torch.tensor([1.0, -1.0, 0.0, 0.0, 1.0]))
        flat.running_mean.zero_()
    network = nn.Sequential(nn.Conv2d(3, 5, 1), flat, Clip(), binary(5, 2)).eval()
    (chain,) = chains_of(network, torch.randn(1, 3, 8, 8))
    special = torch.tensor([-torch.inf, -torch.finfo().max, -2.0, 0.0, 2.0, torch.finfo().max, torch.inf, torch.nan])
    x = special.view(8, 1, 1, 1).expand(8, 5, 8, 8)
    threshold, direction, _ = chain.thresholds(None)
    with torch.no_grad():
        expected = network[2](network[1](x)) >= 0
    assert torch.equal(x * direction[0].view(-1, 1, 1) >= threshold[0].view(-1, 1, 1), expected)
    assert expected[:, :, 0, 0].sum(0).tolist() == [5, 0, 4, 4, 0]


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("execution", ["loop", "shared", "folded"])
def test_a_network_gives_the_same(case, execution):
    """Scales of either sign in front of the pool, norms of either sign behind it; no sum in between is a number."""
    layers = [binary(7, 12), *CASES[case](12), binary(12, 9), *CASES[case](9), binary(9, 3)]
    network = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten()).eval()
    x = torch.randn(5, 7, 20, 20)
    ours, floats = posteriors(network, execution, 6)
    expected = floats(x).logits
    assert torch.equal(ours(x).logits, expected)
    assert torch.equal(ours(x).logits, expected)
    assert kinds(ours) == [PACK, BITS, BITS, SUMS]
    if execution != "loop" and case not in ("norm",):
        assert len(expected[:, 0].unique(dim=0)) > 1


def test_an_infinite_scale_in_front_of_a_pool():
    """Of a sum of 0 it makes no number, which is the largest one of its square."""
    network = nn.Sequential(binary(4, 8), scale(8, p=0.0), nn.MaxPool2d(2), norm(8), binary(8, 2), nn.Flatten()).eval()
    ours, floats = posteriors(network)
    x = torch.randn(3, 4, 8, 8)
    assert torch.equal(ours(x).logits, floats(x).logits)
    network[1].scale.data[::2] = torch.inf
    assert torch.equal(ours(x).logits, floats(x).logits)


class Twice(nn.Module):
    """A convolution runs twice, and a chain leads on from its second sums."""

    def __init__(self, between):
        super().__init__()
        self.conv, self.between, self.last = binary(4, 4), nn.Sequential(*between), binary(4, 2)

    def forward(self, x):
        once = self.conv(x)
        return self.last(self.between(self.conv(once))) + once.mean()


@pytest.mark.parametrize("between", [[scale(4), norm(4)], [scale(4), nn.MaxPool2d(2), norm(4)]], ids=["plain", "pool"])
def test_a_convolution_that_runs_twice_gives_numbers(between):
    """Its first sums go elsewhere; the comparison stays, behind the pool if there is one."""
    network, x = nn.Sequential(Twice(between), nn.Flatten()).eval(), torch.randn(3, 4, 8, 8)
    ours, floats = posteriors(network)
    assert torch.equal(ours(x).logits, floats(x).logits)
    chain = chains_of(network, x)[-1]
    assert chain.source is network[0].conv
    assert chain.before_pool == (None if len(between) == 2 else 1)
    assert kinds(ours).count(BITS) == 1


def test_groups_are_pooled_as_numbers():
    """The bits of their channels share bytes."""
    for groups, pool in ((1, 2), (2, None)):
        network = nn.Sequential(binary(4, 8), scale(8), nn.MaxPool2d(2), norm(8), binary(8, 2, groups=groups)).eval()
        (chain,) = chains_of(network, torch.randn(1, 4, 8, 8))
        assert (chain.source, chain.before_pool) == ((network[2], None) if pool is None else (network[0], 1))


def test_pools_that_overlap_part_a_chain():
    network = nn.Sequential(binary(4, 8), scale(8), nn.MaxPool2d(3, 2), norm(8), binary(8, 2)).eval()
    (chain,) = chains_of(network, torch.randn(1, 4, 8, 8))
    assert (chain.source, chain.before_pool) == (network[2], None)


class Halved(BinaryConv2d):
    def forward(self, x):
        return super().forward(x) / 2 + 0.3


class HalvedPool(nn.MaxPool2d):
    def forward(self, x):
        return super().forward(x) / 2 + 0.3


class Folded(nn.Hardtanh):
    def forward(self, x):
        return super().forward(x).abs() - 0.5


class FoldedScale(ScaleDropout):
    def forward(self, x):
        return super().forward(x).abs() - 0.5


@pytest.mark.parametrize(
    "between",
    [[Folded()], [FoldedScale(4)], [nn.BatchNorm2d(4, track_running_stats=False)], [HalvedPool(2), Clip()]],
    ids=["clip", "scale", "norm", "pool"],
)
def test_of_other_classes_nothing_is_known(between):
    """Not even that a pool gives sums."""
    network, x = nn.Sequential(binary(4, 4), *between, binary(4, 2)).eval(), torch.randn(3, 4, 8, 8)
    assert all(chain.source is between[0] for chain in chains_of(network, x))
    ours, floats, made = both(network, x)
    assert torch.equal(ours, floats)
    assert BITS not in made


def test_convolutions_of_other_classes():
    own, x = Halved(4, 4, 3, EDE(), STE()), torch.randn(3, 4, 8, 8)
    network = nn.Sequential(own, norm(4), binary(4, 4), Clip(), Halved(4, 4, 3, EDE(), STE())).eval()
    (chain,) = chains_of(network, x)
    assert chain.source is own
    ours, floats, made = both(network, x)
    assert torch.equal(ours, floats)
    assert made[:2] == [PACK, SUMS]


def test_a_forward_of_its_own_is_kept():
    network, x = nn.Sequential(binary(4, 4), norm(4), nn.MaxPool2d(2), binary(4, 2)).eval(), torch.randn(3, 4, 8, 8)
    ours, floats = posteriors(nn.Sequential(network, nn.Flatten()))
    before, plain = ours(x).logits, network[1].forward
    network[1].forward = lambda y: plain(y) + 1
    own = network[1].forward
    after = ours(x).logits
    assert network[1].forward is own
    assert torch.equal(after, floats(x).logits)
    assert not torch.equal(after, before)


class Gathered(nn.Module):
    def forward(self, given):
        return given[0] + given[1]


class Elsewhere(nn.Module):
    """What stands in front of the sign is used in ways that are hard to see."""

    def __init__(self, how):
        super().__init__()
        self.how, self.conv, self.norm, self.clip, self.last = how, binary(4, 4), norm(4), Clip(), binary(4, 4)
        self.gathered, self.relu, self.normed, self.options = Gathered(), nn.ReLU(), True, []

    def forward(self, x):
        y = self.conv(x)
        y = self.norm(y) if self.normed else y
        y = y - 3 if self.options else y
        z = self.clip(y)
        if self.how == "list":
            y = self.gathered([self.last(z), z])
        elif self.how == "named":
            y = self.last(z) + self.relu(input=z)
        elif self.how == "kept":
            self.seen, y = [z], self.last(z)
        else:
            y = self.last(z)
        return y.mean((2, 3))


@pytest.mark.parametrize("how", ["list", "named", "kept"])
def test_uses_that_are_hard_to_see(how):
    network, x = Elsewhere(how).eval(), torch.randn(3, 4, 8, 8)
    ours, floats = (posterior(x).logits for posterior in posteriors(network))
    assert torch.equal(ours, floats)
    if how == "kept":
        PosteriorPredictive(network, 1, backend="bits")(x)
        assert isinstance(network.seen[0], torch.Tensor)


CHANGES = {
    "eps": lambda network: setattr(network.norm, "eps", 500.0),
    "limits": lambda network: setattr(network.clip, "min_val", 0.3),
    "another norm": lambda network: setattr(network, "norm", norm(4, 7)),
    "comparison": lambda network: fold(network, ["norm"]),
    "another way": lambda network: setattr(network, "normed", False),
    "in a list": lambda network: network.options.append("scaled"),
    "a class's word": lambda network: setattr(network.last, "normalize", False),
    "no statistics": lambda network: vars(network.norm)["_buffers"].update(running_mean=None, running_var=None),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_network_that_is_changed_between_two_predictions(change):
    network, x = Elsewhere("").eval(), torch.randn(3, 4, 8, 8)
    ours, floats = posteriors(network)
    before = ours(x).logits
    assert torch.equal(before, floats(x).logits)
    assert kinds(ours).count(BITS) == 1
    CHANGES[change](network)
    assert torch.equal(ours(x).logits, floats(x).logits)


def test_a_scale_that_is_dropped_to_another_value():
    network = nn.Sequential(binary(4, 4), scale(4), norm(4), binary(4, 2), nn.AdaptiveAvgPool2d(1), nn.Flatten()).eval()
    (ours, floats), x = posteriors(network), torch.randn(3, 4, 8, 8)
    for value in ("unitary", "average"):
        network[1].drop_value = value
        assert torch.equal(ours(x).logits, floats(x).logits)
    assert kinds(ours).count(BITS) == 1


def test_weights_that_are_given_from_outside():
    class Given(nn.Module):
        def __init__(self):
            super().__init__()
            self.network = Elsewhere("")
            self.weights = {name: weight.detach().clone() for name, weight in self.network.named_parameters()}

        def forward(self, x):
            return functional_call(self.network, self.weights, (x,))

    network, x = Given().eval(), torch.randn(3, 4, 8, 8)
    ours, floats = posteriors(network)
    assert torch.equal(ours(x).logits, floats(x).logits)
    for weight in network.weights.values():
        weight.normal_()
    assert torch.equal(ours(x).logits, floats(x).logits)


@pytest.mark.filterwarnings("ignore:`torch.jit.script`:DeprecationWarning", "ignore::FutureWarning")
def test_scripted_modules_take_no_hooks():
    network = nn.Sequential(binary(4, 4), torch.jit.script(nn.Hardtanh()), binary(4, 2)).eval()
    assert not can_be_parted(network)
    x = torch.randn(3, 4, 8, 8)
    ours, floats = posteriors(network)
    assert torch.equal(ours(x).logits, floats(x).logits)
    assert not kinds(ours)


class Skipped(nn.Module):
    """The sum is used twice."""

    def __init__(self, how):
        super().__init__()
        self.how, self.conv, self.norm, self.last = how, binary(4, 4), norm(4), binary(4, 4)

    def forward(self, x):
        y = self.conv(x)
        z = self.norm(y)
        if self.how == "sum":
            return self.last(z) + y
        if self.how == "between":
            return self.last(z * 2 - 1)
        if self.how == "returned":
            return self.last(z), z
        if self.how == "twice":
            return self.last(self.norm(z))
        return self.last(self.last(z))


@pytest.mark.parametrize("how", ["sum", "between", "returned", "twice", "consumer twice"])
def test_what_others_see_is_computed(how):
    network, x = Skipped(how).eval(), torch.randn(2, 4, 8, 8)
    if how == "returned":
        with pytest.raises(UnrecordableError, match="its output is no tensor"):
            record(network, x)
        return
    ours, floats, made = both(network, x)
    assert torch.equal(ours, floats)
    assert (BITS in made) == (how in ("twice", "consumer twice"))


@pytest.mark.parametrize(
    "between",
    [[nn.Softmax2d()], [nn.AvgPool2d(2)], [nn.Hardtanh(0.1, 1)], [nn.ReLU()], [ScaleDropout(4, mask="element")],
     [ScaleDropout(4, drop_value="random")], []],
    ids=["softmax", "mean", "clip above 0", "relu", "element", "random", "nothing"],
)  # fmt: skip
def test_what_is_no_chain(between):
    network, x = nn.Sequential(binary(4, 4), *between, binary(4, 2)).eval(), torch.randn(3, 4, 8, 8)
    assert chains_of(network, x) == []
    ours, floats, made = both(network, x)
    assert torch.equal(ours, floats)
    assert made[:2] == [PACK, SUMS]


def test_a_chain_has_one_draw():
    network = nn.Sequential(binary(4, 4), scale(4), norm(4), scale(4), binary(4, 2)).eval()
    (chain,) = chains_of(network, torch.randn(1, 4, 8, 8))
    assert (chain.source, chain.between) == (network[1], [network[2], network[3]])


class Early(nn.Module):
    """Ends early, by what it sees."""

    def __init__(self, behind):
        super().__init__()
        self.conv, self.norm, self.scale, self.last, self.scaled = binary(4, 4), norm(4), behind, binary(4, 4), True

    def forward(self, x):
        y = self.norm(self.conv(x))
        if x.mean() > 5:
            return y.mean((2, 3))
        return self.last(self.scale(y) if self.scaled else y).mean((2, 3))


def test_a_network_that_looks_at_numbers_runs_as_it_is():
    """In bits, but layer by layer; faults stay faults."""
    network, x = Early(scale(4)).eval(), torch.randn(3, 4, 8, 8)
    ours, floats = posteriors(network)
    for images in (x, x + 10):
        assert torch.equal(ours(images).logits, floats(images).logits)
    assert not kinds(ours)
    assert ours.multiplied[0] == "bits"
    with pytest.raises(UnrecordableError, match="it depends on numbers \\(__bool__\\)"):
        record(network, x)
    network.scaled = False
    assert torch.equal(ours(x).logits, floats(x).logits)
    network.last = nn.Linear(3, 3)
    with pytest.raises(RuntimeError, match="cannot be multiplied"):
        ours(x)


def test_compiled_modules_are_left_alone():
    network = nn.Sequential(binary(4, 4), norm(4), binary(4, 2)).eval()
    assert can_be_parted(network)
    network[1].compile()
    assert not can_be_parted(network)


@pytest.mark.parametrize("change", ["statistics", "weights", "scale", "factor"])
def test_thresholds_follow_what_they_are_made_of(change):
    network = nn.Sequential(binary(3, 9, weight_scale="power_of_two"), scale(9), norm(9), Clip(), binary(9, 2)).eval()
    x = torch.randn(4, 3, 8, 8)
    ours, floats = posteriors(nn.Sequential(network, nn.Flatten()))
    before = ours(x).logits
    assert torch.equal(before, floats(x).logits)
    recorded = list(ours._multiplier.recorded.values())
    with torch.no_grad():
        if change == "statistics":
            network[2].running_mean += 3
        elif change == "weights":
            network[0].weight.copy_(torch.randn_like(network[0].weight))
        elif change == "scale":
            network[1].scale.data.neg_()
        else:
            network[0].weight.mul_(8)
            network[0].normalize = False
    after = ours(x).logits
    assert torch.equal(after, floats(x).logits)
    assert not torch.equal(after, before)
    # what was recorded is kept, where no attribute has changed
    assert (list(ours._multiplier.recorded.values()) == recorded) == (change != "factor")


def test_what_is_watched_is_computed():
    network, x = (
        nn.Sequential(binary(3, 4), norm(4), Clip(), binary(4, 2), nn.Flatten()).eval(),
        torch.randn(2, 3, 8, 8),
    )
    (ours, floats), seen = posteriors(network), []
    ours(x)
    hook = network[2].register_forward_hook(lambda _m, _i, output: seen.append(output))
    ours(x)
    assert seen[0].dtype == torch.float32
    hook.remove()
    seen.clear()
    assert torch.equal(ours(x).logits, floats(x).logits)
    assert not seen


@pytest.mark.parametrize("execution", ["loop", "folded", "shared", "exact"])
@pytest.mark.parametrize("method", ["proposed", "proposed_affine"])
def test_predictions_have_all_chains_of_the_networks(method, execution):
    for name, count, from_floats in (("vgg_small", 5, 1), ("resnet18", 8, 0)):
        if name == "resnet18" and execution != "shared":
            continue
        net = build_network(name, METHODS[method], width=0.1).eval()
        for module in net.modules():
            if isinstance(module, ScaleDropout):
                nn.init.normal_(module.scale, 1, 0.7)
        x = torch.randn(3, 3, 32, 32)
        posteriors = [PosteriorPredictive(net, 4, 1, execution, backend=backend) for backend in ("bits", "torch")]
        ours, floats = (posterior(x).logits for posterior in posteriors)
        assert torch.equal(ours, floats)
        assert kinds(posteriors[0]).count(BITS) + from_floats == count
        assert not torch.equal(ours[0], ours[-1])


@pytest.mark.parametrize(
    "pool", [nn.MaxPool2d(3, 2), nn.MaxPool2d(2, padding=1), nn.MaxPool2d(2, ceil_mode=True), nn.MaxPool2d((2, 1))]
)
def test_other_pooling_is_pytorchs(pool):
    network, x = nn.Sequential(binary(3, 4), pool, norm(4), binary(4, 2)).eval(), torch.randn(2, 3, 9, 9)
    ours, floats, made = both(network, x)
    assert torch.equal(ours, floats)
    assert made == [PACK, SUMS] * 2
    recorded = Recorded(network, x)
    assert len(recorded.routines) == 2

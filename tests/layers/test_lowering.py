"""What kernels compute of a network, and that it is PyTorch's numbers, bit for bit, in every execution."""

import copy
import pickle
import threading

import pytest
import torch
from torch import nn

from binary_networks import agree, binary, kinds, lived_in
from lit_scaledrop.layers.activations import Clip
from lit_scaledrop.layers.bits import Cases, available
from lit_scaledrop.layers.bits.operation import BITS, FINISH, PACK, POOL, SUBSAMPLE, SUMS
from lit_scaledrop.layers.drawn_cases import DrawnCases, multiplies_and_adds
from lit_scaledrop.layers.prefix import align
from lit_scaledrop.layers.recorded import Recorded, RoutineStep
from lit_scaledrop.layers.scale_dropout import ScaleDropout
from lit_scaledrop.layers.shortcut import PadShortcut
from lit_scaledrop.layers.stochastic import StochasticLayer
from lit_scaledrop.methods.classification import METHODS
from lit_scaledrop.networks import build_network
from lit_scaledrop.posterior.posterior import PosteriorPredictive

pytestmark = pytest.mark.skipif(not available(), reason="no C compiler: there are no kernels")


@pytest.fixture(autouse=True)
def seeded():
    torch.manual_seed(0)


@pytest.mark.parametrize("execution", ["loop", "folded", "shared"])
@pytest.mark.parametrize("method", ["proposed", "proposed_affine_open", "irnet", "recu", "bnn"])
@pytest.mark.parametrize("network", ["resnet20", "resnet18"])
def test_networks_with_skips(network, method, execution):
    net = lived_in(build_network(network, METHODS[method], width=0.125))
    assert agree(net, torch.randn(3, 3, 32, 32), execution)


def test_all_of_a_network_is_one_routine():
    """But for the stem and what stands behind the last map."""
    x = torch.randn(1, 3, 32, 32)
    (found,) = kinds(build_network("resnet20", METHODS["proposed"], width=0.125).eval(), x)
    assert found == [FINISH, *[PACK, SUMS, FINISH] * 6, *[PACK, SUMS, SUBSAMPLE, FINISH, *[PACK, SUMS, FINISH] * 5] * 2]
    (found,) = kinds(build_network("resnet18", METHODS["proposed"], width=0.125).eval(), x)
    block = [PACK, BITS, SUMS]
    assert found == [FINISH, *[*block, FINISH] * 2, *[*block, POOL, SUBSAMPLE, FINISH, *block, FINISH] * 3]
    (found,) = kinds(build_network("vgg_small", METHODS["proposed"], width=0.125).eval(), x)
    assert found == [PACK, BITS, BITS, BITS, BITS, SUMS, FINISH, POOL, FINISH]


class Unit(nn.Module):
    """A skip over a convolution, in one of many ways."""

    def __init__(self, how, channels=6):
        super().__init__()
        self.how, self.conv = how, binary(channels, channels)
        self.scale, self.norm, self.clip = ScaleDropout(channels, 0.5, bias=True), nn.BatchNorm2d(channels), Clip()
        self.other = nn.Sequential(ScaleDropout(channels, 0.5), nn.BatchNorm2d(channels))
        self.relu, self.next = nn.ReLU(inplace=True), binary(channels, 2 * channels)

    def forward(self, x):
        return self.next(getattr(self, self.how)(x, self.conv(x))).mean((2, 3))

    def behind(self, x, y):
        return self.clip(torch.add(*align(self.norm(self.scale(y)), x)))

    def in_front(self, x, y):
        return self.clip(torch.add(*align(x, self.norm(self.scale(y)))))

    def operator(self, x, y):
        return self.clip(self.norm(self.scale(y)) + x)

    def in_place(self, x, y):
        y = self.norm(self.scale(y))
        y += x
        return self.relu(y)

    def both_draw(self, x, y):
        return self.clip(self.norm(self.scale(y)) + self.other(x))

    def unscaled(self, x, y):
        return self.clip(y + x)

    def one_row(self, x, y):
        return self.clip(self.norm(self.scale(y)) + x.new_ones(1, 6, 8, 8))

    def weighted(self, x, y):
        return self.clip(torch.add(self.norm(self.scale(y)), x, alpha=2))

    def three(self, x, y):
        return self.norm(self.norm(self.scale(y))) + x

    def itself(self, x, y):
        y = self.norm(self.scale(y))
        return self.clip(y + y) + x

    def late(self, x, y):
        y = self.scale(y)
        z = self.other(x) + 1
        return self.clip(self.norm(y) + z * x)

    def clipped_first(self, x, y):
        return self.clip(self.norm(self.scale(y))) + x

    def strided(self, x, y):
        return self.clip(self.norm(self.scale(y)) + x.transpose(2, 3))


HOWS = [name for name, value in vars(Unit).items() if callable(value) and name not in ("__init__", "forward")]


@pytest.mark.parametrize("execution", ["loop", "folded", "shared", "exact"])
@pytest.mark.parametrize("how", HOWS)
def test_skips(how, execution):
    net = lived_in(nn.Sequential(nn.Conv2d(3, 6, 1), Unit(how), nn.Flatten()))
    assert agree(net, torch.randn(3, 3, 8, 8), execution)


class Flattened(nn.Sequential):
    """As many write it: the number of rows by hand."""

    def forward(self, x):
        y = super().forward(x)
        return y.view(y.size(0), -1)


@pytest.mark.parametrize("execution", ["loop", "folded", "shared", "exact"])
@pytest.mark.parametrize("rows", [1, 2, 5])
def test_rows_by_hand(execution, rows):
    net = lived_in(Flattened(binary(3, 9), ScaleDropout(9, 0.5), nn.BatchNorm2d(9), Clip(), binary(9, 2)))
    assert agree(net, torch.randn(rows, 3, 6, 6), execution)


class Even(nn.Sequential):
    """Takes one input, or an even number."""

    def forward(self, x):
        if len(x) % 2 and len(x) > 1:
            raise LookupError(f"{len(x)} inputs")
        return super().forward(x)


def test_a_network_that_does_not_take_three_rows_runs_as_it_is():
    net, x = lived_in(Even(binary(3, 9), nn.BatchNorm2d(9), binary(9, 2), nn.Flatten())), torch.randn(4, 3, 6, 6)
    ours, floats = (PosteriorPredictive(net, 1, backend=backend) for backend in ("bits", "torch"))
    assert torch.equal(ours(x).logits, floats(x).logits)
    assert list(ours._multiplier.recorded.values()) == [None]
    with pytest.raises(LookupError, match="5 inputs"):
        ours(torch.randn(5, 3, 6, 6))


def test_recordings_of_some_sizes_are_kept():
    net = lived_in(nn.Sequential(binary(3, 9), nn.BatchNorm2d(9), binary(9, 2), nn.AdaptiveAvgPool2d(1), nn.Flatten()))
    ours, floats = (PosteriorPredictive(net, 1, backend=backend) for backend in ("bits", "torch"))
    for side in (*range(4, 24), 4):
        x = torch.randn(2, 3, side, 5)
        assert torch.equal(ours(x).logits, floats(x).logits)
    assert len(ours._multiplier.recorded) <= 16


def test_numbers_that_are_negated_later():
    """A view of PyTorch's, whose memory holds the others; after one that is none."""
    net, x = (
        lived_in(nn.Sequential(binary(3, 9), nn.BatchNorm2d(9), binary(9, 2), nn.Flatten())),
        torch.randn(2, 3, 6, 6),
    )
    ours, floats = (PosteriorPredictive(net, 1, backend=backend) for backend in ("bits", "torch"))
    assert torch.equal(ours(x).logits, floats(x).logits)
    assert torch.equal(ours(torch._neg_view(x)).logits, floats(-x).logits)


@pytest.mark.parametrize(
    ("between", "kind"),
    [([nn.AvgPool2d(2)], POOL), ([nn.MaxPool2d(3), nn.ReLU6()], POOL), ([PadShortcut(4, 2)], SUBSAMPLE),
     ([nn.ReLU()], FINISH), ([nn.Hardtanh(-2, 3)], FINISH), ([nn.AvgPool2d(3, 2)], None), ([nn.Softplus()], None)],
    ids=["mean", "largest", "shortcut", "relu", "clip", "overlapping", "softplus"],
)  # fmt: skip
def test_what_else_is_computed(between, kind):
    x = torch.randn(3, 3, 9, 9)
    between = [*between, nn.Conv2d(10 if kind == SUBSAMPLE else 6, 6, 1)]
    net = lived_in(nn.Sequential(binary(3, 6), nn.BatchNorm2d(6), *between, binary(6, 2), nn.Flatten()))
    found = [each for routine in kinds(net, x) for each in routine]
    assert kind is None or kind in found[2:-2]
    assert agree(net, x, "loop")


def test_which_modules():
    norm, scale = nn.BatchNorm2d(3).eval(), ScaleDropout(3, 0.5).eval()
    assert multiplies_and_adds(norm)
    assert multiplies_and_adds(scale)
    assert not multiplies_and_adds(nn.BatchNorm2d(3).eval().double())
    assert not multiplies_and_adds(ScaleDropout(3, 0.5).eval().bfloat16())
    assert not multiplies_and_adds(nn.BatchNorm2d(3))
    assert not multiplies_and_adds(ScaleDropout(3, 0.5))
    assert not multiplies_and_adds(nn.BatchNorm2d(3, track_running_stats=False).eval())
    assert not multiplies_and_adds(type("Own", (nn.BatchNorm2d,), {})(3).eval())
    assert not multiplies_and_adds(ScaleDropout(3, 0.5, mask="element").eval())
    assert not multiplies_and_adds(ScaleDropout(3, 0.5, drop_value="random").eval())


class Shifted(StochasticLayer):
    """A number is added, another one in each pass."""

    channelwise, uniform_shape, random_bits = True, (1, 1), 24

    def from_uniform(self, uniform):
        return 40 * uniform.float()

    def forward(self, x):
        draws = self.active_draws(x)
        return x if draws is None else x + draws.view(-1, 1, 1, 1)


@pytest.mark.parametrize("execution", ["loop", "shared", "folded"])
def test_more_draws_than_tables(execution):
    """Such a layer runs by itself."""
    net = lived_in(nn.Sequential(binary(3, 9), Shifted(), nn.BatchNorm2d(9), binary(9, 2), nn.Flatten()))
    x = torch.randn(2, 3, 6, 6)
    for samples in (5, 40):
        ours, floats = (PosteriorPredictive(net, samples, execution=execution, backend=b) for b in ("bits", "torch"))
        assert torch.equal(ours(x).logits, floats(x).logits)
        assert len(ours(x).logits.unique(dim=0)) > 3


def test_cases_are_found_once():
    seen = []
    layer = ScaleDropout(3, 0.5, bias=True)

    def find(draw):
        seen.append(draw)
        value = -1.0 if draw is None else float(draw)
        return Cases(torch.full((1, 3), value), None)

    cases = DrawnCases(layer, find, find(None))
    seen.clear()
    threads = [threading.Thread(target=lambda: [cases.case(draw) for draw in (None, 0.0, 1.0)]) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(seen) == 3
    assert [cases.first[cases.case(draw), 0].item() for draw in (None, 0.0, 1.0)] == [-1, 0, 1]
    for number in range(2, 15):
        cases.case(float(number))
    with pytest.raises(OverflowError, match="more than 16 different draws of ScaleDropout"):
        cases.case(0.5)


def test_predictions_of_many_threads():
    """Of one posterior at once: workspaces are each thread's own."""
    net = lived_in(build_network("resnet20", METHODS["proposed"], width=0.25))
    posterior = PosteriorPredictive(net, 3, execution="shared", backend="bits")
    inputs = [torch.randn(2, 3, 32, 32) for _ in range(3)]
    recorded = Recorded(net, inputs[0])
    expected, found = [], {}
    with torch.no_grad():
        expected = [recorded(x) for x in inputs]

        def run(number):
            with torch.no_grad():
                found[number] = [recorded(inputs[number]) for _ in range(20)]

        threads = [threading.Thread(target=run, args=(number,)) for number in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert all(torch.equal(made, expected[number]) for number, several in found.items() for made in several)
    assert posterior(inputs[0]).num_samples == 3


def test_a_posterior_is_copied_without_what_it_has_recorded():
    net, x = lived_in(build_network("resnet20", METHODS["proposed"], width=0.125)), torch.randn(2, 3, 32, 32)
    posterior = PosteriorPredictive(net, 3, execution="shared", backend="bits")
    expected = posterior(x).logits
    for other in (copy.deepcopy(posterior), pickle.loads(pickle.dumps(posterior))):
        assert torch.equal(other(x).logits, expected)


def test_a_recording_follows_weights_and_not_attributes():
    net, x = lived_in(nn.Sequential(binary(3, 6), nn.BatchNorm2d(6), Clip(), binary(6, 2))), torch.randn(2, 3, 8, 8)
    recorded = Recorded(net, x)
    before = [step for step in recorded._steps if isinstance(step, RoutineStep)]
    assert recorded.of_now()
    assert recorded.routines == before
    net[1].running_mean += 1
    assert recorded.of_now()
    assert recorded.routines != before
    with torch.no_grad():
        assert torch.equal(recorded(x), net(x))
    net[2].max_val = 0.5
    assert not recorded.of_now()

"""Prefix sharing: T passes for less, equal to the loop, at the work that the prefix tree predicts."""

import operator
import subprocess
import sys
from collections import defaultdict

import pytest
import torch
import torchvision
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

import fakes.networks
from fakes.networks import as_trained
from hardware.workload import trace_workload
from lit_scaledrop.layers import MCDropout, ScaleDropout, align, stochastic_layers
from lit_scaledrop.layers.prefix import PrefixTree, sharing
from lit_scaledrop.methods.classification import METHODS
from lit_scaledrop.networks import NETWORKS
from lit_scaledrop.networks.convert import convert
from lit_scaledrop.posterior import draw_plan
from lit_scaledrop.posterior.execution import trace
from lit_scaledrop.posterior.posterior import PosteriorPredictive

SCALE = [name for name, method in METHODS.items() if method.scale]
BAYESIAN = [name for name, method in METHODS.items() if method.stochastic]


def network_of(network, method, width=0.1, **scale):
    return fakes.networks.network_of(network, method, width, **scale)


def assert_equal(ours, expected):
    assert ours.shape == expected.shape
    assert (ours - expected).abs().max() <= 1e-5 * expected.abs().max()


def assert_shared_is_loop(net, x, samples, seed=0):
    loop = PosteriorPredictive(net, samples, seed, "loop")(x).logits
    assert_equal(PosteriorPredictive(net, samples, seed, "shared")(x).logits, loop)
    return loop


# of all methods on the smallest network, and of one on the others; `for_every_method` has every pair
@pytest.mark.parametrize("placement", ["before_norm", "after_norm"])
@pytest.mark.parametrize("drop_value", ["unitary", "average", "random"])
@pytest.mark.parametrize(
    ("network", "method"), [("lenet5", m) for m in SCALE] + [(n, "proposed") for n in NETWORKS if n != "lenet5"]
)
def test_shared_is_the_loop_for_every_topology_and_scale(network, method, drop_value, placement):
    net = network_of(network, method, drop_value=drop_value, placement=placement)
    loop = assert_shared_is_loop(net, torch.randn(2, 3, 32, 32), 7)
    assert loop.std(0).max() > 0


@pytest.mark.parametrize("method", BAYESIAN)
@pytest.mark.parametrize("network", NETWORKS)
def test_shared_is_the_loop_for_every_method(network, method):
    assert_shared_is_loop(network_of(network, method), torch.randn(3, 3, 32, 32), 5, seed=1)


def test_shared_is_the_loop_for_element_masks():
    assert_shared_is_loop(network_of("resnet18", "proposed", mask="element"), torch.randn(2, 3, 32, 32), 4)


class Skips(nn.Module):
    """Layers that take a sum or a concatenation of what any earlier ones gave, as in U-Net and DenseNet."""

    def __init__(self, sources, joins, p, mask, drop_value):
        super().__init__()
        self.sources, self.joins = sources, joins
        layers = []
        for source, join in zip(sources, joins, strict=True):
            layers.append(nn.Linear(4 * (len(source) if join == "cat" else 1), 4))
        self.layers = nn.ModuleList(layers)
        kinds = {"p": p, "mask": mask, "drop_value": drop_value}
        self.scales = nn.ModuleList(ScaleDropout(4, **kinds) for _ in sources)
        self.last = MCDropout(4, 0.3)

    def forward(self, x):
        values = [x]
        for source, join, layer, scale in zip(self.sources, self.joins, self.layers, self.scales, strict=True):
            picked = align(*[values[index] for index in source])
            values.append(torch.tanh(scale(layer(torch.cat(picked, 1) if join == "cat" else sum(picked)))))
        return self.last(values[-1])


@st.composite
def skip_networks(draw):
    depth = draw(st.integers(1, 6))
    sources = [draw(st.lists(st.integers(0, i), min_size=1, max_size=3)) for i in range(depth)]
    joins = [draw(st.sampled_from(["cat", "add"])) for _ in range(depth)]
    p, mask = draw(st.sampled_from([0.0, 0.1, 0.5, 1.0])), draw(st.sampled_from(["vector", "element"]))
    return sources, joins, p, mask, draw(st.sampled_from(["unitary", "average", "random"]))


@settings(max_examples=60, derandomize=True)
@given(skips=skip_networks(), samples=st.integers(1, 12), seed=st.integers(0, 99), batch=st.integers(1, 5))
def test_shared_is_the_loop_for_any_skips(skips, samples, seed, batch):
    net = as_trained(Skips(*skips), seed=seed)
    assert_shared_is_loop(net, torch.randn(batch, 4), samples, seed)


@settings(max_examples=10, derandomize=True)
@given(
    network=st.sampled_from(sorted(NETWORKS)),
    samples=st.integers(1, 9),
    seed=st.integers(0, 99),
    p=st.floats(0, 1),
    batch=st.integers(1, 3),
)
def test_shared_is_the_loop_for_any_plan(network, samples, seed, p, batch):
    assert_shared_is_loop(network_of(network, "proposed", p=p), torch.randn(batch, 3, 32, 32), samples, seed)


def rows_of_layers(net, run):
    rows = defaultdict(int)
    layers = {name: m for name, m in net.named_modules() if isinstance(m, nn.Conv2d | nn.Linear)}
    hooks = [
        layer.register_forward_hook(lambda m, i, o, name=name: rows.update({name: rows[name] + len(o)}))
        for name, layer in layers.items()
    ]
    run()
    for hook in hooks:
        hook.remove()
    return dict(rows)


@pytest.mark.parametrize(
    ("network", "method"),
    [("lenet5", m) for m in BAYESIAN] + [(n, m) for n in NETWORKS if n != "lenet5" for m in ("proposed", "spinbayes")],
)
def test_work_is_the_prefix_trees(network, method):
    net, x = network_of(network, method), torch.randn(3, 3, 32, 32)
    posterior = PosteriorPredictive(net, 20, execution="shared")
    posterior(x)
    rows = rows_of_layers(net, lambda: posterior(x))
    # an independent count: the distinct prefixes of what each sample has drawn in front of a layer
    prefixes, expected, waiting = [()] * posterior.plans[0].samples, {}, dict(posterior.plans[0].draws)
    for name, _ in net.named_modules():
        # a convolution may draw itself, its weights or its inputs: then it works on what has been drawn
        for layer in [layer for layer in waiting if layer == name or (name in rows and layer.startswith(f"{name}."))]:
            draws = waiting.pop(layer).flatten(1).tolist()
            prefixes = [(*prefix, tuple(draw)) for prefix, draw in zip(prefixes, draws, strict=True)]
        if name in rows:
            expected[name] = 3 * len(set(prefixes))
    assert rows == expected
    mac = {layer.name: layer.mac for layer in trace_workload(net, (3, 32, 32))}
    work = sum(rows[name] / 3 * mac[name] for name in rows) / sum(mac.values())
    assert posterior.passes(x) == pytest.approx(work)


def test_a_kept_scale_is_shared_whatever_its_drop_value():
    net = network_of("lenet5", "proposed", p=0.0, drop_value="random")
    assert PrefixTree(net, draw_plan(net, 9)).groups(list(stochastic_layers(net))) == [1, 1, 1, 1]


def test_mc_dropout_shares_all_in_front_of_it():
    net, x = network_of("vgg_small", "mc_dropout_htanh"), torch.randn(3, 3, 32, 32)
    posterior = PosteriorPredictive(net, 10, execution="shared")
    posterior(x)
    rows = rows_of_layers(net, lambda: posterior(x))
    assert rows.pop("classifier") == 30
    assert set(rows.values()) == {3}


@settings(max_examples=20, derandomize=True)
@given(budget=st.integers(1, 40), batch=st.integers(1, 20), execution=st.sampled_from(["shared", "folded"]))
def test_row_budget_bounds_every_layer(budget, batch, execution):
    net, x = network_of("lenet5", "proposed", p=0.5), torch.randn(batch, 3, 32, 32)
    posterior = PosteriorPredictive(net, 8, execution=execution, row_budget=budget)
    posterior(x[:1])
    sizes, largest = [], max(segment.width for segment in trace(net, x[:1]))
    layers = [m for name, m in net.named_modules() if not name.endswith("weight_estimator")]
    hooks = [m.register_forward_hook(lambda m, i, o: sizes.append(o.numel())) for m in layers]
    logits = posterior(x).logits
    for hook in hooks:
        hook.remove()
    # a single input is never cut
    one = PosteriorPredictive(net, 8, execution=execution)
    least = 8 if execution == "folded" else 2
    assert max(sizes) <= max(budget, least) * largest
    assert_equal(logits, one(x).logits)


def test_widths_are_those_of_inputs_not_of_weights():
    # the 64 x 64 x 3 x 3 weights of the last stage are larger than any output for one image
    segments = trace(network_of("resnet20", "proposed", width=1.0), torch.randn(1, 3, 32, 32))
    assert [segment.width for segment in segments] == [16 * 32 * 32] * 7 + [32 * 16 * 16] * 6 + [64 * 8 * 8] * 6


def test_batches_keep_their_order_and_empty_ones_their_shape():
    net, x = network_of("lenet5", "proposed"), torch.randn(11, 3, 32, 32)
    posterior = PosteriorPredictive(net, 6, execution="shared", row_budget=4)
    assert_equal(torch.cat([posterior(x[:4]).logits, posterior(x[4:]).logits], 1), posterior(x).logits)
    assert posterior(x[:0]).logits.shape == (6, 0, 10)


class Skip(nn.Module):
    """A skip connection that knows nothing of :func:`align`."""

    def __init__(self, meet):
        super().__init__()
        self.meet, self.linear, self.scale = meet, nn.Linear(4, 4), ScaleDropout(4, 0.5)

    def forward(self, x):
        return self.meet(x, self.scale(self.linear(x)))


def in_place(method):
    return lambda x, y: getattr(x.clone(), method)(y)


MEETINGS = {
    "+": lambda x, y: x + y,
    "reversed": lambda x, y: y - x,
    "in place into the finer": lambda x, y: in_place("add_")(y, x),
    "+=": lambda x, y: operator.iadd(x.clone(), y),
    "*=": lambda x, y: operator.imul(x.clone(), y),
    "in place into the coarser": in_place("mul_"),
    "function": lambda x, y: torch.div(x, 2 + y.abs()),
    "alpha": lambda x, y: torch.add(x, y, alpha=3),
    "maximum": torch.maximum,
    "cat": lambda x, y: torch.cat([x, y, x[:, :1]], 1),
    "cat by name": lambda x, y: torch.cat((y, x), dim=-1),
}


@pytest.mark.parametrize("meeting", MEETINGS)
@pytest.mark.parametrize("batch", [1, 3])
def test_branches_that_meet_are_aligned_where_they_do(meeting, batch):
    first, second = as_trained(Skip(MEETINGS[meeting]), seed=0), as_trained(Skip(torch.add), seed=1)
    net = nn.Sequential(first, nn.LazyLinear(4), second)
    x = torch.randn(batch, 4)
    net(x)
    assert_shared_is_loop(net, x, 9)


# blocks and transitions, or strides and expansions, as in densenet121 and mobilenet_v2, each once or twice
TORCHVISION = {
    "resnet18": lambda: torchvision.models.resnet18(num_classes=4),
    "densenet": lambda: torchvision.models.DenseNet(8, (2, 2, 1), 16, num_classes=4),
    "mobilenet_v2": lambda: torchvision.models.MobileNetV2(
        4, 0.25, [[1, 16, 1, 1], [6, 24, 2, 2], [6, 32, 2, 2], [6, 64, 1, 1]]
    ),
}


@pytest.mark.parametrize("name", TORCHVISION)
def test_converted_networks_of_torchvision_share_their_prefixes(name):
    torch.manual_seed(0)
    net = as_trained(convert(TORCHVISION[name](), input_shape=(3, 32, 32)).network)
    x = torch.randn(2, 3, 32, 32)
    assert_shared_is_loop(net, x, 4)
    posterior = PosteriorPredictive(net, 20, execution="auto")
    posterior(x)
    assert posterior.choice == "shared"


def test_a_missing_align_is_an_error_and_auto_takes_the_loop():
    net = as_trained(Skip(lambda x, y: torch.lerp(x, y, 0.5)), seed=0)
    with pytest.raises(RuntimeError):
        PosteriorPredictive(net, 9, execution="shared")(torch.randn(3, 4))
    posterior = PosteriorPredictive(net, 9, execution="auto", row_budget=8)
    logits = posterior(torch.randn(3, 4)).logits
    assert (posterior.choice, len(logits)) == ("loop", 9)
    assert "cannot share prefixes" in posterior.reason
    assert "align()" in posterior.reason


def test_rows_that_are_no_copies_of_the_batch_are_refused():
    net = nn.Sequential(nn.Flatten(0, 1), nn.Linear(4, 4), ScaleDropout(4, 0.5))
    tree = PrefixTree(net, draw_plan(net, 9))
    with sharing(net, tree, 2), pytest.raises(ValueError, match="no partition of 3 groups"):
        net(torch.randn(2, 3, 4))
    with sharing(net, tree, 4), pytest.raises(ValueError, match="whole copies"):
        net(torch.randn(2, 3, 4))
    assert stochastic_layers(net)["2"]._planned is None
    assert not stochastic_layers(net)["2"]._forward_pre_hooks
    assert align(torch.zeros(2), torch.zeros(3))[1].shape == (3,)


def test_plan_of_another_network_is_refused():
    plan = draw_plan(network_of("lenet5", "proposed"), 2)
    with pytest.raises(ValueError, match="another network"):
        PrefixTree(network_of("resnet20", "proposed"), plan)


def test_compiled_networks_share_eagerly():
    """In a process of its own: jaxtyping's checks, which only tests have, break graphs."""
    program = """
import torch
from lit_scaledrop.methods import METHODS
from lit_scaledrop.networks import build_network
from lit_scaledrop.posterior import PosteriorPredictive
torch.manual_seed(0)
net = build_network("lenet5", METHODS["proposed"], in_channels=1, width=0.5).eval()
x = torch.randn(4, 1, 32, 32)
expected = PosteriorPredictive(net, 6)(x).logits
net.compile(backend="eager", fullgraph=True)
net(x)
before = torch._dynamo.utils.counters["stats"]["unique_graphs"]
for execution in ("shared", "exact", "loop"):
    logits = PosteriorPredictive(net, 6, execution=execution)(x).logits
    if execution != "exact":
        torch.testing.assert_close(logits, expected, rtol=1e-5, atol=1e-5)
    if execution != "loop":
        assert torch._dynamo.utils.counters["stats"]["unique_graphs"] == before
assert torch._dynamo.utils.counters["stats"]["unique_graphs"] > before
"""
    subprocess.run([sys.executable, "-W", "ignore", "-c", program], check=True, timeout=900)

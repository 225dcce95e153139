"""The benchmarks compare like with like."""

import time

import pytest
import torch

from benchmarks.measure import interleaved, peak_megabytes, table
from benchmarks.schemes import errors
from benchmarks.training import our_loss, plain_like
from lit_scaledrop.layers import ScaleDropout
from lit_scaledrop.methods import METHODS
from lit_scaledrop.networks import build_network


@pytest.mark.parametrize("p", [0.0, 1.0])
@pytest.mark.parametrize("network", ["resnet18", "resnet20"])
def test_the_plain_network_trains_as_ours(network, p):
    torch.manual_seed(0)
    ours = build_network(network, METHODS["proposed"].with_scale(p=p), width=0.125).train()
    for module in ours.modules():
        if isinstance(module, ScaleDropout):
            module.scale.data.uniform_(0.5, 1.5)
    plain = plain_like(ours, network, 0.125).train()
    for convolution, module in zip(
        plain.convs, (m for m in ours.modules() if isinstance(m, ScaleDropout)), strict=True
    ):
        convolution.scale.data.copy_(module.scale)
    x, target = torch.randn(4, 3, 32, 32), torch.arange(4)
    losses = our_loss(ours, x, target), plain.loss(x, target, 1e-2, 5e-5)
    torch.testing.assert_close(*losses)
    for loss in losses:
        loss.backward()
    grads = [
        [q.grad for name, q in net.named_parameters() if not name.endswith(("scale.scale", ".scale"))]
        for net in (ours, plain)
    ]
    for a, b in zip(*grads, strict=True):
        assert (a - b).norm() <= 1e-3 * b.norm() + 1e-6
    assert plain.eval()(x).shape == (4, 10)


def test_interleaved_medians():
    seconds = interleaved({"short": lambda: time.sleep(0.001), "long": lambda: time.sleep(0.02)}, repeats=3)
    assert 0.001 <= seconds["short"] < 0.02 <= seconds["long"]


def allocate(megabytes):
    return lambda: torch.ones(megabytes * 250_000)


def test_peak_memory_is_that_of_the_run():
    peak = peak_megabytes(allocate, 200)
    if peak is None:
        pytest.skip("this system does not tell a process's peak memory")
    assert 190 < peak < 260


def test_errors_of_plans_shrink():
    torch.manual_seed(0)
    network = build_network("lenet5", METHODS["proposed"], in_channels=1, width=0.5)
    for module in network.modules():
        if isinstance(module, ScaleDropout):
            module.scale.data.uniform_(0.2, 1.8)
    rows, work, leaves = errors(network.eval(), torch.randn(4, 1, 32, 32), [4, 40], 20)
    error = {(scheme, samples): value for scheme, samples, value, _ in rows}
    assert leaves == 8
    assert 1 < work < 8
    assert 0 < error["iid", 40] < error["iid", 4]
    assert error["systematic", 40] < error["iid", 40] / 2
    assert table(["a"], rows[:1]).startswith("| a |\n|---|\n| iid | 4 | 0.0")

"""Trained networks on 1,000 real images: bits give the sums of every layer, the logits and the decisions of floats."""

import copy

import pytest
import torch
from torch.nn import functional as F

from datamodules import CIFAR10DataModule, MNISTDataModule
from fakes.real import REAL, needs
from lit_scaledrop import from_pretrained
from lit_scaledrop.layers import BinaryConv2d, BinaryLinear, bitwise
from lit_scaledrop.layers.bits import available
from lit_scaledrop.methods.classification import METHODS
from lit_scaledrop.networks import build_network
from lit_scaledrop.posterior.posterior import PosteriorPredictive

pytestmark = [
    pytest.mark.data,
    pytest.mark.slow,
    pytest.mark.skipif(not available(), reason="no C compiler: there are no kernels"),
]
IMAGES, PART = 1000, 250


def data_of(network):
    needs("MNIST" if network == "lenet5" else "cifar-10-batches-py")
    data = (MNISTDataModule if network == "lenet5" else CIFAR10DataModule)(root=str(REAL))
    data.setup("test")
    return data


def trained(network, data):
    """What comes with the package; else a narrow one after some steps on real images."""
    if network in ("lenet5", "resnet20"):
        return from_pretrained(f"{network}-proposed").network
    torch.manual_seed(0)
    net = build_network(network, METHODS["proposed"], width=0.25).train()
    optimizer = torch.optim.Adam(net.parameters(), lr=3e-3)
    data.setup("fit")
    for start in range(0, 1500, 50):
        images, labels = data.train_set.images[start : start + 50], data.train_set.labels[start : start + 50]
        loss = F.cross_entropy(net(data.normalized(images)), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return net.eval()


def sums(net, x, monkeypatch, bits):
    """Of each binary layer in the order of its work, in one deterministic pass, layer by layer."""
    found = []
    with monkeypatch.context() as patch, torch.no_grad():
        if bits:
            true = bitwise.conv2d
            patch.setattr(bitwise, "conv2d", lambda *a: found.append(true(*a)) or found[-1])
            with bitwise.bitwise(True):
                net(x)
        else:
            hooked = copy.deepcopy(net)
            for module in hooked.modules():
                if isinstance(module, BinaryConv2d | BinaryLinear):
                    module.register_forward_hook(lambda *a: found.append(a[-1]))
            hooked(x)
    return found


@pytest.mark.parametrize("network", ["lenet5", "resnet20", "resnet18", "vgg_small"])
def test_equal_on_real_images(network, monkeypatch):
    data = data_of(network)
    net, x = trained(network, data), data.normalized(data.test_set.images[:IMAGES])
    for part in x.split(PART):
        floats, bits = (sums(net, part, monkeypatch, on) for on in (False, True))
        assert len(floats) == len(bits) == sum(isinstance(m, BinaryConv2d | BinaryLinear) for m in net.modules())
        assert all(torch.equal(a.flatten(1), b.flatten(1)) for a, b in zip(floats, bits, strict=True))
    for execution in ("loop", "shared"):
        floats, bits = (PosteriorPredictive(net, 4, execution=execution, backend=name) for name in ("torch", "bits"))
        assert torch.equal(bits(x).logits, floats(x).logits)
        (recorded,) = bits._multiplier.recorded.values()
        assert recorded.routines  # in which only signs count between most layers

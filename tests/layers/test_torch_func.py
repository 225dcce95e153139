"""Binary layers under ``torch.func``: gradients, also of single examples, are those of ``backward``."""

import pytest
import torch
from torch import nn
from torch.func import functional_call, grad, vmap

from lit_scaledrop.layers import PACT
from lit_scaledrop.layers.activations import Clip
from lit_scaledrop.layers.quantizers import BINARIZATIONS
from lit_scaledrop.methods.classification import METHODS
from lit_scaledrop.methods.method import Method

METHOD_OF = {
    METHODS[name].estimator: METHODS[name] for name in ("bnn", "xnor", "dorefa", "dsq", "lab", "recu", "irnet")
}
METHOD_OF["ste"] = Method("STE", "", bits_w=1, bits_a=1, estimator="ste")
METHOD_OF["ede_poly"] = METHODS["proposed_open"]
ACTIVATIONS = {"clip": Clip, "pact": lambda: PACT(4)}


def loss_of(network):
    def loss(parameters, x):
        return functional_call(network, parameters, (x,)).square().sum()

    return loss


def backward(network, x):
    network.zero_grad()
    network(x).square().sum().backward()
    return {name: p.grad for name, p in network.named_parameters()}


@pytest.mark.parametrize("kind", [*METHOD_OF, *ACTIVATIONS])
def test_gradients_of_functions_are_those_of_backward(kind):
    torch.manual_seed(0)
    middle = ACTIVATIONS[kind]() if kind in ACTIVATIONS else METHOD_OF[kind].linear_layer(5, 4)
    network = nn.Sequential(nn.Linear(6, 5), middle)
    x = torch.randn(7, 6)
    parameters = {name: p.detach() for name, p in network.named_parameters()}
    found = grad(loss_of(network))(parameters, x)
    expected = backward(network, x)
    assert expected["0.weight"].abs().max() > 0
    for name, gradient in expected.items():
        torch.testing.assert_close(found[name], gradient)
    if kind == "recu":
        network.eval()  # in training an example is divided by its deviation, over all but dimension 0
    each = vmap(grad(loss_of(network)), in_dims=(None, 0))(parameters, x[:, None])
    for index in range(len(x)):
        for name, gradient in backward(network, x[index : index + 1]).items():
            torch.testing.assert_close(each[name][index], gradient)


def test_every_binarization_is_here():
    assert {*BINARIZATIONS} - {"ede_weights"} == {*METHOD_OF}

"""A pass that is recorded is that of any input, or it is refused; and what changes in a network later is noticed."""

import copy

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from lit_scaledrop.layers.recording import Attributes, UnrecordableError, can_be_parted, record


class Network(nn.Module):
    """Does one of many things between its modules."""

    def __init__(self, how):
        super().__init__()
        torch.manual_seed(0)
        self.how, self.conv, self.norm, self.relu = how, nn.Conv2d(3, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(True)
        self.weight, self.seen, self.count = nn.Parameter(torch.randn(4)), [], 0
        self.two, self.linear = nn.ModuleList([nn.Identity(), nn.Conv2d(4, 4, 1)]), nn.Linear(4, 2)

    def forward(self, x):
        return getattr(self, self.how)(self.conv(x))

    def in_place(self, y):
        z = self.norm(y)
        z += y
        y.mul_(2)
        return self.relu(z) + y

    def function_in_place(self, y):
        z = F.relu(self.norm(y), inplace=True)
        return torch.add(z, y, alpha=2)

    def views(self, y):
        a, b = y.chunk(2, 1)
        z = torch.cat([b, a], 1)
        z[:, 0] = 0
        return z.flatten(2).transpose(1, 2)

    def named(self, y):
        values, _ = torch.max(input=y, dim=1)
        return self.norm(input=y) * values.unsqueeze(1)

    def parameters_between(self, y):
        return y * self.weight.view(1, -1, 1, 1) + self.weight.sum()

    def shapes(self, y):
        if y.dim() == 4 and y.shape[1] == 4 and y.size(-1) > 2 and y.is_floating_point():
            y = y.reshape(-1, *y.shape[1:])
        return y[..., : y.shape[-1] // 2] @ y[..., : y.shape[-1] // 2].transpose(-1, -2)

    def rows_by_hand(self, y):
        y = y.view(y.size(0), -1, 4).reshape((len(y), 6, -1))
        return y.expand(y.shape[0], 6, 32).reshape([y.size(0), 4, 48])

    def twice(self, y):
        for module in self.two:
            y = module(y)
        return self.two[1](y) + self.norm(self.norm(y))

    def ended(self, y):
        return self.linear(y.mean((2, 3)))

    def made(self, y):
        return y + torch.arange(4.0).view(1, 4, 1, 1) + torch.zeros_like(y) + torch.tensor([1.0])

    def numbers(self, y):
        return y if y.mean() > 100 else -y

    def item(self, y):
        return y * y.abs().max().item()

    def as_list(self, y):
        return y * sum(y[0, 0, 0].tolist())

    def array(self, y):
        return torch.from_numpy(y.numpy() * 2)

    def indices(self, y):
        return y[:, [int(i) for i in y[0, :, 0, 0].argsort()]]

    def kept(self, y):
        self.seen.append(y)
        return y

    def counted(self, y):
        self.count += 1
        return y

    def dictionary(self, y):
        return {"logits": y}

    def its_input(self, y):
        return y[:, :0]

    def outside(self, y):
        return torch.ones(3, 4)


FINE = [
    "in_place", "function_in_place", "views", "named", "parameters_between", "shapes", "rows_by_hand", "twice", "ended",
    "made", "its_input", "outside",
]  # fmt: skip
REFUSED = {
    "numbers": "depends on numbers", "item": "depends on numbers", "as_list": "depends on numbers",
    "array": "depends on numbers", "indices": "depends on numbers", "kept": "changes its attributes",
    "counted": "changes its attributes", "dictionary": "its output is no tensor",
}  # fmt: skip


def run(recording, x):
    tensors = [None] * len(recording.shapes)
    tensors[0] = x.clone()
    with torch.no_grad():
        for step in recording.steps:
            step(tensors)
    return tensors[recording.output]


@pytest.mark.parametrize("how", FINE)
@pytest.mark.parametrize("rows", [1, 2, 5])
def test_steps_give_what_the_network_gives(how, rows):
    network, x = Network(how).eval(), torch.randn(rows, 3, 6, 8)
    recording = record(network, torch.randn(1, 3, 6, 8))
    with torch.no_grad():
        assert torch.equal(run(recording, x), network(x.clone()))
        network.weight.data.neg_()
        network.conv.weight.data.neg_()
        assert torch.equal(run(recording, x), network(x.clone()))  # tensors are not copied


@pytest.mark.parametrize("how", REFUSED)
def test_what_is_no_list_of_steps(how):
    with pytest.raises(UnrecordableError, match=REFUSED[how]):
        record(Network(how).eval(), torch.randn(2, 3, 6, 8))


def test_nothing_is_left_in_the_network():
    network = Network("in_place").eval()
    before = copy.deepcopy(network.state_dict())
    record(network, torch.randn(2, 3, 6, 8))
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
    for module in network.modules():
        assert not module._forward_hooks
        assert not module._forward_pre_hooks
        assert "forward" not in vars(module)
    with pytest.raises(RuntimeError, match="expected input"):
        record(network, torch.randn(2, 5, 6, 8))
    assert not any(module._forward_hooks for module in network.modules())


def test_a_number_of_rows_that_is_written_down_shows():
    """In passes of another number of rows, which try the steps."""

    class Fixed(nn.Sequential):
        def forward(self, x):
            return self[0](x).unflatten(0, (x.shape[0], 1)).flatten(1)

    recording = record(Fixed(nn.ReLU()), torch.randn(2, 5, 7))
    assert run(recording, torch.randn(3, 5, 7)).shape == (3, 35)
    with pytest.raises(RuntimeError, match="unflatten"):
        run(recording, torch.randn(2, 5, 7))


def test_weights_that_are_lent():
    class Lent(nn.Module):
        def __init__(self):
            super().__init__()
            self.linear, self.given = nn.Linear(3, 2), {"weight": torch.ones(2, 3), "bias": torch.zeros(2)}

        def forward(self, x):
            return torch.func.functional_call(self.linear, self.given, (x,))

    with pytest.raises(UnrecordableError, match="lends its modules other weights"):
        record(Lent().eval(), torch.randn(2, 3))


def change_places(held, first, second):
    held[first], held[second] = held[second], held[first]


CHANGES = {
    "attribute": lambda network: setattr(network, "how", "views"),
    "new attribute": lambda network: setattr(network, "more", 1),
    "of a module": lambda network: setattr(network.norm, "eps", 0.1),
    "list": lambda network: network.seen.append(1),
    "module": lambda network: setattr(network, "relu", nn.ReLU()),
    "no module": lambda network: delattr(network, "relu"),
    "modules change places": lambda network: change_places(network._modules, "conv", "norm"),
    "module within": lambda network: network.relu.add_module("more", nn.ReLU()),
    "parameter": lambda network: setattr(network.conv, "bias", None),
    "buffer": lambda network: setattr(network.norm, "running_mean", torch.zeros(4)),
    "first buffer": lambda network: network.relu.register_buffer("more", torch.zeros(4)),
    "mode": lambda network: network.norm.train(),
}


@pytest.mark.parametrize("change", CHANGES)
def test_changes_are_noticed(change):
    network = Network("in_place").eval()
    attributes = Attributes(network)
    network(torch.randn(1, 3, 6, 8))
    network.conv.weight.data.neg_()
    assert attributes.same()
    CHANGES[change](network)
    assert not attributes.same()


def test_compiled_modules_are_left_alone():
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU()).eval()
    assert can_be_parted(network)
    network[1].compile()
    assert not can_be_parted(network)
    with pytest.raises(UnrecordableError, match="compiled"):
        record(network, torch.randn(1, 3, 6, 8))

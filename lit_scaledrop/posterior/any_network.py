"""Users' networks: their dropout under a mask plan, and the logits in their outputs."""

import warnings
from collections.abc import Callable, Mapping
from dataclasses import fields, is_dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.dropout import _DropoutNd

from lit_scaledrop.layers.stochastic import MaskPlan, stochastic_layers
from lit_scaledrop.layers.torch_dropout import Dropouts, PlannedDropout, find_places, place_name

Output = Callable[[Any], Tensor] | str | int
"""Which part of what a network returns its logits are: a key, a place, or a function of it."""
LOGITS = ("logits", "out")
"""Keys that logits have in what transformers' and torchvision's networks return."""
INPUTS = ("image", "images", "input", "inputs", "x", "pixel_values")
"""Keys that inputs have in batches that are dicts."""


class AnyNetwork(nn.Module):
    """A network whose dropout is planned and whose output are logits of two classes or more.

    Args:
        network: any network.
        places: its calls of dropout, see :func:`lit_scaledrop.layers.torch_dropout.find_places`.
        output: which part of its output the logits are, where that is not plain.
        sigmoid: whether it has one logit.
    """

    def __init__(
        self,
        network: nn.Module,
        places: dict[str, PlannedDropout],
        output: Output | None = None,
        sigmoid: bool = False,
    ) -> None:
        super().__init__()
        self.network, self.output, self.sigmoid = network, output, sigmoid
        self.dropout = Dropouts(places)
        self.train(network.training)

    def forward(self, x: Tensor) -> Tensor:
        """Logits, of a network with one logit z those of two classes, 0 and z: a sigmoid is their softmax."""
        given = self.dropout.run(self.network, x) if len(self.dropout) else self.network(x)
        logits = logits_in(given, self.output)
        return two_classes(logits) if self.sigmoid else logits


def adapted(network: nn.Module, x: Tensor, samples: int, sample_dropout: bool, output: Output | None) -> nn.Module:
    """The network itself where its output are logits and no call of PyTorch's dropout is in it, else one around it.

    Args:
        network: any network.
        x: inputs, of which the first is looked at.
        samples: passes that were asked for.
        sample_dropout: whether PyTorch's dropout is sampled, or off.
        output: which part of the output the logits are.

    Raises:
        ValueError: something in the network is random that no plan can hold, or its logits are not to be found.
    """
    if output is None and of_the_package(network):
        return network
    places, given, drew = find_places(network, x[:1], sample_dropout)
    if drew:
        raise ValueError(
            "the network draws its own random numbers in evaluation mode, outside of the mask plan: make that layer "
            "a StochasticLayer (lit_scaledrop.layers), or use PyTorch's dropout, which is sampled"
        )
    if sample_dropout:
        _require_reachable(network, set(places), samples)
    logits = logits_in(given, output)
    sigmoid = two_classes(logits) is not logits
    if not places and logits is given and not sigmoid:
        return network
    return AnyNetwork(network, places, output, sigmoid)


def fits(plan: MaskPlan, network: nn.Module) -> bool:
    """Whether a plan has masks for a network, of the sizes that its dropout has."""
    layers = stochastic_layers(network)
    return plan.draws.keys() == layers.keys() and all(
        plan.draws[name].shape[1:] == layer.shape for name, layer in layers.items() if isinstance(layer, PlannedDropout)
    )


def of_the_package(network: nn.Module) -> bool:
    """Whether it is one of our topologies as it was built, which need no run to be known."""
    ours = type(network).__module__.startswith("lit_scaledrop.networks.")
    return ours and not any(isinstance(module, _DropoutNd) for module in network.modules())


def logits_in(given: Any, output: Output | None = None) -> Tensor:
    """The logits in what a network returns.

    Args:
        given: a tensor; a tuple or list that begins with one; a mapping or dataclass with one tensor, or one of the
            names in :data:`LOGITS`.
        output: a key, a place or a function that takes them out.

    Raises:
        ValueError: it is not plain which they are.
    """
    if callable(output):
        found = output(given)
    elif output is not None:
        found = getattr(given, output) if isinstance(output, str) and hasattr(given, output) else given[output]
    elif isinstance(given, list | tuple) and given and not hasattr(given, "_fields"):
        found = given[0]
    else:
        found = _named(given)
    if not isinstance(found, Tensor):
        raise ValueError(
            f"the network returns {kind_of(given)}, in which the logits are ambiguous: select them with output=, a "
            f"key, an index or a function"
        )
    return found


def two_classes(logits: Tensor) -> Tensor:
    """Logits of two classes in place of the one of a sigmoid, ``(batch,)`` or ``(batch, 1, ...)``; others as they are.

    That of a single input may have no dimension, as ``squeeze()`` leaves it.

    >>> two_classes(torch.tensor([[2.0]])).softmax(1)[0, 1] == torch.tensor(2.0).sigmoid()
    tensor(True)
    """
    if logits.dim() < 2:
        logits = logits.reshape(-1, 1)
    if logits.shape[1] != 1:
        return logits
    return torch.cat([torch.zeros_like(logits), logits], 1)


def inputs_in(batch: Any, inputs: str | Callable[[Any], Tensor] | None = None) -> Tensor:
    """The inputs in what a ``DataLoader`` gives.

    Args:
        batch: a tensor; a tuple or list that begins with them; a mapping with one of the keys in :data:`INPUTS`.
        inputs: their key, or a function that takes them out.

    Raises:
        ValueError: it is not plain which they are.
    """
    if callable(inputs):
        return inputs(batch)
    if inputs is not None:
        return batch[inputs]
    if isinstance(batch, Mapping):
        keys = [key for key in INPUTS if key in batch]
        if len(keys) != 1:
            raise ValueError(
                f"a batch is a dict of {', '.join(map(str, batch))}: select the inputs with inputs='KEY', or a function"
            )
        return batch[keys[0]]
    return batch if isinstance(batch, Tensor) else batch[0]


def _named(given: Any) -> Any:
    if isinstance(given, Mapping):
        parts = dict(given)
    elif is_dataclass(given) and not isinstance(given, type):
        parts = {field.name: getattr(given, field.name) for field in fields(given)}
    elif hasattr(given, "_asdict"):
        parts = given._asdict()
    else:
        return given
    named = [parts[name] for name in LOGITS if isinstance(parts.get(name), Tensor)]
    tensors = [part for part in parts.values() if isinstance(part, Tensor)]
    return named[0] if named else tensors[0] if len(tensors) == 1 else None


def kind_of(given: Any) -> str:
    """What something is, with its keys, for a message."""
    names = f" of {', '.join(map(str, given))}" if isinstance(given, Mapping) else ""
    return f"a {type(given).__name__}{names}"


def _require_reachable(network: nn.Module, found: set[str], samples: int) -> None:
    """Refuse dropout inside of PyTorch's fused layers, and name what acts in training only.

    Raises:
        ValueError: naming the layer.
    """
    for name, module in network.named_modules():
        inside = isinstance(module, nn.MultiheadAttention) or (isinstance(module, nn.RNNBase) and module.num_layers > 1)
        if inside and module.dropout > 0:
            raise ValueError(
                f"dropout inside of {name or 'the network'} ({type(module).__name__}) cannot be sampled: set its "
                "`dropout` to 0, or pass sample_dropout=False to sample no dropout of PyTorch at all"
            )
    unsampled = {
        f"{name} ({_class(module)})": isinstance(module, _DropoutNd)
        for name, module in network.named_modules()
        if _drops(module) and place_name(name) not in found
    }
    nothing = not found and not stochastic_layers(network)
    # stochastic depth and dropped blocks regularize; dropout that is not called is missed
    missed = [name for name, dropout in unsampled.items() if dropout or nothing]
    if missed and samples > 1:
        so = f"nothing else is random, so {samples} passes are one" if nothing else "the passes do not sample it"
        warnings.warn(f"{', '.join(missed[:3])} acts in training only: {so}", stacklevel=2)


def _drops(module: nn.Module) -> bool:
    """Whether a module drops something in training: dropout that was not called, stochastic depth, dropped blocks."""
    if isinstance(module, _DropoutNd):
        return module.p > 0
    # a traced module has forgotten its p
    p = getattr(module, "drop_prob", getattr(module, "p", isinstance(module, torch.jit.ScriptModule)))
    named = "drop" in _class(module).lower() or "stochasticdepth" in _class(module).lower()
    return named and not list(module.children()) and isinstance(p, float | int) and p > 0


def _class(module: nn.Module) -> str:
    """Name of a module's class, also where it has been made TorchScript."""
    return getattr(module, "original_name", type(module).__name__)

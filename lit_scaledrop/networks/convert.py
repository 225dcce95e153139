"""Scale-Dropout for networks that are not ours: :func:`convert` makes binary layers of a torchvision or timm model."""

from collections import OrderedDict
from collections.abc import Sequence
from copy import deepcopy
from dataclasses import dataclass
from fnmatch import fnmatchcase

import torch
from torch import Tensor, nn

from lit_scaledrop.layers.binary import BinaryConv2d, BinaryLinear
from lit_scaledrop.layers.ensemble_norm import EnsembleNorm, Norm
from lit_scaledrop.layers.probing import probe
from lit_scaledrop.methods.classification import get_method
from lit_scaledrop.methods.method import Method
from lit_scaledrop.shapes import Float

_RECTIFIERS = (nn.ReLU, nn.ReLU6)


class ChannelBias(nn.Module):
    """Bias behind a scale: the paper's ``z = (x * w) . a + b`` does not scale it.

    Args:
        bias: one number for each channel (dimension 1).

    Shape: ``(batch, channels, ...)`` to the same.
    """

    def __init__(self, bias: Float[Tensor, " channels"]) -> None:
        super().__init__()
        self.bias = nn.Parameter(bias.detach().clone())

    def forward(self, x: Float[Tensor, "batch ..."]) -> Float[Tensor, "batch ..."]:
        """Add."""
        return x + self.bias.reshape(-1, *[1] * (x.dim() - 2))


@dataclass(frozen=True)
class Change:
    """What became of one layer."""

    name: str
    """module name in the model"""
    before: str
    """class that it had"""
    after: str
    """what it is now"""
    why: str
    """why it was changed or left"""


@dataclass(frozen=True)
class Conversion:
    """A converted network, and what was changed and what was left; ``print`` shows the latter as a table."""

    network: nn.Module
    """the copy that has binary layers"""
    changes: tuple[Change, ...]
    """in the order of execution"""

    def __str__(self) -> str:
        lines = [("layer", "before", "after", "why"), *[(c.name, c.before, c.after, c.why) for c in self.changes]]
        widths = [max(len(line[column]) for line in lines) for column in range(3)]
        text = ["  ".join([*map(str.ljust, line, widths), line[3]]) for line in lines]
        changed = sum(change.before != change.after for change in self.changes)
        return "\n".join([*text, f"{changed} layers changed, {len(self.changes) - changed} left"])


def convert(
    model: nn.Module,
    method: str | Method = "proposed",
    *,
    input_shape: tuple[int, ...] = (3, 224, 224),
    keep: Sequence[str] = ("first", "last"),
) -> Conversion:
    """Copy of a model whose convolutions and linear layers are those of a method, with Scale-Dropout behind each.

    Weights are taken over as proxy weights; BatchNorm stays as it is, but for a Tiny-Deep Ensemble, whose members have
    copies of it that are moved a little apart. ReLU and ReLU6 up to the last binary layer become
    the method's nonlinearity, since ``sign(relu(x))`` is constant. The posterior of the result is sampled as that of
    any other network (``PosteriorPredictive``, loop or folded); fine-tune it first, with ``EstimatorSchedule`` if it is
    a Lightning module and with ``follow_optimizer`` for BNN, RAD and LAB.

    Args:
        model: torchvision, timm, or your own; its forward must take one batch of images. It is not changed.
        method: key of ``METHODS``, or a method.
        input_shape: one input, e.g. ``(3, 32, 32)``; the model is run on it to find the order of its layers.
        keep: layers that stay in full precision: the words ``"first"`` and ``"last"``, and names or patterns such as
            ``"*.downsample.*"``.

    Left alone as well: depthwise convolutions (a binary filter of nine weights is too coarse), subclasses of
    convolutions and linear layers (their owner, e.g. attention, may read the weights itself), linear layers of token
    sequences, and what the run does not reach.

    Raises:
        ValueError: for a name in ``keep`` that fits no layer, no layer to convert, or a binary layer whose inputs have
            one sign only, e.g. behind a functional ReLU, which cannot be replaced.

    >>> hidden = (nn.Conv2d(4, 4, 3), nn.ReLU(), nn.Flatten())
    >>> print(convert(nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), *hidden, nn.Linear(64, 2)), input_shape=(1, 8, 8)))
    layer  before  after                                      why
    0      Conv2d  Conv2d                                     first layer
    1      ReLU    Clip                                       a sign needs both signs
    2      Conv2d  BinaryConv2d + ScaleDropout + ChannelBias  1-bit weights and inputs
    3      ReLU    ReLU                                       behind the last binary layer
    5      Linear  Linear                                     last layer
    2 layers changed, 3 left
    """
    chosen = get_method(method) if isinstance(method, str) else method
    network = deepcopy(model)
    order = _order(network, input_shape, chosen.norm_sets > 1)
    layers = [name for name, (module, _) in order.items() if isinstance(module, nn.Conv2d | nn.Linear)]
    left = {name: _obstacle(*order[name]) for name in layers} | _kept(layers, keep)
    hidden = [name for name in layers if not left[name]] if chosen.binary or chosen.weight_dropout else []
    if not hidden and not chosen.feature_dropout:
        converts = chosen.binary or chosen.weight_dropout
        why = "every layer that the model runs is kept or left" if converts else "its layers are ordinary ones"
        raise ValueError(f"{chosen.label} has nothing to convert: {why}")
    binary_until = max([place for place, name in enumerate(order) if name in hidden and chosen.binary], default=-1)
    changes = []
    for place, (name, (module, _)) in enumerate(order.items()):
        new: nn.Module | None = None
        why = left.get(name) or f"as {chosen.label} has it"
        if name in hidden and isinstance(module, nn.Conv2d | nn.Linear):
            new, why = _hidden(module, chosen), "1-bit weights and inputs" if chosen.binary else "random weights"
        elif isinstance(module, Norm):
            new, why = EnsembleNorm(module, chosen.norm_sets), "a set for each member"
        elif isinstance(module, _RECTIFIERS) and place < binary_until:
            new, why = chosen.activation_layer(), "a sign needs both signs"
        elif isinstance(module, _RECTIFIERS) and binary_until >= 0:
            why = "behind the last binary layer"
        elif name == layers[-1] and chosen.feature_dropout and isinstance(module, nn.Linear):
            new = nn.Sequential(OrderedDict(dropout=chosen.feature_layer(module.in_features), linear=module))
            why = "dropout of the features"
        if new is not None:
            network.set_submodule(name, new.train(module.training))
        changes.append(Change(name, type(module).__name__, _describe(new or module), why))
    chosen.finish(network, input_shape)
    _require_both_signs(network, input_shape)
    return Conversion(network, tuple(changes))


def _noise(input_shape: tuple[int, ...]) -> Tensor:
    """What networks are looked at with; the global random stream stays as it is."""
    return torch.randn(2, *input_shape, generator=torch.Generator().manual_seed(0))


def _order(network: nn.Module, input_shape: tuple[int, ...], norms: bool) -> dict[str, tuple[nn.Module, int]]:
    """Convolutions, linear layers and rectifiers by name, as they run first, each with the dimensions of its input.

    BatchNorm as well with ``norms``.
    """
    order: dict[str, tuple[nn.Module, int]] = {}
    names = {module: name for name, module in network.named_modules()}

    def note(module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        order.setdefault(names[module], (module, inputs[0].dim()))

    kinds = (nn.Conv2d, nn.Linear, *_RECTIFIERS, *((nn.BatchNorm1d, nn.BatchNorm2d) if norms else ()))
    probe(network, _noise(input_shape), [module for module in names if isinstance(module, kinds)], note)
    return order


def _kept(layers: list[str], keep: Sequence[str]) -> dict[str, str]:
    """Layers that stay as they are, with the reason."""
    kept: dict[str, str] = {}
    for pattern in keep:
        if pattern in ("first", "last"):
            fitting = layers[:1] if pattern == "first" else layers[-1:]
            kept |= dict.fromkeys(fitting, f"{pattern} layer")
            continue
        fitting = [name for name in layers if fnmatchcase(name, pattern)]
        if not fitting:
            raise ValueError(f"keep: {pattern!r} fits no layer; the model runs {', '.join(layers[:20])}")
        kept |= dict.fromkeys(fitting, "kept as asked")
    return kept


def _obstacle(module: nn.Module, dimensions: int) -> str:
    """Why a layer cannot be a binary one; empty if it can."""
    if type(module) not in (nn.Conv2d, nn.Linear):
        return "a subclass, whose owner may read its weights"
    if isinstance(module, nn.Conv2d) and module.padding_mode != "zeros":
        return f"padding mode {module.padding_mode}"
    if isinstance(module, nn.Conv2d) and module.weight.shape[1] == 1 < module.groups:
        return "depthwise"
    if isinstance(module, nn.Linear) and dimensions != 2:
        return "its channels are not dimension 1"
    return ""


def _hidden(module: nn.Conv2d | nn.Linear, method: Method) -> nn.Sequential:
    """The method's layer with the weights of ``module``, its scale, and the bias of ``module``."""
    parts: OrderedDict[str, nn.Module] = OrderedDict()
    layer: nn.Conv2d | nn.Linear
    if isinstance(module, nn.Conv2d):
        geometry = {name: getattr(module, name) for name in ("kernel_size", "stride", "padding", "dilation", "groups")}
        layer = parts["conv"] = method.conv_layer(module.in_channels, module.out_channels, **geometry)
    else:
        layer = parts["linear"] = method.linear_layer(module.in_features, module.out_features)
    with torch.no_grad():
        layer.weight.copy_(module.weight)
    if isinstance(layer, BinaryConv2d | BinaryLinear):
        method.set_estimators(layer)  # again: they may depend on the weights
    if (scale := method.scale_layer(layer)) is not None:
        parts["scale"] = scale
    if module.bias is not None:
        parts["bias"] = ChannelBias(module.bias)
    return nn.Sequential(parts).to(module.weight)


def _describe(module: nn.Module) -> str:
    if type(module) is not nn.Sequential:
        return type(module).__name__
    return " + ".join(type(part).__name__ for part in module)


def _require_both_signs(network: nn.Module, input_shape: tuple[int, ...]) -> None:
    """Refuse binary layers whose binary inputs are all alike."""
    constant: list[str] = []

    def look(layer: BinaryConv2d | BinaryLinear, inputs: tuple[Tensor, ...]) -> None:
        ones = layer.input_estimator(inputs[0])
        if ones.min() == ones.max():
            constant.append(names[layer].rpartition(".")[0])

    names: dict[nn.Module, str] = {
        m: n for n, m in network.named_modules() if isinstance(m, BinaryConv2d | BinaryLinear)
    }
    probe(network, _noise(input_shape), names, look)
    if constant:
        raise ValueError(
            f"the binary inputs of {', '.join(constant[:3])} are all alike: a ReLU or another function without "
            "negative values that is no module stands in front. Make it a module, or name the layers in keep"
        )

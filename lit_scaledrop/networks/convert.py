"""Scale-Dropout for existing networks: :func:`convert` makes layers of a torchvision or timm model binary."""

from collections import OrderedDict
from collections.abc import Sequence
from copy import deepcopy
from dataclasses import dataclass, replace
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
MC_DROPOUT = "mc_dropout_relu"
"""What ``"mc_dropout"`` is: it leaves the layers and the nonlinearities alone."""


class ChannelBias(nn.Module):
    """Bias behind a scale: the paper's ``z = (x * w) . a + b`` does not scale it.

    Args:
        bias: one number for each channel (dimension 1); a parameter stays the one that it is.

    Shape: ``(batch, channels, ...)`` to the same.
    """

    def __init__(self, bias: Float[Tensor, " channels"]) -> None:
        super().__init__()
        self.bias = bias if isinstance(bias, nn.Parameter) else nn.Parameter(bias)

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
    binary: bool = True,
) -> Conversion:
    """Copy of a model whose convolutions and linear layers are those of a method, with Scale-Dropout behind each.

    Weights are taken over as proxy weights; BatchNorm stays as it is, but for a Tiny-Deep Ensemble, whose members have
    copies of it that are moved a little apart. ReLU and ReLU6 up to the last binary layer become
    the method's nonlinearity, since ``sign(relu(x))`` is constant. The posterior of the result is sampled as that of
    any other network (``PosteriorPredictive``); fine-tune it first, with ``EstimatorSchedule`` if it is a Lightning
    module and with ``follow_optimizer`` for BNN, RAD and LAB. A scale starts at one, which is what a dropped one is, so
    the passes of a network that was not fine-tuned agree.

    Modules that are used in several places, and weights that several layers share, stay shared; each is one line of the
    table. What is made of a frozen layer is frozen.

    Args:
        model: torchvision, timm, or your own; its forward must take one batch of images. It is not changed.
        method: key of ``METHODS``, or a method; ``"mc_dropout"`` is dropout, p = 0.5, of what the last linear layer
            gets, and nothing else.
        input_shape: one input, e.g. ``(3, 32, 32)``; the model is run on it to find the order of its layers.
        keep: layers that stay in full precision: the words ``"first"`` and ``"last"``, and names or patterns such as
            ``"*.downsample.*"``.
        binary: ``False`` leaves weights and nonlinearities in full precision and puts the method's Scale-Dropout behind
            the layers.

    Left alone as well: depthwise convolutions (a binary filter of nine weights is too coarse), subclasses of
    convolutions and linear layers (their owner, e.g. attention, may read the weights itself), linear layers of token
    sequences, and what the run does not reach.

    Raises:
        ValueError: for a name in ``keep`` that fits no layer, no layer to convert, ``binary=False`` without a scale, or
            a binary layer whose inputs have one sign only, e.g. behind a functional ReLU, which cannot be replaced.

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
    chosen = get_method(MC_DROPOUT if method == "mc_dropout" else method) if isinstance(method, str) else method
    if not binary:
        chosen = _full_precision(chosen)
    network = deepcopy(model)
    order = _order(network, input_shape, chosen.norm_sets > 1)
    layers = [name for name, used in order.items() if isinstance(used.module, nn.Conv2d | nn.Linear)]
    left = {name: _obstacle(order[name], chosen.binary) for name in layers} | _kept(layers, order, keep)
    converts = chosen.binary or chosen.weight_dropout > 0 or chosen.scale is not None
    hidden = [name for name in layers if converts and not left[name]]
    last = _head(layers, order) if chosen.feature_dropout else ""
    _require_some([*hidden, last], chosen, converts)
    binary_until = max([used.calls[-1] for name, used in order.items() if name in hidden and chosen.binary], default=-1)
    changes = []
    for name, used in order.items():
        module, before = used.module, _describe(used.module)
        new: nn.Module | None = None
        why = left.get(name) or f"as {chosen.label} has it"
        if name in hidden and isinstance(module, nn.Conv2d | nn.Linear):
            new = after = _hidden(module, chosen)
            why = _what(chosen, after)
        elif isinstance(module, Norm):
            new, why = EnsembleNorm(module, chosen.norm_sets), "a set for each member"
        elif isinstance(module, _RECTIFIERS) and used.calls[0] < binary_until:
            new, why = chosen.activation_layer(), "a sign needs both signs"
        elif isinstance(module, _RECTIFIERS) and binary_until >= 0:
            why = "behind the last binary layer"
        elif name == last and isinstance(module, nn.Linear):
            new = nn.Sequential(OrderedDict(dropout=chosen.feature_layer(module.in_features), linear=module))
            why = "dropout of the features"
        if new is not None:
            for place_of_it in used.names:
                network.set_submodule(place_of_it, new.train(module.training))
        changes.append(Change(", ".join(used.names), before, _describe(new or module), why))
    chosen.finish(network, input_shape)
    _require_both_signs(network, input_shape)
    return Conversion(network, tuple(changes))


def _require_some(changed: list[str], method: Method, converts: bool) -> None:
    if not any(changed):
        why = "every layer that the model runs is kept or left" if converts else "its layers are ordinary ones"
        raise ValueError(f"{method.label} has nothing to convert: {why}")


def _full_precision(method: Method) -> Method:
    """The Scale-Dropout of a method on layers of full precision."""
    if method.scale is None:
        raise ValueError(f"binary=False inserts a method's Scale-Dropout after layers, but {method.label!r} has none")
    return replace(
        method, bits_w=32, bits_a=32, estimator="none", weight_scale="none", activation="relu", open_skip=False
    )


def _what(method: Method, layer: nn.Module) -> str:
    """What the method makes of a hidden layer."""
    what = "random weights" if method.weight_dropout else "a scale that is dropped"
    return ("1-bit weights and inputs" if method.binary else what) + (", frozen" if _frozen(layer) else "")


def _frozen(module: nn.Module) -> bool:
    return not any(parameter.requires_grad for parameter in module.parameters())


def _noise(input_shape: tuple[int, ...]) -> Tensor:
    """What networks are looked at with; the global random stream stays as it is."""
    return torch.randn(2, *input_shape, generator=torch.Generator().manual_seed(0))


@dataclass(frozen=True)
class _Used:
    """A module that a run reaches."""

    module: nn.Module
    names: tuple[str, ...]
    """all of its names; several of a module that is used in several places"""
    dimensions: int
    """of its first input"""
    calls: list[int]
    """when it runs, among all calls of the run"""


def _order(network: nn.Module, input_shape: tuple[int, ...], norms: bool) -> dict[str, _Used]:
    """Convolutions, linear layers and rectifiers by their first name, as they run first; with ``norms`` BatchNorm."""
    order: dict[str, _Used] = {}
    names: dict[nn.Module, list[str]] = {}
    for name, module in network.named_modules(remove_duplicate=False):
        names.setdefault(module, []).append(name)
    if isinstance(network, nn.Conv2d | nn.Linear):
        raise ValueError("the model has a single layer, both first and last: there is nothing to convert")

    def note(module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        used = order.setdefault(names[module][0], _Used(module, tuple(names[module]), inputs[0].dim(), []))
        used.calls.append(sum(len(other.calls) for other in order.values()))

    kinds = (nn.Conv2d, nn.Linear, *_RECTIFIERS, *((nn.BatchNorm1d, nn.BatchNorm2d) if norms else ()))
    probe(network, _noise(input_shape), [module for module in names if isinstance(module, kinds)], note)
    return order


def _head(layers: list[str], order: dict[str, _Used]) -> str:
    """The last layer, if it is a linear one."""
    return layers[-1] if layers and isinstance(order[layers[-1]].module, nn.Linear) else ""


def _kept(layers: list[str], order: dict[str, _Used], keep: Sequence[str]) -> dict[str, str]:
    """Layers that stay as they are, with the reason."""
    kept: dict[str, str] = {}
    for pattern in keep:
        if pattern in ("first", "last"):
            fitting = layers[:1] if pattern == "first" else layers[-1:]
            kept |= dict.fromkeys(fitting, f"{pattern} layer")
            continue
        fitting = [name for name in layers if any(fnmatchcase(other, pattern) for other in order[name].names)]
        if not fitting:
            raise ValueError(f"keep: {pattern!r} matches no layer; the model runs {', '.join(layers[:20])}")
        kept |= dict.fromkeys(fitting, "kept as asked")
    return kept


def _obstacle(used: _Used, binary: bool) -> str:
    """Why a layer cannot be one of the method's; empty if it can."""
    module = used.module
    if type(module) not in (nn.Conv2d, nn.Linear):
        return "a subclass, whose owner may read its weights"
    if isinstance(module, nn.Conv2d) and module.padding_mode != "zeros":
        return f"padding mode {module.padding_mode}"
    if binary and isinstance(module, nn.Conv2d) and module.weight.shape[1] == 1 < module.groups:
        return "depthwise"
    if isinstance(module, nn.Linear) and used.dimensions != 2:
        return "its channels are not dimension 1"
    return ""


def _hidden(module: nn.Conv2d | nn.Linear, method: Method) -> nn.Sequential:
    """The method's layer with the weights of ``module``, its scale, and the bias of ``module``.

    Weight and bias are the parameters themselves: what shares them goes on to, and what is frozen stays so.
    """
    parts: OrderedDict[str, nn.Module] = OrderedDict()
    layer: nn.Conv2d | nn.Linear
    if isinstance(module, nn.Conv2d):
        geometry = {name: getattr(module, name) for name in ("kernel_size", "stride", "padding", "dilation", "groups")}
        layer = parts["conv"] = method.conv_layer(module.in_channels, module.out_channels, **geometry)
    else:
        layer = parts["linear"] = method.linear_layer(module.in_features, module.out_features)
    layer.weight = module.weight
    if isinstance(layer, BinaryConv2d | BinaryLinear):
        method.set_estimators(layer)  # again: they may depend on the weights
    if (scale := method.scale_layer(layer)) is not None:
        parts["scale"] = scale
    if module.bias is not None:
        parts["bias"] = ChannelBias(module.bias)
    made = nn.Sequential(parts).to(module.weight.device, module.weight.dtype)
    return made.requires_grad_(False) if _frozen(module) else made


def _describe(module: nn.Module) -> str:
    if type(module) is not nn.Sequential:
        return type(module).__name__
    return " + ".join(type(part).__name__ for part in module)


def _require_both_signs(network: nn.Module, input_shape: tuple[int, ...]) -> None:
    """Refuse binary layers whose inputs vary and have one sign.

    A BatchNorm whose scale is zero, as fresh residual blocks have it, gives the same number everywhere and will not for
    long: it is looked through, as if its scale were one.
    """
    constant: list[str] = []

    def look(layer: BinaryConv2d | BinaryLinear, inputs: tuple[Tensor, ...]) -> None:
        ones = layer.input_estimator(inputs[0])
        if ones.min() == ones.max() and inputs[0].min() < inputs[0].max():
            constant.append(names[layer].rpartition(".")[0])

    names: dict[nn.Module, str] = {
        m: n for n, m in network.named_modules() if isinstance(m, BinaryConv2d | BinaryLinear)
    }
    norms = [m for m in network.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm) and m.affine]
    zero = [norm.weight for norm in norms if not norm.weight.any()]
    with torch.no_grad():
        try:
            for weight in zero:
                weight.fill_(1)
            probe(network, _noise(input_shape), names, look)
        finally:
            for weight in zero:
                weight.zero_()
    if constant:
        raise ValueError(
            f"the binary inputs of {', '.join(constant[:3])} are all equal: a ReLU or another function without "
            f"negative values, which is not a module, precedes it. Make it a module, or name the layers in keep"
        )

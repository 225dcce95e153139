"""A network's binary layers on crossbars: swap them in a copy, and calibrate the converters."""

import copy
import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from hardware.cells import Imperfections
from hardware.crossbar import CrossbarLayer
from hardware.mapping import Crossbar


def on_crossbar(
    model: nn.Module,
    crossbar: Crossbar | None = None,
    imperfect: Imperfections | None = None,
    generator: torch.Generator | None = None,
    is_binary: Callable[[nn.Module], bool] | None = None,
    noise: torch.Generator | None = None,
) -> nn.Module:
    """Copy of a network whose binary layers run on crossbars; the names of all other modules stay.

    A binary layer is an ``nn.Conv2d`` or ``nn.Linear`` without bias that has ``binary_weight()``, which gives +-1 times
    a factor for each output, and ``input_estimator``, which makes its input binary.

    Args:
        model: network.
        crossbar: geometry and mapping.
        imperfect: what is not ideal.
        generator: for devices and converters; one chip for each state of it.
        is_binary: which layers are binary; by default those with ``binary_weight``.
        noise: for what is drawn at each read.

    Raises:
        ValueError: if no layer is binary, or one has weights that are drawn at random.
    """
    chip = copy.deepcopy(model).eval()
    binary = is_binary or (lambda module: hasattr(module, "binary_weight"))
    names: dict[nn.Module, list[str]] = {}
    for name, module in chip.named_modules(remove_duplicate=False):  # a module may be used in several places
        if isinstance(module, nn.Conv2d | nn.Linear) and binary(module):
            names.setdefault(module, []).append(name)
    if not names:
        raise ValueError("the network has no binary layer that a crossbar could hold")
    for module, places in names.items():
        layer = _converted(places[0], module, crossbar, imperfect, generator, noise)
        if module is chip:
            return layer
        for name in places:
            chip.set_submodule(name, layer)
    return chip


def _converted(
    name: str,
    module: nn.Module,
    crossbar: Crossbar | None,
    imperfect: Imperfections | None,
    generator: torch.Generator | None,
    noise: torch.Generator | None,
) -> CrossbarLayer:
    if hasattr(type(module), "random_bits"):
        raise ValueError(f"{name} draws its weights at random; a crossbar holds one set of them")
    if module.bias is not None:
        raise ValueError(f"{name} has a bias: a binary layer on a crossbar has none")
    estimator: nn.Module = module.input_estimator
    with torch.no_grad():
        weight: Tensor = module.binary_weight()
    shape: dict[str, Any] = {"input_estimator": estimator}
    if isinstance(module, nn.Conv2d):
        shape |= {key: getattr(module, key) for key in ("stride", "padding", "dilation", "groups")}
    try:
        return CrossbarLayer(weight, crossbar, imperfect, generator, noise, **shape).eval()
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from error


def calibrate(chip: nn.Module, inputs: Sequence[Tensor], run: Callable[[Tensor], object] | None = None) -> None:
    """Set the range of every converter to what its tile's columns show on ``inputs``, a few batches.

    Args:
        chip: network of :func:`on_crossbar`.
        inputs: batches.
        run: makes the chip's passes over a batch, e.g. the random ones of a posterior; by default one pass of ``chip``.
    """
    layers = crossbar_layers(chip)
    if not layers or not inputs:
        raise ValueError("calibrate needs a network with crossbar layers, and at least one batch")
    converters = [layer.converters for layer in layers]
    for bank in converters:
        bank.observed = [(math.inf, -math.inf)] * len(bank.sizes)
    try:
        with torch.no_grad():
            for batch in inputs:
                (run or chip)(batch)
        for bank in converters:
            assert bank.observed is not None
            bank.set_range([(float(math.floor(low)), float(math.ceil(high))) for low, high in bank.observed])
    finally:
        for bank in converters:
            bank.observed = None


def crossbar_layers(chip: nn.Module) -> list[CrossbarLayer]:
    """Layers on crossbars, in the order of the network's modules."""
    return [module for module in chip.modules() if isinstance(module, CrossbarLayer)]

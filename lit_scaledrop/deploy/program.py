"""A trained network as a program for other runtimes: ``torch.export`` and ONNX.

Two variants. The deterministic one takes images ``(B, C, H, W)`` and gives logits ``(B, classes)``. The one of T passes
takes the masks as further inputs, one tensor ``(T, ...)`` for each stochastic layer (the numbers of the members of a
Tiny-Deep Ensemble, once for all layers), and gives logits ``(T, B, classes)``: nothing in it is random, so every
runtime gives the same numbers for the same masks. Masks come from :func:`masks_of`, or from whatever draws bits: a
junction, say. B and T are free in both.
"""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from lit_scaledrop.extras import extra
from lit_scaledrop.layers.stochastic import sampling, stochastic_layers
from lit_scaledrop.posterior.plans import draw_plan
from lit_scaledrop.shapes import Float

OPSET = 20


class Deterministic(nn.Module):
    """One pass without dropout.

    Args:
        network: frozen, see :func:`lit_scaledrop.deploy.freeze`.
    """

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: Float[Tensor, "batch channels h w"]) -> Float[Tensor, "batch classes"]:
        """Logits."""
        return self.network(images)


class Passes(nn.Module):
    """T passes over the same images, each with its own masks.

    Args:
        network: frozen, see :func:`lit_scaledrop.deploy.freeze`.

    Raises:
        ValueError: nothing in the network is random.
    """

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network
        self.layers = list(stochastic_layers(network))
        if not self.layers:
            raise ValueError("this network has no random layers: there is no variant with masks")

    def forward(
        self, images: Float[Tensor, "batch channels h w"], masks: list[Tensor]
    ) -> Float[Tensor, "passes batch classes"]:
        """Logits of each pass; ``masks`` has the draws of each stochastic layer, passes first."""
        batch, passes = images.shape[0], masks[0].shape[0]
        # expand, not repeat_interleave, whose translation to ONNX fixes the number of rows (torch 2.14)
        rows = [mask.unsqueeze(1).expand(-1, batch, *mask.shape[1:]).flatten(0, 1) for mask in masks]
        with sampling(self.network, dict(zip(self.layers, rows, strict=True))):
            logits = self.network(images.unsqueeze(0).expand(passes, *images.shape).flatten(0, 1))
        return logits.unflatten(0, (passes, batch))


def masks_of(network: nn.Module, samples: int, seed: int = 0) -> list[Tensor]:
    """Masks of ``samples`` passes, in the order in which :class:`Passes` takes them.

    They are those of :func:`lit_scaledrop.draw_plan` with the same seed.
    """
    return list(draw_plan(network, samples, seed).draws.values())


def export_program(network: nn.Module, example: Float[Tensor, "batch channels h w"], passes: bool) -> Any:
    """A ``torch.export`` program of a frozen network.

    Args:
        network: see :func:`lit_scaledrop.deploy.freeze`.
        example: at least two images.
        passes: with masks as inputs.
    """
    module, inputs, dynamic = _export_arguments(network, example, passes)
    with torch.no_grad():
        return torch.export.export(module, inputs, dynamic_shapes=dynamic, strict=False)


def export_onnx(network: nn.Module, example: Float[Tensor, "batch channels h w"], passes: bool, path: Path) -> None:
    """Write an ONNX model; arguments as of :func:`export_program`.

    Inputs are ``images`` and, with masks, ``masks.LAYER`` for each stochastic layer; the output is ``logits``.

    Raises:
        ModuleNotFoundError: saying what to install.
    """
    extra("onnxscript", "ONNX")
    names = ["images", *(f"masks.{name}" for name in stochastic_layers(network) if passes)]
    program = export_program(network, example, passes)
    model = torch.onnx.export(
        program, dynamo=True, input_names=names, output_names=["logits"], opset_version=OPSET, verbose=False
    )
    assert model is not None
    model.save(path)


def _export_arguments(network: nn.Module, example: Tensor, passes: bool) -> tuple[nn.Module, tuple[Any, ...], Any]:
    batch = torch.export.Dim("batch", min=1)
    if not passes:
        return Deterministic(network).eval(), (example,), ({0: batch},)
    module, masks = Passes(network).eval(), masks_of(network, 3)
    samples = torch.export.Dim("passes", min=1)
    return module, (example, masks), ({0: batch}, [{0: samples} for _ in masks])

"""From a trained network to a packed file and back."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from lit_scaledrop.deploy.container import Packed, PackedError, read_packed
from lit_scaledrop.deploy.inference import as_signs, binary_layers, freeze, plain_signs
from lit_scaledrop.deploy.thresholds import Threshold, fold, foldable
from lit_scaledrop.evaluation.checkpoint import MODULES
from lit_scaledrop.modules.base import LitNetwork

TRAINING_ONLY = (
    "lambda_scale", "lambda_weight", "label_smoothing", "optimizer", "lr", "momentum", "schedule", "warmup_epochs",
    "compile_network", "channels_last", "steps_per_call", "capture",
)  # fmt: skip
"""Arguments of a module that change no prediction of a trained network."""
UNUSED = "num_batches_tracked"
"""A counter of BatchNorm that only training reads."""


def pack(
    module: LitNetwork, images: Mapping[str, Any], about: Mapping[str, Any] | None = None, side: int = 32
) -> Packed:
    """Pack a trained module; its network is frozen in place.

    Args:
        module: trained, on the CPU.
        images: what a picture goes through before the network sees it: ``mean``, ``std`` (of pixels from 0 to 1, one a
            channel), ``border``, ``class_names`` and ``name`` of the data set.
        about: what else the file shall say, for JSON: where the network comes from.
        side: height and width of an image in pixels, for the test of what can be folded.

    Raises:
        ValueError: the network draws its weights.
    """
    given = {key: value for key, value in module.hparams.items() if key not in TRAINING_ONLY and value is not None}
    network = freeze(module.network)
    generator = torch.Generator().manual_seed(0)
    images_of_noise = torch.randn(16, int(given["in_channels"]), side, side, generator=generator)
    fold(network, foldable(network, images_of_noise))
    folded = [name for name, part in network.named_modules() if isinstance(part, Threshold)]  # before as well
    layers = binary_layers(network)
    weights = {f"{name}.weight" for name in layers}
    tensors: dict[str, Tensor] = {}
    signs: dict[str, Tensor] = {}
    for name, tensor in network.state_dict().items():
        if name in weights:
            signs[name] = tensor > 0
        elif tensor.dtype == torch.bool:
            signs[name] = tensor
        elif not name.endswith(UNUSED):
            tensors[name] = tensor
    said = {
        "task": type(module).__name__,
        "arguments": given,
        "images": dict(images),
        "folded": folded,
        "factors": [name for name, layer in layers.items() if not layer.weight_estimator.signs],
        **(about or {}),
    }
    return Packed(said, tensors, signs)


def load_packed(path: str | Path) -> tuple[LitNetwork, dict[str, Any]]:
    """The network of a packed file, in a module ready for predictions, and what the file says of it.

    Raises:
        PackedError: the file is damaged, or of a network that this version does not know.
    """
    packed = read_packed(path)
    about = packed.about
    try:
        module = MODULES[about["task"]](**about["arguments"])
        network = module.network
        layers = binary_layers(network)
        for name, layer in layers.items():
            shape = (len(layer.weight), *[1] * (layer.weight.dim() - 1))
            as_signs(layer, torch.ones(shape) if name in about["factors"] else None)
        plain_signs(network)
        for name in about["folded"]:
            network.set_submodule(name, Threshold(network.get_submodule(name).num_features))  # type: ignore[arg-type]
        bits = {
            name: positive if name.endswith(".rising") else torch.where(positive, 1.0, -1.0)
            for name, positive in packed.signs.items()
        }
        missing, odd = network.load_state_dict({**packed.tensors, **bits}, strict=False)
    except (KeyError, ValueError, TypeError, AttributeError, RuntimeError) as error:
        raise PackedError(f"{path} matches no network of this version of lit-scaledrop: {error}") from error
    if odd or (missing := [name for name in missing if not name.endswith(UNUSED)]):
        raise PackedError(f"{path} does not match its network: {', '.join([*odd, *missing][:3])}")
    network.requires_grad_(False)
    return module.eval(), about

"""Topologies: functions of a ``Method``. A new one is a builder and an entry in ``NETWORKS``.

Those for segmentation are in ``segmentation.py``.
"""

import inspect
from collections.abc import Callable

from torch import nn

from lit_scaledrop.methods.classification import Method, Shortcut
from lit_scaledrop.naming import lookup
from lit_scaledrop.networks.lenet5 import lenet5
from lit_scaledrop.networks.resnet import resnet18, resnet20
from lit_scaledrop.networks.segmentation import SEGMENTATION_NETWORKS, build_segmentation_network
from lit_scaledrop.networks.segnet import segnet
from lit_scaledrop.networks.unet import unet
from lit_scaledrop.networks.unet_smp import unet_smp
from lit_scaledrop.networks.vgg import vgg_small

NETWORKS: dict[str, Callable[..., nn.Module]] = {
    "lenet5": lenet5,
    "resnet18": resnet18,
    "resnet20": resnet20,
    "vgg_small": vgg_small,
}


def build_network(
    name: str,
    method: Method,
    num_classes: int = 10,
    in_channels: int = 3,
    width: float = 1.0,
    shortcut: Shortcut | None = None,
    image_size: int = 32,
) -> nn.Module:
    """Build a network.

    Args:
        name: key of :data:`NETWORKS`.
        method: how its layers compute.
        num_classes: outputs.
        in_channels: channels of the images.
        width: multiplier of all hidden channel counts, above 0.
        shortcut: what a skip of a ResNet is where the shape changes; by default as method and network say.
        image_size: side of the images; masks for single neurons depend on it.

    Raises:
        ValueError: for an unknown name (with the nearest match), a width that is not positive, or a shortcut for a
            network that has none to choose.
    """
    if width <= 0:
        raise ValueError(f"width must be above 0, got {width}")
    builder = NETWORKS[lookup("network", name, NETWORKS)]
    options = {} if shortcut is None else {"shortcut": shortcut}
    if options and not _has_shortcuts(builder):
        choice = ", ".join(sorted(known for known, other in NETWORKS.items() if _has_shortcuts(other)))
        raise ValueError(f"network {name!r} has no shortcuts to choose: leave shortcut out; these have: {choice}")
    return builder(method, num_classes, in_channels, width, image_size=image_size, **options)


def _has_shortcuts(builder: Callable[..., nn.Module]) -> bool:
    return "shortcut" in inspect.signature(builder).parameters


__all__ = [
    "NETWORKS", "SEGMENTATION_NETWORKS", "build_network", "build_segmentation_network", "lenet5", "resnet18",
    "resnet20", "segnet", "unet", "unet_smp", "vgg_small",
]  # fmt: skip

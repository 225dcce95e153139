"""Topologies: functions of a ``Method``. A new one is a builder and an entry in ``NETWORKS``."""

from collections.abc import Callable

from torch import nn

from lit_scaledrop.methods import Method, lookup
from lit_scaledrop.networks.lenet5 import lenet5
from lit_scaledrop.networks.resnet import resnet18, resnet20
from lit_scaledrop.networks.vgg import vgg_small

NETWORKS: dict[str, Callable[..., nn.Module]] = {
    "lenet5": lenet5,
    "resnet18": resnet18,
    "resnet20": resnet20,
    "vgg_small": vgg_small,
}


def build_network(
    name: str, method: Method, num_classes: int = 10, in_channels: int = 3, width: float = 1.0
) -> nn.Module:
    """Build a network.

    Args:
        name: key of :data:`NETWORKS`.
        method: how its layers compute.
        num_classes: outputs.
        in_channels: channels of the images.
        width: multiplier of all hidden channel counts, above 0.

    Raises:
        ValueError: for an unknown name (with the nearest match) or a width that is not positive.
    """
    if width <= 0:
        raise ValueError(f"width must be above 0, got {width}")
    builder = NETWORKS[lookup("network", name, NETWORKS)]
    return method.finish(builder(method, num_classes, in_channels, width))


__all__ = ["NETWORKS", "build_network", "lenet5", "resnet18", "resnet20", "vgg_small"]

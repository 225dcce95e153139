"""Segmentation topologies: functions of a ``Method``. A new one is a builder and an entry in the dictionary."""

from collections.abc import Callable

from torch import nn

from lit_scaledrop.methods.classification import Method
from lit_scaledrop.naming import lookup
from lit_scaledrop.networks.segnet import segnet
from lit_scaledrop.networks.unet import unet
from lit_scaledrop.networks.unet_smp import unet_smp

SEGMENTATION_NETWORKS: dict[str, Callable[..., nn.Module]] = {"segnet": segnet, "unet": unet, "unet_smp": unet_smp}


def build_segmentation_network(
    name: str,
    method: Method,
    num_classes: int = 2,
    in_channels: int = 3,
    width: float = 1.0,
    image_size: int = 256,
) -> nn.Module:
    """Build a network that gives logits ``(rows, num_classes, h, w)`` for images ``(rows, in_channels, h, w)``.

    Args:
        name: key of :data:`SEGMENTATION_NETWORKS`.
        method: how its layers compute, a row of Table V.
        num_classes: classes of a pixel; 2 for a binary mask.
        in_channels: channels of the images.
        width: multiplier of all hidden channel counts, above 0.
        image_size: side of the images. Masks for single activations (SpinDrop, MC-Dropout) are made for it; other
            networks take any size that they can halve often enough.

    Raises:
        ValueError: for an unknown name (with the nearest match), a width that is not positive, an image size that the
            network cannot take, or a method that it does not have.
    """
    if width <= 0:
        raise ValueError(f"width must be above 0, got {width}")
    builder = SEGMENTATION_NETWORKS[lookup("segmentation network", name, SEGMENTATION_NETWORKS)]
    return builder(method, num_classes, in_channels, width, image_size)

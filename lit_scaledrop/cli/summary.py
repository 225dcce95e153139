"""``scaledrop summary``: weights, memory, operations and random bits of a network by layer."""

from lit_scaledrop.chip.summary import render, summarize
from lit_scaledrop.cli.command import call
from lit_scaledrop.methods.method import Shortcut
from lit_scaledrop.networks.tasks import task_of


def main(argv: list[str]) -> int:
    """Run ``scaledrop summary`` with ``argv`` behind it."""
    return call(summary, argv, "scaledrop summary")


def summary(
    network: str,
    method: str,
    *,
    width: float = 1.0,
    in_channels: int = 3,
    classes: int | None = None,
    image_size: int | None = None,
    shortcut: Shortcut | None = None,
) -> int:
    """Weights, memory, operations and random bits of a network by layer.

    Args:
        network: key of NETWORKS or SEGMENTATION_NETWORKS, e.g. vgg_small or unet.
        method: key of METHODS or SEGMENTATION_METHODS, e.g. proposed.
        width: multiplier of the channels.
        in_channels: channels of the images.
        classes: outputs (default: 10, or 2 for segmentation).
        image_size: side of the images (default: 32, or 256 for segmentation).
        shortcut: of a ResNet (default: the method's, else the network's).
    """
    task = task_of(network)
    chosen, size = task.method(method), image_size or task.image_size
    built = task.build(network, chosen, classes, in_channels, width, size, shortcut)
    print(f"{network}, {chosen.label} ({chosen.reference}), one {in_channels}x{size}x{size} image")
    print(render(summarize(built, (in_channels, size, size))))
    if chosen.binary and chosen.bits_a > 1:
        print(f"1-bit MAC: 1-bit weights times activations of {chosen.bits_a} bits")
    if chosen.members > 1:
        print(f"of one member; the ensemble has {chosen.members}")
    return 0

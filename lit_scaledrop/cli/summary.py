"""``scaledrop summary``: weights, memory, operations and random bits of a network by layer."""

import argparse

from lit_scaledrop.chip.summary import render, summarize
from lit_scaledrop.networks.tasks import task_of


def main(argv: list[str]) -> int:
    """Print the summary of a network."""
    parser = argparse.ArgumentParser("scaledrop summary", description=__doc__)
    parser.add_argument("network", help="key of NETWORKS or SEGMENTATION_NETWORKS, e.g. vgg_small or unet")
    parser.add_argument("method", help="key of METHODS or SEGMENTATION_METHODS, e.g. proposed")
    parser.add_argument("--width", type=float, default=1.0, help="multiplier of the channels (default: %(default)s)")
    parser.add_argument("--in-channels", type=int, default=3, help="channels of the images (default: %(default)s)")
    parser.add_argument("--classes", type=int, help="outputs (default: 10, or 2 for segmentation)")
    parser.add_argument("--image-size", type=int, help="side of the images (default: 32, or 256 for segmentation)")
    parser.add_argument(
        "--shortcut",
        choices=("subsample", "pool", "conv"),
        help="of a ResNet (default: the method's, else the network's)",
    )
    arguments = parser.parse_args(argv)
    task = task_of(arguments.network)
    method, size = task.method(arguments.method), arguments.image_size or task.image_size
    network = task.build(
        arguments.network, method, arguments.classes, arguments.in_channels, arguments.width, size, arguments.shortcut
    )
    print(f"{arguments.network}, {method.label} ({method.reference}), one {arguments.in_channels}x{size}x{size} image")
    print(render(summarize(network, (arguments.in_channels, size, size))))
    if method.binary and method.bits_a > 1:
        print(f"1-bit MAC: 1-bit weights times activations of {method.bits_a} bits")
    if method.members > 1:
        print(f"of one member; the ensemble has {method.members}")
    return 0

"""``scaledrop summary``: the layers of a network; for a trained one also the effect of its random bits."""

from pathlib import Path

from torch import nn

from lit_scaledrop.chip.summary import render, summarize
from lit_scaledrop.cli.command import UsageError, call
from lit_scaledrop.deploy.open import open_with_split
from lit_scaledrop.evaluation.evaluate import data_for, diagnosed, evaluation_device
from lit_scaledrop.methods.method import Method, Shortcut
from lit_scaledrop.networks.tasks import task_of
from lit_scaledrop.posterior import diagnosis


def main(argv: list[str]) -> int:
    """Run ``scaledrop summary`` with ``argv`` behind it."""
    return call(summary, argv, "scaledrop summary")


def summary(
    network: str | None = None,
    method: str | None = None,
    *,
    checkpoint: Path | None = None,
    data: str | None = None,
    root: str | None = None,
    images: int | None = None,
    samples: int | None = None,
    width: float | None = None,
    in_channels: int | None = None,
    classes: int | None = None,
    image_size: int | None = None,
    shortcut: Shortcut | None = None,
) -> int:
    """List weights, memory, operations and random bits of a network by layer, and the effect of the bits if trained.

    Args:
        network: key of NETWORKS or SEGMENTATION_NETWORKS, e.g. vgg_small or unet.
        method: key of METHODS or SEGMENTATION_METHODS, e.g. proposed.
        checkpoint: a trained network (file or packaged model) instead of network and method; shows for each layer how
            much dropping its scale changes its output, the share of next signs that flip, and its share of the mutual
            information, on validation images.
        data: data set of the validation split (default: that of the training).
        root: folder of the data; default: the environment variable DATA, or ./data.
        images: number of validation images (default: limited to the cost of 20 passes over 1,000).
        samples: number T of passes for the mutual information (default: 20).
        width: multiplier of the channels (default: 1).
        in_channels: channels of the images (default: 3).
        classes: number of outputs (default: 10, or 2 for segmentation).
        image_size: side of the images (default: 32, or 256 for segmentation).
        shortcut: skip between two shapes in a ResNet (default: the method's, else the network's).
    """
    of_built = (network, method, width, in_channels, classes, image_size, shortcut)
    if checkpoint is not None:
        if any(value is not None for value in of_built):
            raise UsageError(
                "the checkpoint defines the network: remove network, method, --width, --in-channels, --classes, "
                "--image-size and --shortcut"
            )
        if any(value is not None and value < 1 for value in (images, samples)):
            raise UsageError("--images and --samples must be at least 1")
        return _trained(checkpoint, data, root, images, 20 if samples is None else samples)
    if not network or not method:
        raise UsageError("name a network and a method, or give --checkpoint FILE")
    if any(value is not None for value in (data, root, images, samples)):
        raise UsageError("--data, --root, --images and --samples are for trained networks: add --checkpoint FILE")
    task, channels = task_of(network), 3 if in_channels is None else in_channels
    chosen, size = task.method(method), image_size or task.image_size
    built = task.build(network, chosen, classes, channels, 1.0 if width is None else width, shortcut, size)
    _layers(network, chosen, built, (channels, size, size))
    return 0


def _layers(name: str, method: Method, network: nn.Module, shape: tuple[int, int, int]) -> None:
    print(f"{name}, {method.label} ({method.reference}), one {'x'.join(map(str, shape))} image")
    print(render(summarize(network, shape)))
    if method.binary and method.bits_a > 1:
        print(f"1-bit MAC: 1-bit weights times activations of {method.bits_a} bits")
    if method.members > 1:
        print(f"of one member; the ensemble has {method.members}")


def _trained(path: Path, data: str | None, root: str | None, images: int | None, samples: int) -> int:
    """A trained network's layers, and its diagnosis."""
    model, known, split = open_with_split(path)
    name = model.hparams["network"]
    size = model.hparams.get("image_size") or task_of(name).image_size
    _layers(name, model.method, model.network, (model.hparams["in_channels"], size, size))
    if data is None and known is None:
        raise UsageError("the checkpoint does not name its training data: add --data NAME")
    same = data in (None, known)
    module = data_for(model, data or str(known), root, called=path, **(split or {} if same else {}))
    found = diagnosed(model.network, module, samples, evaluation_device("auto"), images)
    print()
    if same and split is None:
        print(
            f"the checkpoint does not name its held-out images: using those of the default split (val_fraction "
            f"{module.val_fraction:g}, split_seed {module.split_seed})"
        )
    if found is None:
        print("the network has no random layers, or the data no validation split: no diagnosis")
    else:
        print(diagnosis.render(found))
    return 0

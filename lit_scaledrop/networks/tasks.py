"""The differences between classification and segmentation: networks, methods, sizes, packaged settings."""

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from torch import nn

from lit_scaledrop.methods.classification import METHODS
from lit_scaledrop.methods.method import Method, Shortcut
from lit_scaledrop.methods.segmentation import SEGMENTATION_METHODS
from lit_scaledrop.naming import lookup
from lit_scaledrop.networks.lenet5 import lenet5
from lit_scaledrop.networks.resnet import resnet18, resnet20
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
"""Topologies of classification by name: functions of a :class:`Method`. A new one is a builder and an entry."""
SEGMENTATION_NETWORKS: dict[str, Callable[..., nn.Module]] = {"segnet": segnet, "unet": unet, "unet_smp": unet_smp}
"""Topologies of segmentation by name."""


@dataclass(frozen=True)
class Task:
    """One kind of training. A further one is an entry of :data:`TASKS` and a LightningModule."""

    networks: Mapping[str, Callable[..., nn.Module]]
    methods: Mapping[str, Method]
    num_classes: int
    """of the paper's data"""
    image_size: int
    """side of the paper's images in pixels"""
    config: str
    """packaged settings that its commands begin with"""
    profiles: str
    """folder of its packaged profiles"""

    def method(self, name: str) -> Method:
        """Look a method up by its name.

        Raises:
            ValueError: for an unknown name, with the nearest match.
        """
        return self.methods[lookup("method", name, self.methods)]

    def build(
        self,
        name: str,
        method: Method,
        num_classes: int | None = None,
        in_channels: int = 3,
        width: float = 1.0,
        shortcut: Shortcut | None = None,
        image_size: int | None = None,
    ) -> nn.Module:
        """Build a network that gives logits ``(rows, num_classes, ...)`` for images ``(rows, in_channels, h, w)``.

        Args:
            name: key of :attr:`networks`.
            method: how its layers compute.
            num_classes: outputs; by default those of the paper's data.
            in_channels: channels of the images.
            width: multiplier of all hidden channel counts, above 0.
            shortcut: what a skip of a ResNet is where the shape changes; by default as method and network say.
            image_size: side of the images; masks for single neurons are made for it. By default the paper's.

        Raises:
            ValueError: for an unknown name (with the nearest match), a width that is not positive, an image size or a
                method that the network cannot take, or a shortcut for a network that has none to choose.
        """
        if width <= 0:
            raise ValueError(f"width must be above 0, got {width}")
        builder = self.networks[lookup("network", name, self.networks)]
        options = {} if shortcut is None else {"shortcut": shortcut}
        if options and not _has_shortcuts(builder):
            choice = ", ".join(sorted(known for known, other in NETWORKS.items() if _has_shortcuts(other)))
            raise ValueError(f"network {name!r} has no option shortcut: remove it; these networks have it: {choice}")
        classes, size = num_classes or self.num_classes, image_size or self.image_size
        return builder(method, classes, in_channels, width, image_size=size, **options)

    def image_shape(self, name: str) -> tuple[int, int, int]:
        """Shape of the paper's images for a network: MNIST's, padded to 32 x 32, for LeNet-5, else in colour."""
        return 1 if name == "lenet5" else 3, self.image_size, self.image_size


TASKS: dict[str, Task] = {
    "classification": Task(NETWORKS, METHODS, 10, 32, "classify.yaml", "profile"),
    "segmentation": Task(SEGMENTATION_NETWORKS, SEGMENTATION_METHODS, 2, 256, "segment.yaml", "segment"),
}


def task_of(network: str) -> Task:
    """The task of a network.

    Raises:
        ValueError: for an unknown network, with the nearest match.
    """
    lookup("network", network, {**NETWORKS, **SEGMENTATION_NETWORKS})
    return next(task for task in TASKS.values() if network in task.networks)


build_network = TASKS["classification"].build
"""Build a network of :data:`NETWORKS`; arguments and errors as :meth:`Task.build`."""


def build_segmentation_network(
    name: str,
    method: Method,
    num_classes: int = 2,
    in_channels: int = 3,
    width: float = 1.0,
    image_size: int = 256,
) -> nn.Module:
    """Build a network of :data:`SEGMENTATION_NETWORKS`; arguments and errors as :meth:`Task.build`."""
    return TASKS["segmentation"].build(name, method, num_classes, in_channels, width, image_size=image_size)


def _has_shortcuts(builder: Callable[..., nn.Module]) -> bool:
    return "shortcut" in inspect.signature(builder).parameters

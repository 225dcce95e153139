"""Topologies as functions of a :class:`lit_scaledrop.methods.Method`, and the tasks that they are for."""

from lit_scaledrop.networks.lenet5 import lenet5
from lit_scaledrop.networks.resnet import resnet18, resnet20
from lit_scaledrop.networks.segnet import segnet
from lit_scaledrop.networks.tasks import (
    NETWORKS,
    SEGMENTATION_NETWORKS,
    TASKS,
    Task,
    build_network,
    build_segmentation_network,
    task_of,
)
from lit_scaledrop.networks.unet import unet
from lit_scaledrop.networks.unet_smp import unet_smp
from lit_scaledrop.networks.vgg import vgg_small

__all__ = [
    "NETWORKS",
    "SEGMENTATION_NETWORKS",
    "TASKS",
    "Task",
    "build_network",
    "build_segmentation_network",
    "lenet5",
    "resnet18",
    "resnet20",
    "segnet",
    "task_of",
    "unet",
    "unet_smp",
    "vgg_small",
]

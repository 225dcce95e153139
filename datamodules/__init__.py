"""Lightning data modules: whole data sets in memory, augmentation on whole batches."""

from datamodules.base import ImageDataModule
from datamodules.cifar10 import CIFAR10DataModule
from datamodules.digits import DigitsDataModule
from datamodules.fakes import fake_images, write_fake_cifar10, write_fake_mnist
from datamodules.integrity import DatasetCorruptError, DatasetNotFoundError
from datamodules.loading import ImageArrays
from datamodules.mnist import MNISTDataModule

DATAMODULES: dict[str, type[ImageDataModule]] = {
    module.name: module for module in (DigitsDataModule, MNISTDataModule, CIFAR10DataModule)
}
"""Every data set by name, as in the commands and the results."""

__all__ = [
    "DATAMODULES",
    "CIFAR10DataModule",
    "DatasetCorruptError",
    "DatasetNotFoundError",
    "DigitsDataModule",
    "ImageArrays",
    "ImageDataModule",
    "MNISTDataModule",
    "fake_images",
    "write_fake_cifar10",
    "write_fake_mnist",
]

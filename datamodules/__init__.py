"""Lightning data modules: whole data sets in memory, augmentation on whole batches; suites to evaluate on."""

from datamodules.base import ImageDataModule
from datamodules.cifar10 import CIFAR10DataModule
from datamodules.cifar10_c import CIFAR10C
from datamodules.corruptions import CORRUPTIONS, corrupt
from datamodules.digits import DigitsDataModule
from datamodules.evaluation_sets import CIFAR100, EvaluationSet, Places365, Textures, TinyImageNet
from datamodules.fake_suites import (
    write_fake_cifar10_c,
    write_fake_cifar100,
    write_fake_pictures,
    write_fake_stl10,
    write_fake_svhn,
)
from datamodules.fakes import fake_images, write_fake_cifar10, write_fake_mnist
from datamodules.integrity import DatasetCorruptError, DatasetNotFoundError
from datamodules.loading import ImageArrays
from datamodules.mnist import MNISTDataModule
from datamodules.stl10 import STL10DataModule
from datamodules.suite_noise import uniform_noise
from datamodules.suites import GROUPS, Suite, load_suite, renormalized
from datamodules.svhn import SVHNDataModule

DATAMODULES: dict[str, type[ImageDataModule]] = {
    module.name: module
    for module in (DigitsDataModule, MNISTDataModule, CIFAR10DataModule, SVHNDataModule, STL10DataModule)
}
"""Every data set that can be trained on, by name, as in the commands and the results."""

EVALUATION_SETS: dict[str, type[EvaluationSet]] = {
    images.name: images for images in (CIFAR10C, CIFAR100, TinyImageNet, Textures, Places365)
}
"""Every data set that is only evaluated on, by name, as in the commands and the suites."""

__all__ = [
    "CIFAR10C",
    "CIFAR100",
    "CORRUPTIONS",
    "DATAMODULES",
    "EVALUATION_SETS",
    "GROUPS",
    "CIFAR10DataModule",
    "DatasetCorruptError",
    "DatasetNotFoundError",
    "DigitsDataModule",
    "EvaluationSet",
    "ImageArrays",
    "ImageDataModule",
    "MNISTDataModule",
    "Places365",
    "STL10DataModule",
    "SVHNDataModule",
    "Suite",
    "Textures",
    "TinyImageNet",
    "corrupt",
    "fake_images",
    "load_suite",
    "renormalized",
    "uniform_noise",
    "write_fake_cifar10",
    "write_fake_cifar10_c",
    "write_fake_cifar100",
    "write_fake_mnist",
    "write_fake_pictures",
    "write_fake_stl10",
    "write_fake_svhn",
]

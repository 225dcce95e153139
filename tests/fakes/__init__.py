"""Miniature data sets in the published layouts; they load with ``checksums="recorded"``, as ``unofficial``."""

from fakes.classification import (
    write_fake_cifar10,
    write_fake_cifar10_c,
    write_fake_cifar100,
    write_fake_mnist,
    write_fake_stl10,
    write_fake_svhn,
)
from fakes.pictures import fake_images, write_fake_pictures
from fakes.segmentation import (
    write_fake_breast_ultrasound,
    write_fake_covid_ct,
    write_fake_ct_volumes,
    write_fake_ph2,
    write_fake_skin_lesion,
)

__all__ = [
    "fake_images",
    "write_fake_breast_ultrasound",
    "write_fake_cifar10",
    "write_fake_cifar10_c",
    "write_fake_cifar100",
    "write_fake_covid_ct",
    "write_fake_ct_volumes",
    "write_fake_mnist",
    "write_fake_ph2",
    "write_fake_pictures",
    "write_fake_skin_lesion",
    "write_fake_stl10",
    "write_fake_svhn",
]

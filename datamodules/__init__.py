"""Lightning data modules: whole data sets in memory, for classification and segmentation; suites to evaluate on.

A further data set is one file and one entry below. Which base to take: all are ``DataModule``s, a whole set in memory.
Images with one label inherit from ``ImageDataModule`` and give ``load()``, all images and labels; where files are
published with their md5s, from ``PublishedDataModule``, which downloads and checks them, and give ``parse()``
(``classification/svhn.py`` is the shortest example). Images with masks inherit from ``SegmentationDataModule`` and give
``load()``; where every image has a file and its mask has another, from ``PairedDataModule``, and give
``find_examples()`` (``segmentation/skin_lesion.py``). Sets that are only evaluated on inherit from ``EvaluationSet``,
trees of pictures among them from ``FolderSet``. What is on disk, and how to get it, stands beside the class in
``files``: a ``FileSet`` of files with md5s, a ``Tree`` of pictures in an archive, or ``SourceFolders`` whose terms have
to be accepted first. Folders of one's own need none of this: ``own`` describes and reads them. Tests that run over the
dictionaries below want a writer of miniature data in ``tests/fakes/``.
"""

from datamodules.classification.base import ImageDataModule
from datamodules.classification.cifar10 import CIFAR10DataModule
from datamodules.classification.digits import DigitsDataModule
from datamodules.classification.mnist import MNISTDataModule
from datamodules.classification.stl10 import STL10DataModule
from datamodules.classification.svhn import SVHNDataModule
from datamodules.corruptions.corruptions import CORRUPTIONS, corrupt
from datamodules.files.integrity import DatasetCorruptError, DatasetNotFoundError
from datamodules.loading import ImageArrays
from datamodules.own.modules import OwnImagesDataModule, OwnMasksDataModule, own_module
from datamodules.segmentation.base import SegmentationDataModule
from datamodules.segmentation.breast_ultrasound import BreastUltrasoundDataModule
from datamodules.segmentation.covid_ct import CovidCTDataModule
from datamodules.segmentation.ct_volumes import CTVolumesDataModule
from datamodules.segmentation.phantom import PhantomDataModule, phantom_images
from datamodules.segmentation.skin_lesion import PH2DataModule, SkinLesionDataModule
from datamodules.suites.cifar10_c import CIFAR10C
from datamodules.suites.evaluation_sets import CIFAR100, EvaluationSet, Places365, Textures, TinyImageNet
from datamodules.suites.suite_noise import uniform_noise
from datamodules.suites.suites import GROUPS, Suite, load_suite, renormalized

DATAMODULES: dict[str, type[ImageDataModule]] = {
    module.name: module
    for module in (DigitsDataModule, MNISTDataModule, CIFAR10DataModule, SVHNDataModule, STL10DataModule)
}
"""Every data set that can be trained on, by name, as in the commands and the results."""

EVALUATION_SETS: dict[str, type[EvaluationSet]] = {
    images.name: images for images in (CIFAR10C, CIFAR100, TinyImageNet, Textures, Places365)
}
"""Every data set that is only evaluated on, by name, as in the commands and the suites."""

SEGMENTATION_DATAMODULES: dict[str, type[SegmentationDataModule]] = {
    module.name: module
    for module in (
        PhantomDataModule,
        BreastUltrasoundDataModule,
        SkinLesionDataModule,
        PH2DataModule,
        CovidCTDataModule,
        CTVolumesDataModule,
    )
}
"""Every segmentation set, by name, as in the commands and the results."""

__all__ = [
    "CIFAR10C",
    "CIFAR100",
    "CORRUPTIONS",
    "DATAMODULES",
    "EVALUATION_SETS",
    "GROUPS",
    "SEGMENTATION_DATAMODULES",
    "BreastUltrasoundDataModule",
    "CIFAR10DataModule",
    "CTVolumesDataModule",
    "CovidCTDataModule",
    "DatasetCorruptError",
    "DatasetNotFoundError",
    "DigitsDataModule",
    "EvaluationSet",
    "ImageArrays",
    "ImageDataModule",
    "MNISTDataModule",
    "OwnImagesDataModule",
    "OwnMasksDataModule",
    "PH2DataModule",
    "PhantomDataModule",
    "Places365",
    "STL10DataModule",
    "SVHNDataModule",
    "SegmentationDataModule",
    "SkinLesionDataModule",
    "Suite",
    "Textures",
    "TinyImageNet",
    "corrupt",
    "load_suite",
    "own_module",
    "phantom_images",
    "renormalized",
    "uniform_noise",
]

"""Refuses networks, images and targets that do not match, in one line before the first step."""

from collections.abc import Sequence
from typing import Any, ClassVar

import lightning as L
import torch
from lightning.pytorch.strategies import DDPStrategy, SingleDeviceStrategy
from torch import Tensor, nn

from lit_scaledrop.functional.segmentation import IGNORE
from lit_scaledrop.posterior.any_network import kind_of, logits_in, two_classes


def require_logits(
    network: nn.Module, about: str, images: Tensor, whose: str, classes: int, pixels: Sequence[int]
) -> None:
    """Refuse a network that does not take images, or gives no logits of their classes.

    Args:
        network: is asked once, in evaluation mode; its modes and the random streams are left as they are.
        about: what it is called.
        images: a batch, of which two are looked at.
        whose: what they are called.
        classes: how many classes the targets have.
        pixels: height and width of the targets where these are masks, else nothing.

    Raises:
        ValueError: naming the network, the shape of the images, and what it says.
    """
    images = images[:2]
    weight = next(network.parameters(), None)
    if weight is not None and images.is_floating_point():
        images = images.to(weight.dtype)  # of a training in bfloat16 or float64
    modes = [(part, part.training) for part in network.modules()]
    try:
        with torch.random.fork_rng(devices=[images.device] if images.is_cuda else []), torch.no_grad():
            given = network.eval().forward(images)  # not its compiled form, which is made for whole batches
    except Exception as error:  # whatever another's code leads to
        size = " x ".join(map(str, images.shape[1:])) + " (channels, height, width)" * (images.dim() == 4)
        kind = "" if images.is_floating_point() else f" of {images.dtype}"
        raise ValueError(f"{about} does not accept the images of {whose}, {size}{kind}: {error}") from error
    finally:
        for part, mode in modes:
            part.training = mode
    shape, expected = tuple(two_classes(logits_in(given)).shape), (len(images), classes, *pixels)
    if shape != expected:
        masks = f" and masks of {' x '.join(map(str, pixels))} pixels" if pixels else ""
        of = f"{classes} classes (num_classes){masks}"
        raise ValueError(f"{about} gives {shape} for {len(images)} images, and {whose} has {of}: {expected}")


def require_batch(batch: Any, classes: int, masks: bool) -> tuple[Tensor, Tensor]:
    """Images and targets of a batch, as they are where they can be trained on.

    Args:
        batch: what a loader gives.
        classes: how many classes the network tells apart.
        masks: whether the targets are to be masks, of one class a pixel.

    Raises:
        ValueError: saying what the batch has instead.
    """
    pair = isinstance(batch, list | tuple) and len(batch) == 2 and all(isinstance(part, Tensor) for part in batch)
    if not pair:
        raise ValueError(
            f"a batch must be a pair of images and targets, two tensors, but the loader gives {kind_of(batch)}"
        )
    images, target = batch
    if not masks and target.is_floating_point() and tuple(target.shape) == (len(images), classes):
        return images, target  # probabilities, as MixUp makes
    wanted = (len(images), *(images.shape[-2:] if masks else ()))
    kind = "a mask of its size" if masks else "a class"
    if tuple(target.shape) != wanted or target.is_floating_point():
        raise ValueError(
            f"each image has {kind}: the targets of a batch are integers of shape {wanted}, and the loader gives "
            f"{tuple(target.shape)} of {target.dtype} beside images of {tuple(images.shape)}"
        )
    counted = target[target != IGNORE] if masks else target
    if counted.numel() and not 0 <= int(counted.min()) <= int(counted.max()) < classes:
        raise ValueError(
            f"targets must be from 0 to {classes - 1}, as num_classes={classes} says, but the first batch has "
            f"{int(counted.min())} to {int(counted.max())}: set num_classes, or number the classes from 0"
        )
    return images, target


class FittingModule(L.LightningModule):
    """Looks at the first batch of each part, so that what does not fit is told in one line, not from within torch."""

    network: nn.Module
    has_masks: ClassVar[bool] = False
    """whether a target is a class for each pixel"""

    def on_train_batch_start(self, batch: Any, batch_idx: int) -> None:
        """Look at the first batch of the training."""
        self._look("train", batch)

    def on_validation_batch_start(self, batch: Any, batch_idx: int, dataloader_idx: int = 0) -> None:
        """Look at the first batch of the validation."""
        self._look("val", batch)

    def on_test_batch_start(self, batch: Any, batch_idx: int, dataloader_idx: int = 0) -> None:
        """Look at the first batch of the test."""
        self._look("test", batch)

    def _look(self, part: str, batch: Any) -> None:
        looked: set[str] = self.__dict__.setdefault("_looked_at", set())
        if part in looked:
            return
        looked.add(part)
        if part == "train" and getattr(self, "steps_per_call", 1) > 1:
            batch = [tensor[0] for tensor in batch]  # the batches of several steps
        classes = self.hparams["num_classes"]
        images, _ = require_batch(batch, classes, self.has_masks)
        if isinstance(self.trainer.strategy, SingleDeviceStrategy | DDPStrategy):  # others keep parts of a network
            pixels = images.shape[-2:] if self.has_masks else ()
            about = f"network {type(self.network).__name__!r}"
            require_logits(self.network, about, images, "this training", classes, pixels)

"""``scaledrop predict --ckpt_path CHECKPOINT --images FOLDER``: masks and uncertainty of your images.

Every image gets three PNG files of its own size, ``NAME_mask.png`` (class indices), ``NAME_uncertainty.png`` (grey,
predictive entropy from 0 to its maximum, log C) and ``NAME_overlay.png`` (the picture, the outline of the mask, the
uncertainty in colour), and a row in ``predictions.csv``. The network sees pictures as in its training: squeezed to its
training size, so that their aspect is not kept, or own pictures as it was asked for; its probabilities are brought back
to the picture's size (bilinear) before the most probable class is taken. What lies outside of a square that was cropped
has no prediction: all classes are equally probable there.
"""

import csv
import io
import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from datamodules.own.read import open_picture
from datamodules.pictures import OUTPUTS, Square, square_box, squared, standardized
from lit_scaledrop.deploy.open import LeftOut, begin, readable
from lit_scaledrop.modules.base import LitNetwork
from lit_scaledrop.naming import count
from lit_scaledrop.posterior.evaluation import Evaluation
from lit_scaledrop.posterior.posterior import PosteriorPredictive
from lit_scaledrop.progress import with_progress
from lit_scaledrop.results.atomic import write_atomic
from lit_scaledrop.results.text import cell
from lit_scaledrop.shapes import Float, Int, UInt8

BATCH = 16
_COLUMNS = ("file", "width", "height", "mean_entropy", "max_entropy", "mean_mutual_information", "mean_confidence")


@dataclass(frozen=True)
class SegmentedImage:
    """What a network says of one picture, at the picture's size."""

    path: Path
    picture: UInt8[np.ndarray, "height width 3"]
    probs: Float[Tensor, "classes height width"]
    """mean probabilities over the passes"""
    entropy: Float[Tensor, "height width"]
    """of the mean probabilities, nats"""
    mutual_information: float
    """mean over the pixels at the network's size, nats"""

    @property
    def mask(self) -> Int[Tensor, "height width"]:
        """Most probable class of each pixel."""
        return self.probs.argmax(0)

    @property
    def uncertainty(self) -> Float[Tensor, "height width"]:
        """Entropy as a share of its maximum."""
        return (self.entropy / math.log(len(self.probs))).clamp(0, 1)


def segment_folder(
    module: LitNetwork, about: dict[str, Any], images: Path, out: Path, evaluation: Evaluation, device: str = "auto"
) -> None:
    """Segment a folder of pictures, or one, and write what was found; ``about`` is that of ``open_trained``.

    Raises:
        FileNotFoundError: there is no picture.
        DatasetCorruptError: none of them is readable.
    """
    paths, posterior, where = begin(module, images, evaluation, device, out, "window" in about)
    out.mkdir(parents=True, exist_ok=True)
    names = _output_names(paths, images)
    table = io.StringIO()
    rows = csv.writer(table, lineterminator="\n")
    rows.writerow([*_COLUMNS, *(f"share({name})" for name in about["class_names"])])
    left_out, done = LeftOut(), []
    found = segment(posterior, paths, {"size": module.hparams["image_size"], **about}, where, left_out)
    try:
        for image in with_progress(found, "segmenting", len(paths)):
            name = names[image.path]
            _write_pictures(out / name, image)
            rows.writerow(_row(image, name, len(about["class_names"])))
            done.append(name)
    finally:  # also of what was done before it was stopped
        write_atomic(out / "predictions.csv", table.getvalue())
    left_out.require_others(done)
    print(f"{count(len(done), 'picture')}{left_out}: masks, uncertainty and overlays in {out}", flush=True)


def segment(
    posterior: PosteriorPredictive,
    paths: Sequence[Path],
    images: Mapping[str, Any],
    device: torch.device | str = "cpu",
    left_out: LeftOut | None = None,
) -> Iterator[SegmentedImage]:
    """Segment pictures one after the other, in batches.

    Args:
        posterior: of the network.
        paths: the pictures.
        images: of the training: ``size``, side of the square in pixels; ``mean`` and ``std`` of each channel, on the
            scale 0 to 1; ``square`` and ``window`` of own pictures, see :class:`datamodules.own.description.OwnData`.
        device: where the network is.
        left_out: notes files that are no readable pictures.

    Raises:
        DatasetCorruptError: a file is no readable picture, and nobody notes it; it names the file.
    """
    size, square, mean = images["size"], images.get("square", "squeeze"), images["mean"]
    channels, window = 3 if len(mean) == 3 else 1, images.get("window")
    for start in range(0, len(paths), BATCH):
        batch = paths[start : start + BATCH]
        part, pictures = readable(batch, lambda path: open_picture(path, channels, size, window), left_out)
        if not part:
            continue
        x = torch.from_numpy(np.stack([squared(picture, size, square) for picture, _ in pictures]))
        predictive = posterior(standardized(x, mean, images["std"]).to(device)).cpu()
        shape = (len(part), size, size)
        probs = predictive.mean.view(*shape, -1).movedim(-1, 1)
        information = predictive.mutual_information.view(shape).mean((1, 2)).tolist()
        for path, (picture, stored), own, nats in zip(part, pictures, probs, information, strict=True):
            width, height = stored
            full = _at_size(own, width, height, square)
            colours = np.asarray(picture.convert("RGB").resize(stored))
            yield SegmentedImage(path, colours, full, torch.special.entr(full).sum(0), nats)


def _at_size(
    probs: Float[Tensor, "classes side side"], width: int, height: int, square: Square
) -> Float[Tensor, "classes height width"]:
    """Probabilities of the pixels of a picture, of those of the square that it became."""
    left, top, right, bottom = (0, 0, width, height) if square == "squeeze" else square_box(width, height, square)
    full = F.interpolate(probs[None], (bottom - top, right - left), mode="bilinear", align_corners=False)[0]
    outside = (max(left, 0), max(width - right, 0), max(top, 0), max(height - bottom, 0))
    inside = full[:, max(-top, 0) : height - top, max(-left, 0) : width - left]
    return F.pad(inside, outside, value=1 / len(probs))


def overlay(image: SegmentedImage) -> UInt8[np.ndarray, "height width 3"]:
    """The picture in grey with the outline of the mask in green, and uncertainty as growing red."""
    grey = image.picture.mean(-1, keepdims=True).repeat(3, -1)
    share = image.uncertainty.numpy()[..., None]
    shown = grey * (1 - share) + np.array([230.0, 30.0, 30.0]) * share
    outline = _outline(image.mask, max(1, round(min(image.mask.shape) / 200)))
    shown[outline] = (40, 220, 90)
    return shown.round().astype(np.uint8)


def _outline(mask: Tensor, thickness: int) -> np.ndarray:
    """Pixels of any class but the background that touch another class."""
    values = mask[None, None].float()
    side = 2 * thickness + 1
    largest = F.max_pool2d(values, side, 1, thickness)
    smallest = -F.max_pool2d(-values, side, 1, thickness)
    return ((largest != smallest) & (values > 0))[0, 0].numpy()


def _write_pictures(stem: Path, image: SegmentedImage) -> None:
    from PIL import Image

    shades = (255 * image.uncertainty).round().byte().numpy()
    stem.parent.mkdir(parents=True, exist_ok=True)
    for what, pixels in zip(OUTPUTS, (image.mask.byte().numpy(), shades, overlay(image)), strict=True):
        Image.fromarray(pixels).save(stem.with_name(f"{stem.name}_{what}.png"))


def _row(image: SegmentedImage, name: str, classes: int) -> list[object]:
    height, width = image.mask.shape
    shares = torch.bincount(image.mask.flatten(), minlength=classes) / image.mask.numel()
    entropy, confidence = image.entropy, image.probs.amax(0).mean().item()
    numbers = (entropy.mean().item(), entropy.max().item(), image.mutual_information, confidence, *shares.tolist())
    return [cell(image.path.name if "/" not in name else name), width, height, *(f"{number:.6g}" for number in numbers)]


def _output_names(paths: Sequence[Path], images: Path) -> dict[Path, str]:
    """Path of each picture below the folder, without its suffix where that keeps the names apart."""
    below = [path.relative_to(images) if images.is_dir() else Path(path.name) for path in paths]
    stems = [str(path.with_suffix("")) for path in below]
    times = Counter(stems)
    return {path: str(name) if times[stem] > 1 else stem for path, name, stem in zip(paths, below, stems, strict=True)}

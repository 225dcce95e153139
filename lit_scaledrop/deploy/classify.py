"""``scaledrop predict --model resnet20-proposed --images FOLDER``: classes of your images, and how sure.

Pictures may have any size and mode: the square in their middle is reduced or enlarged to what the network was trained
on, within the border that it was trained with (MNIST's digits are 28 x 28 pixels and two zeros on every side). What is
written of each is in the help of the command, :mod:`lit_scaledrop.cli.predict`.
"""

import csv
import io
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from datamodules.own.read import open_picture
from datamodules.pictures import read_pictures, squared, standardized, with_channels
from lit_scaledrop.deploy.classified import ClassifiedImage, draw_sheet
from lit_scaledrop.deploy.open import LeftOut, begin, readable
from lit_scaledrop.modules.base import LitNetwork
from lit_scaledrop.naming import count
from lit_scaledrop.posterior.evaluation import Evaluation
from lit_scaledrop.posterior.posterior import PosteriorPredictive
from lit_scaledrop.posterior.predictive import Predictive
from lit_scaledrop.progress import with_progress
from lit_scaledrop.results.atomic import write_atomic
from lit_scaledrop.results.text import cell, plain

SIDE, BATCH, SHOWN, LEVEL = 32, 64, 40, 0.95
COLUMNS = ("file", "class", "confidence", "lower", "upper", "entropy", "mutual_information", "decision")


def classify_folder(
    module: LitNetwork,
    about: dict[str, Any],
    images: Path,
    out: Path,
    evaluation: Evaluation,
    device: str = "auto",
    figure: Path | None = None,
) -> None:
    """Classify a folder of pictures, or one, and write what was found; ``about`` is that of ``open_trained``.

    Raises:
        FileNotFoundError: there is no picture.
        DatasetCorruptError: none of them is readable.
    """
    paths, posterior, where = begin(module, images, evaluation, device, medical="window" in about)
    found: list[ClassifiedImage] = []
    left_out = LeftOut()
    file = out if out.suffix else out / "predictions.csv"
    try:
        seen = classify(posterior, paths, about, evaluation, where, left_out)
        found.extend(with_progress(seen, "classifying", len(paths)))
    finally:  # also what was done before it was stopped
        if found:
            file.parent.mkdir(parents=True, exist_ok=True)
            write_atomic(file, _csv(found, about["class_names"], images))
    left_out.require_others(found)
    _show(found, about["name"], images)
    if figure:
        draw_sheet(found, figure)
    accepted = sum(image.accepted for image in found)
    more = f", sheet {figure}" if figure else ""
    print(f"{count(len(found), 'picture')}, {accepted} accepted{left_out}: {file}{more}", flush=True)


def classify(
    posterior: PosteriorPredictive,
    paths: Sequence[Path],
    images: dict[str, Any],
    evaluation: Evaluation,
    device: torch.device | str = "cpu",
    left_out: LeftOut | None = None,
) -> Iterator[ClassifiedImage]:
    """Classify pictures one after the other, in batches.

    Args:
        posterior: of the network.
        paths: the pictures.
        images: ``mean``, ``std``, ``border`` and ``class_names`` of the training; ``size``, ``square`` and ``window``
            of own pictures.
        evaluation: quantile and threshold of the rule.
        device: where the network is.
        left_out: notes files that are no readable pictures.

    Raises:
        DatasetCorruptError: a file is no readable picture, and nobody notes it; it names the file.
    """
    border = images.get("border", 0)
    side, channels = images.get("size", SIDE) - 2 * border, len(images["mean"])

    def read(path: Path) -> Tensor:
        if "square" not in images:
            return with_channels(read_pictures([path], side), channels)
        picture, _ = open_picture(path, channels, side, images["window"])  # own pictures, as in their training
        return torch.from_numpy(squared(picture, side, images["square"]))[None]

    for start in range(0, len(paths), BATCH):
        part, found = readable(paths[start : start + BATCH], read, left_out)
        if not part:
            continue
        pixels = functional.pad(torch.cat(found), [border] * 4)
        x = standardized(pixels, images["mean"], images["std"])
        yield from _classified(
            posterior(x.to(device)).cpu(), part, with_channels(pixels, 3), images["class_names"], evaluation
        )


def _classified(
    predictive: Predictive, paths: Sequence[Path], pixels: Tensor, names: Sequence[str], evaluation: Evaluation
) -> Iterator[ClassifiedImage]:
    lower, upper = predictive.confidence_interval(LEVEL, "quantile")
    accepted = ~predictive.is_ood(evaluation.quantile, evaluation.threshold)
    for index, path in enumerate(paths):
        best = int(predictive.predicted_class[index])
        yield ClassifiedImage(
            path,
            pixels[index],
            names[best],
            predictive.mean[index],
            (lower[index, best].item(), upper[index, best].item()),
            predictive.predictive_entropy[index].item(),
            predictive.mutual_information[index].item(),
            bool(accepted[index]),
        )


def _csv(found: Sequence[ClassifiedImage], names: Sequence[str], folder: Path) -> str:
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow([*COLUMNS, *(f"p({name})" for name in names)])
    for image in found:
        table.writerow(
            [cell(image.below(folder)), cell(image.name), *image.row[1:], *(f"{p:.6g}" for p in image.probs.tolist())]
        )
    return text.getvalue()


def _show(found: Sequence[ClassifiedImage], data: str, folder: Path) -> None:
    from rich.console import Console
    from rich.table import Table

    title = f"classes of {plain(data)}; 95 % interval over the passes; H and I: entropy and mutual information, nats"
    table = Table(title=title)
    for column in ("file", "class", "confidence", "interval", "H", "I", "decision"):
        left = column in ("file", "class", "decision")
        table.add_column(column, justify="left" if left else "right", no_wrap=column != "file", overflow="fold")
    for image in found[:SHOWN]:
        numbers = (f"{image.confidence:.3f}", "{:.2f}-{:.2f}".format(*image.interval))
        nats = (f"{image.entropy:.2f}", f"{image.mutual_information:.3f}")
        style = None if image.accepted else "dim"
        table.add_row(plain(image.below(folder)), plain(image.name), *numbers, *nats, image.row[-1], style=style)
    Console(markup=False, emoji=False).print(table)  # names are words of others
    if len(found) > SHOWN:
        print(f"... and {len(found) - SHOWN} more in the CSV file")

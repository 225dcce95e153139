"""``scaledrop predict --images``: a trained network on your images, classified or segmented."""

from pathlib import Path
from typing import Annotated

from datamodules.own.medical import window_of
from lit_scaledrop.cli.command import call
from lit_scaledrop.deploy.classify import classify_folder
from lit_scaledrop.deploy.open import open_trained
from lit_scaledrop.deploy.segment import segment_folder
from lit_scaledrop.extras import extra
from lit_scaledrop.modules.segmenter import LitSegmenter
from lit_scaledrop.posterior.evaluation import Evaluation


def main(argv: list[str]) -> int:
    """Run ``scaledrop predict`` with ``argv`` behind it."""
    return call(predict, argv, "scaledrop predict")


def predict(
    *,
    model: Annotated[str, "--ckpt_path"],
    images: Path,
    out: Path = Path("predictions"),
    samples: int = 20,
    seed: int = 0,
    quantile: float = 0.1,
    threshold: float = 0.95,
    device: str = "auto",
    figure: Path | None = None,
    window: str | None = None,
) -> int:
    """Predict classes or masks of your images, with uncertainty.

    Images may have any size and mode. For a classifier the central square is resized to the training size; the output
    is a table and a CSV file with one row per image: class, confidence (mean probability over T stochastic forward
    passes) with its 95 % interval over the passes, entropy and mutual information in nats, whether the OOD rule (eq.
    26) accepts the prediction, and the probabilities of all classes. A segmentation network writes masks, uncertainty
    maps and overlays into the folder.

    Without --images, `scaledrop predict --ckpt_path FILE [--out FILE.csv]` writes the class probabilities of a
    checkpoint on the test set of its data; its flags are those of `scaledrop test --help`.

    Args:
        model: checkpoint, packed file, or a model's name.
        images: a folder of images (PNG, JPEG, BMP, WebP), or one file.
        out: output folder, or a .csv file.
        samples: number T of stochastic forward passes.
        seed: seed of the mask plan.
        quantile: quantile of the OOD rule.
        threshold: threshold of the OOD rule.
        device: auto, cpu or cuda.
        figure: file of a contact sheet of the classified images, PNG or SVG.
        window: intensity window of DICOM and NIfTI files: lung, soft, brain, bone, stored or LOW,HIGH, for a network
            trained with --images (default: that of its training).
    """
    if figure:
        extra("matplotlib", "--figure")
    module, about = open_trained(model)
    if window is not None:
        if "window" not in about:
            raise ValueError(f"--window is for DICOM and NIfTI files, and {model} was not trained with --images")
        about["window"] = window_of(window)
    evaluation = Evaluation(samples, seed, quantile=quantile, threshold=threshold)
    if isinstance(module, LitSegmenter):
        segment_folder(module, about, images, out, evaluation, device)
    else:
        classify_folder(module, about, images, out, evaluation, device, figure)
    return 0

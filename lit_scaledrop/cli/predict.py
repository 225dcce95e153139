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
    """Classes or masks of your images, and how sure the network is.

    Images may have any size and mode. For a classifier the square in the middle is brought to the size of its training;
    written are a table and, for every image, a row of a CSV file: class, confidence (mean probability over T passes)
    with its 95 % interval over the passes, entropy and mutual information in nats, whether the rule of eq. 26 accepts
    the prediction, and the probabilities of all classes. A segmentation network writes masks, uncertainty and overlays
    into the folder.

    Without --images, `scaledrop predict --ckpt_path FILE [--out FILE.csv]` writes the class probabilities of a
    checkpoint on the test set of its data; its flags are those of `scaledrop test --help`.

    Args:
        model: checkpoint, packed file, or a model's name.
        images: a folder of pictures (PNG, JPEG, BMP, WebP), or one.
        out: folder of what is written, or a .csv file.
        samples: passes T.
        seed: seed of the mask plan.
        quantile: of the rule.
        threshold: of the rule.
        device: auto, cpu or cuda.
        figure: a sheet of the classified pictures, PNG or SVG.
        window: which values of DICOM and NIfTI files become black and white, lung, soft, brain, bone, stored or
            LOW,HIGH, for a network that was trained on own pictures (default: that of its training).
    """
    if figure:
        extra("matplotlib", "--figure")
    module, about = open_trained(model)
    if window is not None:
        if "window" not in about:
            raise ValueError(f"--window is for DICOM and NIfTI files, and {model} was not trained on own pictures")
        about["window"] = window_of(window)
    evaluation = Evaluation(samples, seed, quantile=quantile, threshold=threshold)
    if isinstance(module, LitSegmenter):
        segment_folder(module, about, images, out, evaluation, device)
    else:
        classify_folder(module, about, images, out, evaluation, device, figure)
    return 0

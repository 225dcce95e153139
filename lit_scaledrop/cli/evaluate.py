"""``scaledrop evaluate``: metrics of a checkpoint's posterior predictive on a test set."""

import json
import shutil
import sys
from pathlib import Path
from textwrap import shorten
from typing import Any

import torch

from lit_scaledrop.cli.command import call
from lit_scaledrop.cli.own import of_folder, take_own
from lit_scaledrop.cli.words import replace_flag
from lit_scaledrop.deploy.open import from_pretrained
from lit_scaledrop.evaluation.evaluate import (
    data_for,
    data_sets,
    evaluate_network,
    normalized_test_set,
    renorm,
    require_match,
)
from lit_scaledrop.evaluation.on_chip import on_chip
from lit_scaledrop.posterior.drop_probability import set_drop_probability
from lit_scaledrop.posterior.evaluation import Evaluation
from lit_scaledrop.results.atomic import write_atomic
from lit_scaledrop.results.glossary import METRICS

_QUICK = Evaluation(execution="shared")
"""The numbers of the loop, in less time."""


def main(argv: list[str]) -> int:
    """Run ``scaledrop evaluate`` with ``argv`` behind it."""
    argv, own = take_own(argv)
    argv += ["--data", str(own.file)] if own else []
    words = replace_flag(argv, "--chip", lambda value: ["--chip" if value.isdigit() else "--chip-file", value])
    return call(evaluate, words, "scaledrop evaluate", without=("checkpoint",), known={"data": sorted(data_sets())})


def evaluate(
    checkpoints: list[str],
    *,
    data: str,
    evaluation: Evaluation = _QUICK,
    root: str | None = None,
    p: float | None = None,
    norm_images: int | None = None,
    device: str = "cuda" if torch.cuda.is_available() else "cpu",
    out: Path | None = None,
) -> int:
    """Print accuracy, calibration and uncertainty of a trained network on a test set, from T stochastic forward passes.

    A terminal gets a table; a file or a pipe gets JSON, which has the settings as well.

    Args:
        checkpoints: checkpoint, packed file, or a packaged model; several form an ensemble.
        data: name of a data set, import path of your own data module, or --images with the same flags as in `fit`.
        evaluation: how the posterior is sampled.
        root: folder of the data; default: the environment variable DATA, or ./data.
        p: drop probability at test time, in place of the trained one.
        norm_images: re-estimate BatchNorm's running statistics under the masks of the evaluation, on this many training
            images (default: keep those of the training).
        device: where the network runs.
        out: write the JSON to this file as well.
    """
    if said := of_folder("--data", data, data_sets()):
        raise ValueError(said)
    models = [from_pretrained(name) for name in checkpoints]
    module = data_for(models[0], data, root, called=checkpoints[0])
    for path, model in zip(checkpoints, models, strict=True):
        require_match(path, model, module)
        if p is not None:
            set_drop_probability(model.network, p)
    if norm_images is not None:
        renorm([model.network for model in models], module, evaluation, norm_images, device)
    networks = on_chip([model.network.to(device) for model in models], evaluation, module, device)
    measured = models[0].test_metrics(evaluation)
    metrics, how = evaluate_network(networks, normalized_test_set(module), evaluation, measured, device)
    how.pop("checkpoint")
    record = {
        "checkpoints": [Path(path).name for path in checkpoints],
        "network": [model.hparams["network"] for model in models],
        "method": [model.hparams["method"] for model in models],
        "p": p,
        **({} if norm_images is None else {"norm_images": norm_images}),
        "data": {"name": module.name, "fingerprint": module.fingerprint(), "stand_in": module.stand_in},
        "evaluation": {**how, "quantile": evaluation.quantile, "threshold": evaluation.threshold},
        "metrics": metrics,
    }
    print(_table(record) if sys.stdout.isatty() else json.dumps(record, indent=2))
    if out:
        write_atomic(out, json.dumps(record, indent=2) + "\n")
    return 0


def _table(record: dict[str, Any]) -> str:
    """The metrics of a record, with what each of them is."""
    asked, width = record["evaluation"], max(map(len, record["metrics"]))
    room = max(shutil.get_terminal_size().columns - width - 12, 20)
    lines = [
        f"{', '.join(record['checkpoints'])}: {asked['images']} test images of {record['data']['name']}, "
        f"T = {asked['samples']}, {asked['seconds']:.0f} s\n"
    ]
    for key, value in record["metrics"].items():
        about = shorten(METRICS[key].description, room, placeholder=" ...") if key in METRICS else ""
        lines.append(f"{key:<{width}}{value:>10.4f}  {about}".rstrip())
    return "\n".join(lines)

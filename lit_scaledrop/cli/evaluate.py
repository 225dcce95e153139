"""``scaledrop evaluate``: a checkpoint's posterior on a test set; no checkpoint overrides a test-time setting."""

import json
from pathlib import Path
from typing import Any

import torch

import datamodules
from lit_scaledrop.cli.command import call
from lit_scaledrop.cli.flags import replace_flag
from lit_scaledrop.evaluation.checkpoint import load_trained
from lit_scaledrop.evaluation.evaluate import evaluate_network, normalized_test_set, renorm, require_match
from lit_scaledrop.evaluation.on_chip import on_chip
from lit_scaledrop.naming import lookup
from lit_scaledrop.posterior.drop_probability import set_drop_probability
from lit_scaledrop.posterior.evaluation import Evaluation
from lit_scaledrop.results.result import write_atomic


def main(argv: list[str]) -> int:
    """Run ``scaledrop evaluate`` with ``argv`` behind it."""
    words = replace_flag(argv, "--chip", lambda value: ["--chip" if value.isdigit() else "--chip-file", value])
    return call(evaluate, words, "scaledrop evaluate", without=("checkpoint",), known={"data": sorted(_data_sets())})


def evaluate(
    checkpoints: list[Path],
    *,
    data: str,
    evaluation: Evaluation,
    root: str | None = None,
    p: float | None = None,
    norm_images: int | None = None,
    device: str = "cuda" if torch.cuda.is_available() else "cpu",
    out: Path | None = None,
) -> int:
    """Print the posterior metrics of a checkpoint on a test set; no checkpoint overrides a test-time setting.

    Args:
        checkpoints: Lightning checkpoint; several are an ensemble.
        data: name of a data set.
        evaluation: how the posterior is asked.
        root: folder of the data; default: the environment variable DATA, or ./data.
        p: drop probability at test time, in place of the trained one.
        norm_images: BatchNorm's running statistics are estimated anew under the masks of the evaluation, on so many
            training images; by default they are those of the training.
        device: where the network runs.
        out: write the metrics to this JSON file as well.
    """
    kind = (known := _data_sets())[lookup("data set", data, known)]
    models = [load_trained(path) for path in checkpoints]
    size = models[0].hparams.get("image_size")
    module: Any = kind(root=root, **({} if size is None else {"image_size": size}))
    for path, model in zip(checkpoints, models, strict=True):
        require_match(path, model, module)
        if p is not None:
            set_drop_probability(model.network, p)
    if norm_images is not None:
        for member, model in enumerate(models):
            renorm(model.network, module, evaluation, norm_images, member, device)
    networks = on_chip([model.network.to(device) for model in models], evaluation, module, device)
    measured = models[0].test_metrics(evaluation)
    metrics, how = evaluate_network(networks, normalized_test_set(module), evaluation, measured, device)
    how.pop("checkpoint")
    record = {
        "checkpoints": [path.name for path in checkpoints],
        "network": [model.hparams["network"] for model in models],
        "method": [model.hparams["method"] for model in models],
        "p": p,
        **({} if norm_images is None else {"norm_images": norm_images}),
        "data": {"name": module.name, "fingerprint": module.fingerprint(), "stand_in": module.stand_in},
        "evaluation": {**how, "quantile": evaluation.quantile, "threshold": evaluation.threshold},
        "metrics": metrics,
    }
    print(json.dumps(record, indent=2))
    if out:
        write_atomic(out, json.dumps(record, indent=2) + "\n")
    return 0


def _data_sets() -> dict[str, Any]:
    """Every data set with a test set, as registered at this moment."""
    return {**datamodules.DATAMODULES, **datamodules.SEGMENTATION_DATAMODULES}

"""``scaledrop evaluate``: a checkpoint's posterior on a test set; no checkpoint overrides a test-time setting."""

import argparse
import json
from dataclasses import fields
from pathlib import Path
from typing import Any, get_args

import torch

import datamodules
from lit_scaledrop.evaluation.checkpoint import load_trained
from lit_scaledrop.evaluation.evaluate import evaluate_network, normalized_test_set
from lit_scaledrop.functional.uncertainty import Interpolation
from lit_scaledrop.naming import lookup
from lit_scaledrop.posterior.drop_probability import set_drop_probability
from lit_scaledrop.posterior.evaluation import Evaluation
from lit_scaledrop.posterior.plans import Scheme
from lit_scaledrop.posterior.posterior import Execution
from lit_scaledrop.posterior.variation import Redraw, Within
from lit_scaledrop.results.result import write_atomic


def build_parser() -> argparse.ArgumentParser:
    """Command line of ``scaledrop evaluate``."""
    help_of = {field.name: field for field in fields(Evaluation)}
    parser = argparse.ArgumentParser("scaledrop evaluate", description=__doc__)
    parser.add_argument("checkpoints", nargs="+", type=Path, help="Lightning checkpoint; several are an ensemble")
    known = ", ".join(sorted({**datamodules.DATAMODULES, **datamodules.SEGMENTATION_DATAMODULES}))
    parser.add_argument("--data", required=True, help=f"data set: {known}")
    parser.add_argument("--root", help="folder of the data; default: the environment variable DATA, or ./data")
    for name, kind, text in (
        ("samples", int, "passes T"),
        ("seed", int, "seed of the mask plan"),
        ("quantile", float, "quantile of the OOD rule"),
        ("threshold", float, "threshold of the OOD rule"),
    ):
        default = help_of[name].default
        parser.add_argument(f"--{name}", type=kind, default=default, help=f"{text} (default: %(default)s)")
    parser.add_argument(
        "--execution", choices=get_args(Execution), default="loop", help="how the passes are run (default: %(default)s)"
    )
    parser.add_argument("--scheme", choices=get_args(Scheme), default="iid", help="how they are drawn")
    parser.add_argument("--interpolation", choices=get_args(Interpolation), default="linear", help="of the quantile")
    parser.add_argument("--sigma", type=float, default=0.0, help="standard deviation of p (paper eq. 24)")
    parser.add_argument("--mtj", help="the junction whose spread moves p, e.g. sot_80nm, in place of --sigma")
    parser.add_argument("--redraw", choices=get_args(Redraw), default="use", help="p for each pass, or of one chip")
    parser.add_argument("--chip", type=int, default=0, help="seed of the finished chip")
    parser.add_argument("--within", choices=get_args(Within), default="clipped", help="how sigma stays in [0, 1]")
    parser.add_argument("--p", type=float, help="drop probability at test time, in place of the trained one")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--out", type=Path, help="write the metrics to this JSON file as well")
    return parser


def main(argv: list[str]) -> int:
    """Evaluate one checkpoint, or several as an ensemble, and print the metrics."""
    arguments = build_parser().parse_args(argv)
    evaluation = Evaluation(
        arguments.samples,
        arguments.seed,
        arguments.execution,
        arguments.quantile,
        arguments.threshold,
        arguments.interpolation,
        scheme=arguments.scheme,
        sigma=arguments.sigma,
        mtj=arguments.mtj,
        redraw=arguments.redraw,
        chip=arguments.chip,
        within=arguments.within,
    )
    known = {**datamodules.DATAMODULES, **datamodules.SEGMENTATION_DATAMODULES}
    kind = known[lookup("data set", arguments.data, known)]
    models = [load_trained(path) for path in arguments.checkpoints]
    size = models[0].hparams.get("image_size")
    module: Any = kind(root=arguments.root, **({} if size is None else {"image_size": size}))
    for path, model in zip(arguments.checkpoints, models, strict=True):
        expected = (model.hparams["in_channels"], model.hparams["num_classes"])
        if expected != (module.in_channels, module.num_classes):
            raise ValueError(
                f"{path} takes {expected[0]} channels and tells {expected[1]} classes apart; "
                f"{module.name} has {module.in_channels} and {module.num_classes}"
            )
        if arguments.p is not None:
            set_drop_probability(model.network, arguments.p)
    metrics, how = evaluate_network(
        [model.network for model in models],
        normalized_test_set(module),
        evaluation,
        models[0].test_metrics(evaluation),
        arguments.device,
    )
    how.pop("checkpoint")
    record = {
        "checkpoints": [path.name for path in arguments.checkpoints],
        "network": [model.hparams["network"] for model in models],
        "method": [model.hparams["method"] for model in models],
        "p": arguments.p,
        "data": {"name": module.name, "fingerprint": module.fingerprint(), "stand_in": module.stand_in},
        "evaluation": {**how, "quantile": evaluation.quantile, "threshold": evaluation.threshold},
        "metrics": metrics,
    }
    print(json.dumps(record, indent=2))
    if arguments.out:
        write_atomic(arguments.out, json.dumps(record, indent=2) + "\n")
    return 0

"""What stands in for real trainings: a tiny one, and programs in place of the points of a sweep."""

import json
from pathlib import Path

import pytest

TINY = """
run: {profile: quick, study: tiny, tracking: disabled}
data:
  class_path: CIFAR10DataModule
  init_args: {batch_size: 32, checksums: recorded, augment: crop, flip: true}
model:
  class_path: lit_scaledrop.modules.LitClassifier
  init_args: {network: lenet5, width: 0.5, lr: 0.01}
trainer: {max_epochs: 2, accelerator: cpu}
evaluation: {samples: 3}
"""
FIT = ("fit", "--config", "tiny.yaml")

# What `lit_scaledrop.cli.fit.planned_result` is for real flags; also read by the programs in place of a training.
PLAN = """
import hashlib, pathlib
def plan(flags):
    given = dict(flag.split("=", 1) for flag in flags if "=" in flag)
    folder = given.pop("--run.results", "results")
    given.pop("--run.runs", None)
    if "--bad" in given: raise SystemExit(2)
    id = hashlib.sha256(repr(sorted(given.items())).encode()).hexdigest()[:12]
    return pathlib.Path(folder, "quick", "s", id + ".json")
"""
RESULT = json.dumps(
    {
        "id": "0" * 12, "study": "s", "profile": "quick", "network": "n", "method": "m", "label": "M", "bits_w": 1,
        "bits_a": 1, "bayesian": True, "seed": 1, "schema": 1, "config": {}, "metrics": {"cls/acc": 0.5},
        "data": dict.fromkeys(("name", "fingerprint", "source"), "d")
        | {"train": 1, "val": 1, "test": 1, "stand_in": True},
        "training": dict.fromkeys(("epochs", "seconds", "best_epoch", "val_acc"), 1)
        | {"device": "cpu", "precision": "32", "compiled": False},
        "evaluation": {"samples": 1, "seed": 0, "execution": "loop", "checkpoint": "best", "seconds": 1},
        "provenance": dict.fromkeys(("commit", "command", "started", "finished"), "x")
        | {"dirty": False, "versions": {}},
    }
)  # fmt: skip
"""A valid one."""


def plan(flags: list[str]) -> Path:
    scope: dict = {}
    exec(PLAN, scope)
    return scope["plan"](flags)


def sweep_folder(folder: Path, patch: pytest.MonkeyPatch, **files: str) -> Path:
    """A current folder with a light program in place of a training, and the plan of its flags."""
    patch.chdir(folder)
    for name in ("PROFILE", "OMP_NUM_THREADS", "CUDA_VISIBLE_DEVICES", "WANDB_RUN_GROUP"):
        patch.delenv(name, raising=False)
    (folder / "here").mkdir()
    for name, text in {"here/plan": PLAN, **files}.items():
        (folder / f"{name}.py").write_text(text)
    (folder / "template.json").write_text(RESULT)
    return folder

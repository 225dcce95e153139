"""``--budget 9m``: chooses the number of epochs that fit into a time, before an ordinary training.

It is at most that of the profile. The speed is measured on a throw-away network. The number is stored with the runs:
the same command with the same budget continues with it, whatever the load of the machine.
"""

import json
import re
import sys
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from lit_scaledrop.modules.stepping import WARM_UP, Stepper
from lit_scaledrop.naming import count
from lit_scaledrop.results.atomic import write_atomic
from lit_scaledrop.results.reading import read_json
from lit_scaledrop.runs.identity import run_identity
from lit_scaledrop.runs.plan import RunPlan

MARGIN = 0.05
"""Share of the budget that is left free: no machine keeps its pace."""
STEPS, SECONDS = 40, 5.0
"""Steps that are timed, or as many as fit into the seconds."""
_UNITS = {"h": 3600, "m": 60, "s": 1, "": 1}


@dataclass(frozen=True)
class Speed:
    """What was measured, in seconds."""

    start: float
    """building, loading and compiling, which the training does once more"""
    epoch: float
    """steps and validation"""
    evaluation: float
    """all passes over the test set"""

    def epochs(self, seconds: float) -> int:
        """Whole epochs that fit.

        Raises:
            ValueError: if not one does.
        """
        left = (1 - MARGIN) * seconds - 2 * self.start - self.evaluation
        if left < self.epoch:
            needed = (2 * self.start + self.evaluation + self.epoch) / (1 - MARGIN)
            raise ValueError(
                f"--budget {duration(seconds)} is too short for one epoch: {duration(needed)} are needed here, "
                f"{self.start:.0f} s to begin, {self.epoch:.1f} s for an epoch, {self.evaluation:.0f} s to evaluate"
            )
        return int(left / self.epoch)


def seconds_of(text: str) -> float:
    """Seconds of a time such as ``9m``, ``1h30m``, ``90s`` or ``90``.

    Raises:
        ValueError: for anything else.

    >>> seconds_of("9m"), seconds_of("1h30m"), seconds_of("90")
    (540.0, 5400.0, 90.0)
    """
    parts = re.findall(r"(\d+(?:\.\d+)?)([hms]?)", text)
    total = sum(float(number) * _UNITS[unit] for number, unit in parts)
    if "".join(number + unit for number, unit in parts) != text or total <= 0:
        raise ValueError(f"--budget takes a time such as 9m, 1h30m or 90s, not {text!r}")
    return total


def duration(seconds: float) -> str:
    """A time in its two largest units.

    >>> duration(540.0), duration(5430.0), duration(12.3)
    ('9m', '1h30m', '13s')
    """
    whole = -int(-seconds // 1)
    hours, minutes, rest = whole // 3600, whole // 60 % 60, whole % 60
    parts = [(hours, "h"), (minutes, "m"), (rest if not hours else 0, "s")]
    return "".join(f"{number}{unit}" for number, unit in parts if number) or "0s"


def epochs_within(plan: RunPlan, seconds: float, asked: float | None = None) -> int:
    """Epochs of a planned training for a budget: those decided before, or as many as the measured speed allows.

    Args:
        plan: of ``scaledrop fit`` without the budget.
        seconds: that the training may take, with its evaluation.
        asked: the budget on the command line, of which this one is a share; it names the decision.

    Raises:
        ValueError: if the budget is too short, or there is no schedule to fit into it.
    """
    asked = seconds if asked is None else asked
    _require_schedule(plan)
    trainer = {**plan.config["trainer"], "max_epochs": None}
    key = run_identity({**plan.config, "trainer": trainer}, plan.method)
    most = plan.config["trainer"]["max_epochs"]
    path = Path(plan.run.runs) / plan.run.profile / plan.run.study / "budgets" / f"{key}-{asked:.0f}s.json"
    with suppress(OSError, ValueError, LookupError, TypeError):  # none yet, or none that says it: it is decided anew
        return int(read_json(path)["epochs"])
    speed = measure(plan)
    epochs = speed.epochs(seconds)
    epochs = epochs if most is None or most < 0 else min(epochs, most)
    every = trainer["check_val_every_n_epoch"] or 1
    epochs -= epochs % every if epochs > every else 0  # the last epoch is one that is validated
    decided = {"epochs": epochs, "budget_s": seconds, "epoch_s": speed.epoch, "start_s": speed.start}
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomic(path, json.dumps(decided | {"evaluation_s": speed.evaluation}))
    print(
        f"scaledrop: {count(epochs, 'epoch')} of {speed.epoch:.2f} s fit into {duration(seconds)}",
        file=sys.stderr,
        flush=True,
    )
    return epochs


def _require_schedule(plan: RunPlan) -> None:
    trainer, model = plan.config["trainer"], plan.config["model"]["init_args"]
    problem = ""
    if model.get("schedule", "cosine") == "constant":
        problem = "a constant learning rate does not depend on the length of the training: add --model.schedule=cosine"
    elif str(trainer["devices"]) not in ("1", "auto") or trainer["num_nodes"] != 1:
        problem = "the speed is measured on one device: remove --trainer.devices and --trainer.num_nodes"
    elif plan.method is not None and plan.method.members > 1:
        problem = "an ensemble is several trainings: give its members a budget by `scaledrop sweep --budget`"
    if problem:
        raise ValueError(f"--budget: {problem}")


def measure(plan: RunPlan) -> Speed:
    """Build what is planned, take some steps, and time them; nothing of it is kept."""
    begun = time.perf_counter()
    with torch.random.fork_rng():
        built = plan.build()
        model, data, settings = built["model"], built["data"], plan.config["trainer"]
        data.setup("fit")
        accelerator = str(settings["accelerator"])
        on_cuda = torch.cuda.is_available() and accelerator in ("auto", "gpu", "cuda")
        device = torch.device("cuda" if on_cuda else "cpu")
        bf16 = str(settings["precision"]).startswith("bf16")
        network = model.network.to(device).train()
        optimizer = torch.optim.SGD(network.parameters(), 1e-3, momentum=0.9, fused=on_cuda)
        stepper = Stepper(network, model.objective, optimizer, model.hparams["capture"], device)
        loader = data.train_dataloader()
        batch = _on(data.on_after_batch_transfer(next(iter(loader)), 0), device)

        def run(steps: int, limit: float = float("inf")) -> float:
            """Seconds a step."""
            _wait(device)
            start, taken = time.perf_counter(), 0
            while taken < steps and time.perf_counter() - start < limit:
                stepper.step(*batch)
                taken += 1
            _wait(device)
            return (time.perf_counter() - start) / taken

        with torch.autocast(device.type, torch.bfloat16, enabled=bf16):
            run(WARM_UP + 1)
            started = time.perf_counter() - begun
            step = run(STEPS, SECONDS)
            forward = _forward_seconds(model, data, device) if data.val_fraction else 0.0
    validated = len(data.val_set) / (settings["check_val_every_n_epoch"] or 1)
    passes = plan.evaluation.samples if plan.method is not None and plan.method.bayesian else 1
    return Speed(started, step * len(loader) + forward * validated, forward * passes * len(data.test_set))


@torch.no_grad()
def _forward_seconds(model: Any, data: Any, device: torch.device) -> float:
    """Seconds an image of an evaluation."""
    images, *_ = _on(data.on_after_batch_transfer(next(iter(data.val_dataloader())), 0), device)
    model.network.eval()
    model(images)
    _wait(device)
    start = time.perf_counter()
    for _ in range(3):
        model(images)
    _wait(device)
    return (time.perf_counter() - start) / 3 / len(images)


def _on(batch: Any, device: torch.device) -> tuple[torch.Tensor, ...]:
    return tuple(part.to(device) for part in batch)


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize()

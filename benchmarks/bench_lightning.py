"""The same optimizer steps in a bare loop and by the product under Lightning, one and several a call."""

from collections.abc import Callable
from functools import partial
from typing import Any

import lightning as L
import torch

from benchmarks.measure import by_group, table
from datamodules import DigitsDataModule
from lit_scaledrop.modules.classifier import LitClassifier
from lit_scaledrop.modules.objective import parameter_groups

TITLE = "Lightning against a loop"


# a network so small that only the host counts, and the paper's smallest
CASES = {"network": (("lenet5", "resnet20"),) * 2}


def bench_lightning(interleaved: Any, options: Any, network: str) -> None:
    """Whole trainings, with what they set up."""
    epochs = 1 if options.small or network == "resnet20" else 10
    steps = 2 if options.small else 40
    for fixture in interleaved(_fits(network, options.width, epochs, steps)).values():
        fixture.extra_info["steps"] = epochs * steps


def markdown(results: list[dict[str, Any]], options: Any) -> str:
    """Milliseconds a step, and the ratio to the loop."""
    rows: list[list[object]] = []
    for cases in by_group(results):
        base = next(iter(cases.values()))["median"]
        for name, case in cases.items():
            milliseconds = 1e3 * case["median"] / case["extra_info"]["steps"]
            rows.append([case["params"]["network"], name, milliseconds, case["median"] / base])
    return (
        f"Steps on batches of 32, width {options.width:g}, eager fp32, from loader to optimizer; a whole `fit` with "
        "what it sets up.\n\n" + table(["network", "who takes the steps", "ms a step", "times the loop"], rows)
    )


def _fits(network: str, width: float, epochs: int, steps: int) -> dict[str, Callable[[], object]]:
    def built(steps_per_call: int | None) -> tuple[LitClassifier, DigitsDataModule]:
        torch.manual_seed(0)
        model = LitClassifier(network, width=width, optimizer="sgd", lr=0.01, steps_per_call=steps_per_call)
        return model, DigitsDataModule(batch_size=32, augment="crop", flip=True, limit_train=32 * steps)

    def loop() -> None:
        model, data = built(None)
        data.setup("fit")
        model.train()
        optimizer = torch.optim.SGD(parameter_groups(model.network, 5e-5), 0.01, momentum=0.9, nesterov=True)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, epochs * steps)
        generator, loader = torch.Generator().manual_seed(0), data.train_dataloader()
        loader.finish = None  # as they are: the loop augments and normalizes
        for epoch in range(epochs):
            loader.batch_sampler.sampler.set_epoch(epoch)  # type: ignore[attr-defined]
            drawn = data.draw_augmentation(32 * steps, generator)
            for place, (images, target) in enumerate(loader):
                x = data.normalized(data.augmented(images, drawn.part(32 * place, 32)))
                optimizer.zero_grad()
                model.objective(x, target).backward()
                optimizer.step()
                schedule.step()

    def fit(steps_per_call: int | None) -> None:
        model, data = built(steps_per_call)
        quiet: dict[str, Any] = dict.fromkeys(
            ("logger", "enable_checkpointing", "enable_progress_bar", "enable_model_summary"), False
        )
        L.Trainer(max_epochs=epochs, accelerator="cpu", limit_val_batches=0, **quiet).fit(model, datamodule=data)

    return {
        "bare loop": loop,
        "Lightning, a step a call": partial(fit, None),
        "Lightning, 20 steps a call": partial(fit, 20),
    }

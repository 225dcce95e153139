"""Trained networks on the crossbars of a simulated chip, with calibrated converter ranges."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from hardware.cells import Imperfections
from hardware.mapping import Crossbar
from hardware.network import calibrate, on_crossbar
from lit_scaledrop.posterior.evaluation import Evaluation, build_posterior
from lit_scaledrop.posterior.posterior import PosteriorPredictive

CALIBRATION = 100
"""Training images that the converters' ranges are set on."""


def on_chip(
    networks: Sequence[nn.Module], evaluation: Evaluation, data: Any, device: torch.device | str = "cpu"
) -> list[nn.Module]:
    """The networks as an evaluation wants them: themselves, or on the chip of its chip file.

    Raises:
        ValueError: a chip file for networks that have no binary layer, or activations of several bits.
    """
    described = evaluation.described
    if described is None:
        return list(networks)
    data.setup("test")  # which loads the training images as well
    chips = fabricate(networks, described.chip.crossbar, described.cells, evaluation.chip, device)
    calibrate(nn.ModuleList(chips), calibration_batches(data, device), build_posterior(chips, evaluation))
    return chips


def chip_record(evaluation: Evaluation) -> dict[str, Any]:
    """What a result says of the chip that its networks were on, if any; no folder of this machine."""
    if evaluation.described is None:
        return {}
    described = evaluation.described
    name = Path(described.name).name
    return {"on_chip": {"file": name, "fingerprint": described.fingerprint, "number": evaluation.chip}}


def variation_record(evaluation: Evaluation, networks: Sequence[nn.Module]) -> dict[str, Any] | None:
    """What a result says of the drop probabilities that its networks had, if they were not the nominal ones."""
    varied = evaluation.variation_of(networks[0])
    return None if varied is None else varied.record()


def asked_record(
    posterior: PosteriorPredictive, evaluation: Evaluation, networks: Sequence[nn.Module]
) -> dict[str, Any]:
    """What a result says of how its posterior was asked."""
    return {
        "samples": posterior.num_samples,
        "seed": evaluation.seed,
        "execution": posterior.choice or evaluation.execution,
        "scheme": evaluation.scheme,
        "uncovered": posterior.uncovered,
        "variation": variation_record(evaluation, networks),
        **chip_record(evaluation),
        "checkpoint": evaluation.checkpoint,
    }


def fabricate(
    networks: Sequence[nn.Module],
    crossbar: Crossbar | None,
    cells: Imperfections,
    number: int,
    device: torch.device | str = "cpu",
) -> list[nn.Module]:
    """Networks on the crossbars of finished chip ``number``: chips of one number have the same random devices.

    Raises:
        ValueError: a network has no binary layer, or weights that are drawn at random.
    """
    devices, noise = (torch.Generator().manual_seed(number + 1000 * kind) for kind in range(2))
    return [on_crossbar(network, crossbar, cells, devices, noise=noise).to(device) for network in networks]


def calibration_batches(data: Any, device: torch.device | str = "cpu") -> list[Tensor]:
    """Training images, normalized, that the ranges of converters are set on."""
    images = data.train_set.__getitems__(range(min(CALIBRATION, len(data.train_set))))[0]
    return [data.normalized(batch).to(device) for batch in images.split(data.eval_batch_size)]

"""Measures a trained network in digital and on several simulated chips, on the same images and masks."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from statistics import mean, stdev
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from hardware.chip_file import ChipFile, load_chip
from hardware.chip_lines import explain
from lit_scaledrop.chip.energy import Estimate, estimate_energy
from lit_scaledrop.evaluation.on_chip import on_chip
from lit_scaledrop.evaluation.probes.subject import Subject
from lit_scaledrop.functional.calibration import calibration_bins
from lit_scaledrop.posterior.evaluation import Evaluation
from lit_scaledrop.results import provenance
from lit_scaledrop.shapes import Float

if TYPE_CHECKING:
    from datamodules import ImageDataModule

#: inputs that should be detected: noise, which needs no data set
SUITE = "uniform"
#: bins of the reliability diagram
BINS = 10
NAMES = {
    "cls/acc": "accuracy",
    "cls/nll": "NLL",
    "cal/ece": "calibration error (ECE)",
    "unc/mutual_information": "mutual information",
    "ood/rate": "clean images rejected (eq. 26)",
    f"{SUITE}/ood/rate": "noise rejected (eq. 26)",
}
"""What is shown, by metric."""


@dataclass(frozen=True)
class Measured:
    """One network, digital or on one finished chip."""

    metrics: dict[str, float]
    """by the names of :data:`NAMES`"""
    bins: Float[torch.Tensor, "bins 3"]
    """sums of the reliability diagram: images, confidences, correct ones"""


@dataclass(frozen=True)
class ChipReport:
    """A chip, a network on it, and the network itself."""

    chip: ChipFile
    digital: Measured
    on_chips: Sequence[Measured]
    """finished chips 0, 1, ..."""
    energy: Estimate
    images: int
    passes: int
    """T"""

    def rows(self) -> list[tuple[str, str, str]]:
        """Name, digital and on chip, as text: the mean over the chips, with their deviation where there are several."""
        found = []
        for key, name in NAMES.items():
            chips = [one.metrics[key] for one in self.on_chips]
            spread = f" ± {stdev(chips):.3f}" if len(chips) > 1 else ""
            found.append((name, f"{self.digital.metrics[key]:.3f}", f"{mean(chips):.3f}{spread}"))
        return found

    def record(self, data: "ImageDataModule", network: str, seed: int) -> dict[str, Any]:
        """Numbers, and what they are of: chip, data, passes, seed, code."""
        report, (commit, dirty) = self.energy.report(), provenance.commit()
        return {
            "chip": {
                "fingerprint": self.chip.fingerprint,
                "values": {line.name: line.value for line in explain(self.chip)},
            },
            "network": network,
            "data": {"name": data.name, "fingerprint": data.fingerprint(), "stand_in": data.stand_in},
            "images": self.images,
            "passes": self.passes,
            "seed": seed,
            "digital": self.digital.metrics,
            "on_chips": [one.metrics for one in self.on_chips],
            "energy_pj": {entry.component: entry.energy_pj for entry in report.by_component()},
            "latency_ns": report.latency_ns,
            "area_um2": report.area_um2,
            "commit": commit,
            "dirty": dirty,
            "versions": provenance.versions(),
        }


def report_chip(
    network: nn.Module,
    data: "ImageDataModule",
    chip_file: str,
    evaluation: Evaluation,
    chips: int = 3,
    limit: int | None = None,
    device: torch.device | str = "cpu",
    on_batch: Callable[[int, int], None] | None = None,
) -> ChipReport:
    """Measure a network, digital and on the finished chips 0 to ``chips - 1``; ``on_batch`` hears of the images done.

    Raises:
        ValueError: a chip that cannot be, or that cannot hold the network.
    """
    if chips < 1:
        raise ValueError(f"at least one chip is needed, not {chips}")
    described = load_chip(chip_file)

    def measure(evaluation: Evaluation) -> Measured:
        networks = on_chip([network.to(device)], evaluation, data, device)
        return _measured(Subject(networks, data, evaluation, device, limit, on_batch))

    shape = tuple(data.test_set[0][0].shape)
    energy = estimate_energy(network.cpu(), shape, evaluation.samples, described.chip)
    digital = measure(evaluation)
    finished = [measure(replace(evaluation, chip_file=chip_file, chip=number)) for number in range(chips)]
    images = int(digital.bins[:, 0].sum())
    return ChipReport(described, digital, finished, energy, images, energy.passes)


def _measured(subject: Subject) -> Measured:
    _, labels, prediction = subject.clean()
    metrics = subject.classification(prediction, labels)
    suite = subject.suite(SUITE)
    noise = subject.uncertainty(subject.predict(suite.images, suite.normalized))
    metrics[f"{SUITE}/ood/rate"] = noise["ood/rate"]
    return Measured({name: metrics[name] for name in NAMES}, calibration_bins(prediction.mean, labels, BINS))

"""The design space of a chip: passes, converter bits, crossbar rows, mapping, execution against accuracy and energy.

A part is a chip: converter bits, crossbar rows, mapping. Its accuracy and likelihood are those of the first T of 20
passes; energy, latency and area those of T passes in every execution, all with the same predictions. Everything else is
as in the evaluation's chip file, or in the default chip, whose cells are ideal, so that only converters change the
accuracy. Energies are for the measured network at its width.
"""

import itertools
from dataclasses import replace
from typing import Any, get_args
from weakref import WeakKeyDictionary

from torch import nn

from hardware.chip_file import ChipFile, load_chip
from hardware.mapping import Crossbar, Mapping
from hardware.network import calibrate
from hardware.passes import Execution
from lit_scaledrop.chip.energy import Estimate, energy_totals, estimate_energy
from lit_scaledrop.evaluation.on_chip import calibration_batches, fabricate
from lit_scaledrop.evaluation.probes.passes import prefix_metrics
from lit_scaledrop.evaluation.probes.subject import Subject
from lit_scaledrop.posterior.evaluation import Evaluation
from lit_scaledrop.results.measurement import Coordinates, Measurement

DEFAULT = "sot_80nm"
PASSES = (1, 2, 5, 10, 20)
BITS = (3, 4, 5, 6, 8)
"""Of these those that the chip's converter comes in."""
ROWS = (64, 128, 256)


def constants(evaluation: Evaluation) -> dict[str, Any]:
    """What the numbers follow from beside the parts' coordinates: the default chip, where no other is named."""
    return {} if evaluation.chip_file else {"chip": load_chip(DEFAULT).fingerprint}


def parts(subject: Subject) -> dict[str, Coordinates]:
    """Chips of all bits, rows and mappings."""
    converter = _base(subject).chip.converter
    chips = itertools.product(get_args(Mapping), ROWS, [bits for bits in BITS if converter.comes_in(bits)])
    return {
        f"{mapping}/{rows}/{bits}": {"mapping": mapping, "rows": rows, "bits": bits} for mapping, rows, bits in chips
    }


def measure(subject: Subject, at: Coordinates) -> list[Measurement]:
    """Accuracy and likelihood by passes; energy, latency and area by passes and execution.

    Raises:
        ValueError: the subject is an ensemble, or a network that no crossbar holds.
    """
    subject.require_one_network("pareto")
    described = chip_of(subject, at)
    chips = fabricate(subject.networks, described.chip.crossbar, described.cells, subject.evaluation.chip)
    chip = subject.asked(subject.evaluation, networks=chips)
    plan = chip.independent(samples=max(PASSES))
    calibrate(nn.ModuleList(plan.networks), calibration_batches(subject.data, subject.device), plan.posterior())
    images, labels = subject.test_images
    rows = prefix_metrics(plan.predict(images), labels)
    found = [Measurement(rows[passes - 1], {"passes": passes}) for passes in PASSES]
    for (passes, execution), estimate in _estimates(subject).items():
        report = replace(estimate, chip=described.chip).report()
        found.append(Measurement(energy_totals(report), {"passes": passes, "execution": execution}))
    return found


def _estimates(subject: Subject) -> dict[tuple[int, Execution], Estimate]:
    """What the passes ask of any chip, counted once for all parts."""
    if subject not in _COUNTED:
        network, shape = subject.networks[0], tuple(subject.data.test_set[0][0].shape)
        pairs = itertools.product(PASSES, get_args(Execution))
        _COUNTED[subject] = {(t, how): estimate_energy(network, shape, t, execution=how) for t, how in pairs}
    return _COUNTED[subject]


_COUNTED: WeakKeyDictionary[Subject, dict[tuple[int, Execution], Estimate]] = WeakKeyDictionary()


def chip_of(subject: Subject, at: Coordinates) -> ChipFile:
    """The chip of a part."""
    base = _base(subject)
    crossbar = Crossbar(int(at["rows"]), base.chip.crossbar.columns, base.chip.crossbar.columns_per_adc, at["mapping"])  # type: ignore[arg-type]
    bits = int(at["bits"])
    chip = replace(base.chip, crossbar=crossbar, adc_bits=bits)
    return replace(base, chip=chip, cells=replace(base.cells, adc_bits=bits))


def _base(subject: Subject) -> ChipFile:
    return subject.evaluation.described or load_chip(DEFAULT)

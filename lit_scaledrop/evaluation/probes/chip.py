"""Hardware in the loop: accuracy and OOD detection with the binary layers on non-ideal crossbars.

===========================  ===========================================================================================
part
===========================  ===========================================================================================
``digital``                  the network itself
``ideal``                    nominal devices, converters that resolve all sums of a tile: equal to the digital network
``adc/BITS``                 converters with this number of bits
``conductance/CV/CHIP``      every device's conductance log-normal with this coefficient of variation
``stuck/SHARE/CHIP``         this share of the devices stuck, half of them in either state
``wire/OHM``                 this resistance of a line between two complementary cells
``offset/MATCHES/CHIP``      converters with offsets of this standard deviation
``noise/MATCHES/CHIP``       noise of this standard deviation at each read of a converter
``reference/CV/CHIP``        as ``conductance``, and the devices of the reference columns vary as well
``recovered/CV/CHIP``        the chips of ``reference``, recovered (:mod:`hardware.recovery`)
``combined/CHIP``            all effects together, :data:`COMBINED`
``combined_recovered/CHIP``  the chips of ``combined``, recovered
===========================  ===========================================================================================

Unless varied, converters have the bits of ``ideal``. The range of each is set per chip to the extremes of its columns
over all passes on training images. Recovery sees the same
images: offsets and gains trimmed, :data:`SPARE_COLUMNS` spare columns a tile, BatchNorm corrected. Chips of one number
have the same random devices at all strengths and in all networks of one shape. What no crossbar holds (first and last
layer, scales, BatchNorm, skips) is digital, and the masks are those of the digital network: all differences are the
crossbars'.
"""

from dataclasses import replace
from typing import TYPE_CHECKING, Any, cast

import torch
from torch import nn

from lit_scaledrop.evaluation.on_chip import CALIBRATION, calibration_batches, fabricate
from lit_scaledrop.evaluation.probes.subject import Subject
from lit_scaledrop.metrics.ood import ood_metrics
from lit_scaledrop.posterior.evaluation import Evaluation, build_posterior
from lit_scaledrop.posterior.execution import Execution
from lit_scaledrop.results.measurement import Coordinates, Measurement

if TYPE_CHECKING:
    from hardware.cells import Imperfections

ADC_BITS = (7, 6, 5, 4, 3, 2)
CONDUCTANCE_CV = (0.05, 0.1, 0.2, 0.3)
STUCK = (0.001, 0.01, 0.03)
WIRE_OHM = (1.0, 3.0, 10.0)
CONVERTER_MATCHES = (1.0, 2.0)
"""Offsets and noise of converters; a match is a step where they have the bits of ``ideal``."""
REFERENCE_CV = (0.1, 0.2)
SPARE_COLUMNS = 4
CHIPS = 3
COMBINED = {"adc_bits": 6, "conductance_cv": 0.05, "stuck_p": 0.0005, "stuck_ap": 0.0005, "wire_ohm_per_cell": 1.0}
"""The variation is that of the device preset ``sot_80nm``; bits, stuck devices and wires are assumed."""
SUITE = "uniform"
"""Inputs that should be detected: noise, which needs no data set."""


def constants(_evaluation: Evaluation) -> dict[str, Any]:
    """What the numbers follow from beside the parts' coordinates."""
    from hardware.crossbar import CROSSBAR_MODEL

    return {"crossbar_model": CROSSBAR_MODEL}


def parts(subject: Subject) -> dict[str, Coordinates]:
    """The network, and its chips.

    Raises:
        ValueError: the evaluation names a chip of its own.
    """
    if subject.evaluation.chip_file is not None:
        raise ValueError(
            "the probe hardware defines its own chips: use `scaledrop chip report` or --probe pareto with a chip file"
        )
    chips = range(1, CHIPS + 1)
    found: list[dict[str, str | int | float]] = [{"effect": "digital"}, {"effect": "ideal"}]
    found += [{"effect": "adc", "level": float(bits)} for bits in ADC_BITS]
    found += [{"effect": "conductance", "level": cv, "chip": chip} for cv in CONDUCTANCE_CV for chip in chips]
    found += [{"effect": "stuck", "level": share, "chip": chip} for share in STUCK for chip in chips]
    found += [{"effect": "wire", "level": ohm} for ohm in WIRE_OHM]
    pairs = [(effect, level) for effect in ("offset", "noise") for level in CONVERTER_MATCHES]
    pairs += [(effect, cv) for effect in ("reference", "recovered") for cv in REFERENCE_CV]
    found += [{"effect": effect, "level": level, "chip": chip} for effect, level in pairs for chip in chips]
    found += [{"effect": effect, "chip": chip} for effect in ("combined", "combined_recovered") for chip in chips]
    return {"/".join(v if isinstance(v, str) else f"{v:g}" for v in at.values()): at for at in found}


def measure(subject: Subject, at: Coordinates) -> list[Measurement]:
    """Accuracy, likelihood, calibration; detection of noise; how much is as in the digital network.

    Raises:
        ValueError: a network has no binary layer, or weights that are drawn at random.
    """
    chip = on_chip(subject, at)
    _, labels, prediction = chip.clean()
    suite = subject.suite(SUITE)
    detection = ood_metrics(prediction, chip.predict(suite.images, suite.normalized), **subject.rule)
    digital = subject.clean()[2]
    same = prediction.logits == digital.logits
    agreement = {
        "hw/same_logits": same.all(-1).all(0).double().mean().item(),
        "hw/same_class": (prediction.predicted_class == digital.predicted_class).double().mean().item(),
    }
    detected = {name: value for name, value in detection.items() if name.startswith(("ood/rate", "ood/auroc"))}
    return [
        Measurement({**chip.classification(prediction, labels), **agreement}),
        Measurement(detected, {"suite": SUITE}),
    ]


def on_chip(subject: Subject, at: Coordinates) -> Subject:
    """The same run with its networks on the chip of a part, which is ready for use."""
    from hardware.network import calibrate
    from hardware.recovery import recover

    number = int(at.get("chip", 0))
    networks = fabricate(subject.networks, None, imperfections(at), number)
    if at["effect"] == "digital":
        return subject  # after it is known that a crossbar can hold it
    subject.clean()  # chooses the execution, so that equal networks come out equal to the last bit
    evaluation = replace(subject.evaluation, execution=cast(Execution, subject.posterior().choice))
    chip = subject.asked(evaluation, networks=networks)
    if at["effect"] != "ideal":
        batches = calibration_batches(subject.data, subject.device)
        made, run = nn.ModuleList(networks), chip.posterior()
        if str(at["effect"]).endswith("recovered"):
            # all passes over all images in one call, so that BatchNorm is corrected in one run
            how = "folded" if evaluation.execution == "loop" else evaluation.execution
            together, images = replace(evaluation, execution=how), torch.cat(batches)
            rows = {"row_budget": max(CALIBRATION, len(images)) * evaluation.samples}
            run, digital_run = (build_posterior(n, together, **rows) for n in (networks, subject.networks))
            digital, spares = nn.ModuleList(subject.networks), torch.Generator().manual_seed(number + 2000)
            recover(made, digital, [images], run, digital_run, spare_columns=SPARE_COLUMNS, generator=spares)
        else:
            calibrate(made, batches, run)
    return chip


def imperfections(at: Coordinates) -> "Imperfections":
    """What is not ideal on the chip of a part."""
    from hardware.cells import Imperfections
    from hardware.mapping import Crossbar, exact_adc_bits

    level = float(at.get("level", 0))
    real_reference = {"conductance_cv": level, "real_reference": True}
    changes: dict[str, dict[str, Any]] = {
        "adc": {"adc_bits": int(level)},
        "conductance": {"conductance_cv": level},
        "stuck": {"stuck_p": level / 2, "stuck_ap": level / 2},
        "wire": {"wire_ohm_per_cell": level},
        "offset": {"adc_offset_matches": level},
        "noise": {"adc_noise_matches": level},
        "reference": real_reference,
        "recovered": real_reference,
        "combined": COMBINED,
        "combined_recovered": COMBINED,
    }
    exact = Imperfections(adc_bits=exact_adc_bits(Crossbar().rows))
    return replace(exact, **changes.get(str(at["effect"]), {}))

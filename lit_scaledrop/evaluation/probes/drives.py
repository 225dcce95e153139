"""Chips whose drives no longer match: at other temperatures, and after drift of the critical voltages by ageing.

Drives are those of the nominal device, calibrated once, or calibrated again at each temperature or drift. The junction
is the evaluation's (``--evaluation.mtj``), or :data:`DEVICE`. A calibration counts :data:`DRAWS` bits for each
probability and sets the drive with a converter of :data:`BITS` bits.
"""

from dataclasses import replace
from typing import Any, Literal

from lit_scaledrop.evaluation.probes import variation
from lit_scaledrop.evaluation.probes.subject import Subject
from lit_scaledrop.posterior.evaluation import Evaluation
from lit_scaledrop.results.measurement import Coordinates, Measurement

DEVICE, DRAWS, BITS = "sot_80nm", 400, 10
KELVIN = (250.0, 275.0, 290.0, 300.0, 310.0, 325.0, 350.0, 400.0)
DRIFTS = (-0.05, -0.02, -0.01, 0.0, 0.01, 0.02, 0.05)
"""Shares of the critical voltage. A loss of x a decade of hours is 4 x after a year, 5 x after ten."""
CHIPS = 5
CONDITIONS: dict[str, dict[str, Any]] = {
    "nominal": {},
    "calibrated": {"calibration": DRAWS, "dac_bits": BITS},
    "recalibrated": {"calibration": DRAWS, "dac_bits": BITS, "recalibrate": True},
}
"""How the drives of a chip are set, as settings of the evaluation."""
LEVELS = {"temperature_k": KELVIN, "drift": DRIFTS}
"""What moves a chip away from its drives: a setting of the evaluation, and its values."""
Axis = Literal["temperature_k", "drift"]


def constants(evaluation: Evaluation) -> dict[str, Any]:
    """Numbers of the device that is taken where none is named, for the result's identity."""
    from hardware.devices import find_device

    return {} if evaluation.mtj else {"device": find_device(DEVICE).fingerprint}


def parts(axis: Axis, subject: Subject) -> dict[str, Coordinates]:
    """The digital network, and chips by condition and temperature (K) or drift.

    Raises:
        ValueError: the evaluation says itself how chips vary.
    """
    how = subject.evaluation
    if how.finished or how.variation not in (None, replace(how, **_OPEN).variation):
        raise ValueError(
            f"{_NAMES[axis]} sets chips, temperatures, drifts and calibrations itself: set evaluation.mtj only"
        )
    if how.sigma:
        raise ValueError(f"{_NAMES[axis]} needs a device: set evaluation.mtj instead of evaluation.sigma")
    chips = range(1, CHIPS + 1)
    found: dict[str, Coordinates] = {"digital": {"condition": "digital"}}
    found |= {
        f"{condition}/{level:g}/{chip}": {"condition": condition, "level": level, "chip": chip}
        for condition in CONDITIONS for level in LEVELS[axis] for chip in chips
        if level or condition != "recalibrated"  # without a drift it is the first calibration
    }  # fmt: skip
    return found


#: what the parts set themselves
_OPEN: dict[str, Any] = {
    "redraw": "use", "chip": 0, "temperature_k": None, "calibration": 0, "dac_bits": 0, "recalibrate": False,
    "drift": 0.0,
}  # fmt: skip
_NAMES = {"temperature_k": "temperature", "drift": "ageing"}


def measure(axis: Axis, subject: Subject, at: Coordinates) -> list[Measurement]:
    """As Table IV: accuracy, likelihood, calibration, the share of noise that is rejected, the chip's probabilities."""
    evaluation, inner = subject.evaluation, {}
    if at["condition"] == "digital":
        evaluation = replace(evaluation, mtj=None)
    else:
        inner = {"chip": int(at["chip"])}
        how = {**CONDITIONS[str(at["condition"])], axis: float(at["level"])}
        evaluation = replace(evaluation, mtj=evaluation.mtj or DEVICE, redraw="chip", chip=inner["chip"], **how)
    asked = subject.asked(evaluation)
    found = variation.measure(asked, inner)
    subject.suites.update(asked.suites)
    return found

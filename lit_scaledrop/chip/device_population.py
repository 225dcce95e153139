"""Device-to-device variation from several fitted curves: means, and spread beyond the errors of the fits."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from lit_scaledrop.chip.device_fit import Fit, Law


@dataclass(frozen=True)
class Population:
    """Several devices of one law: their geometric means, and how far they lie apart beyond their own errors."""

    values: tuple[float, ...]
    """parameters, as :data:`NAMES`"""
    spreads: tuple[float, float] | None
    """coefficients of variation of the voltage, and of the steepness on its scale; ``None`` for one device"""


def population(fits: Sequence[Fit], law: Law) -> Population:
    """What the fits of several devices say of devices in general.

    The variance of the logarithms between devices, less the mean variance of their errors, is that of the devices.
    """
    logs = np.log([fit.values for fit in fits])
    values = tuple(float(value) for value in np.exp(logs.mean(0)))
    if len(fits) < 2:
        return Population(values, None)
    errors = np.array([fit.errors for fit in fits])
    # a sigmoid's steepness on the scale of its threshold is slope times threshold; delta is that already
    relative = logs.copy()
    variances = (errors**2).mean(0)
    if law == "sigmoid":
        relative[:, 1] += logs[:, 0]
        variances = variances + np.array([0.0, variances[0]])
    within = np.maximum(relative.var(0, ddof=1) - variances, 0)
    threshold, slope = (math.sqrt(math.expm1(float(each))) for each in within)
    return Population(values, (threshold, slope))

"""Figure of fitted switching curves: measured probabilities with binomial errors, the law of each device, residuals."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch

from lit_scaledrop.chip.device_fit import Z95, Bench, Fit

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#4D4D4D")
_MARKS = "os^Dv<P"


def draw_fits(fits: Sequence[Fit], bench: Bench, title: str) -> "Figure":
    """Shares with 95 % intervals (Wilson's) and laws above, signed roots of the deviances below; needs matplotlib."""
    from lit_scaledrop.report.figures.style import style

    with style():
        from matplotlib.figure import Figure

        figure = Figure(figsize=(6.4, 5.2), layout="constrained")
        above, below = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1.3))
        every = [point.voltage_v for fit in fits for point in fit.points]
        margin = 0.04 * (max(every) - min(every))
        volts = torch.linspace(max(min(every) - margin, 0.0), max(every) + margin, 400, dtype=torch.float64)
        for index, fit in enumerate(fits):
            colour, mark = _COLOURS[index % len(_COLOURS)], _MARKS[index % len(_MARKS)]
            x = np.array([point.voltage_v for point in fit.points])
            k, n = (np.array([getattr(point, name) for point in fit.points]) for name in ("switched", "shots"))
            middle = (k + Z95**2 / 2) / (n + Z95**2)
            half = Z95 / (n + Z95**2) * np.sqrt(k * (n - k) / n + Z95**2 / 4)
            error = np.abs(np.stack([middle - half, middle + half]) - k / n)
            label = f"{fit.device or 'device'}: deviance {fit.deviances.sum():.1f}, {fit.degrees} degrees of freedom"
            above.errorbar(
                x, k / n, error, fmt=mark, ms=4, lw=1, color=colour, label=label if fit.values else fit.device
            )
            for pulse in sorted({point.pulse_ns or bench.pulse_ns for point in fit.points}):
                above.plot(volts, fit.law.probability(volts, pulse), color=colour, lw=1.4)
            below.plot(x, fit.residuals, mark, ms=4, color=colour)
        above.set_ylabel("share of pulses that switch")
        above.set_ylim(-0.04, 1.04)
        above.legend(frameon=False, fontsize=8, loc="best")
        above.set_title(title)
        below.axhline(0, color="0.4", lw=0.8)
        below.axhspan(-2, 2, color="0.93", lw=0)
        below.set_ylabel("residual\n(deviations)")
        below.set_xlabel("write voltage (V)")
    return figure

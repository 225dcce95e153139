"""Report on a chip as one figure: switching curve, spread of p, calibration, energy."""

import contextlib
import textwrap
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch

from hardware.breakdown import EnergyReport
from hardware.calibration import Calibration
from hardware.chip_file import ChipFile
from hardware.drop_probability import DeviceProbability
from hardware.mtj import DriveError, vary
from lit_scaledrop.results.units import UNITS, in_unit, unit_of

if TYPE_CHECKING:
    from matplotlib.figure import Figure

#: simulated junctions behind bands and violins, and the drop probabilities that these are for
JUNCTIONS, PROBABILITIES = 10_000, (0.05, 0.1, 0.2, 0.3, 0.5)
BLUE, RED, GREY = "#0072B2", "#D55E00", "#4D4D4D"


def draw_chip(
    chip: ChipFile,
    rows: Sequence[tuple[str, str, str]],
    digital: torch.Tensor,
    on_chips: Sequence[torch.Tensor],
    energy: EnergyReport,
    title: str,
    footer: str,
) -> "Figure":
    """One page, four panels and a table; ``digital`` and ``on_chips`` are bins of reliability, ``(bins, 3)``."""
    from lit_scaledrop.report.figures.style import style

    with style():
        from matplotlib.figure import Figure

        figure = Figure(figsize=(8.3, 9.4), layout="constrained")
        places = figure.subplot_mosaic([["curve", "spread"], ["table", "table"], ["bins", "energy"]],
                                       height_ratios=(3, 1.6, 3))  # fmt: skip
        _curve(places["curve"], chip)
        _spread(places["spread"], chip)
        _table(places["table"], rows)
        _bins(places["bins"], digital, on_chips)
        _energy(places["energy"], energy)
        figure.suptitle(title, x=0.012, ha="left", fontsize=11.5, fontweight="bold")
        figure.supxlabel(textwrap.fill(footer, 120), x=0.012, ha="left", fontsize=7, color="#5A5A5A")
    return figure


def _curve(axes: Any, chip: ChipFile) -> None:
    device, spread = chip.device.build()
    try:
        low, high = (float(device.voltage(p)) for p in (0.02, 0.98))
    except DriveError:
        low, high = 0.0, device.max_voltage_v
    volts = torch.linspace(max(0.0, low - 0.3 * (high - low)), high + 0.3 * (high - low), 200, dtype=torch.float64)
    many = vary(device, spread, (JUNCTIONS, 1), torch.Generator().manual_seed(0)).probability(volts)
    for share, alpha in ((0.95, 0.18), (0.5, 0.35)):
        edges = torch.quantile(many, torch.tensor([(1 - share) / 2, (1 + share) / 2], dtype=many.dtype), dim=0)
        label = f"{100 * share:.0f} % of junctions"
        axes.fill_between(volts, *edges, color=BLUE, alpha=alpha, lw=0, label=label)
    axes.plot(volts, device.probability(volts), color=BLUE, label="nominal junction")
    axes.set(xlabel="write voltage (V)", ylabel="switching probability", ylim=(-0.03, 1.03), title="Junction")
    axes.legend(frameon=False, fontsize=8, loc="upper left")


def of_chips(chip: ChipFile, p: float, calibration: Calibration | None = None) -> torch.Tensor:
    """Drop probabilities of :data:`JUNCTIONS` chips, their drive set for ``p`` of the nominal junction or calibrated.

    Raises:
        DriveError: the nominal junction does not reach it.
    """
    junction = DeviceProbability(*chip.device.build(), calibration=calibration)
    wanted = torch.full((JUNCTIONS,), p, dtype=torch.float64)
    return junction.probability(wanted, torch.Generator().manual_seed(0))


def _spread(axes: Any, chip: ChipFile) -> None:
    drawn: dict[float, Any] = {}
    for p in PROBABILITIES:
        with contextlib.suppress(DriveError):
            drawn[p] = of_chips(chip, p).numpy()
    axes.set(xlabel="drop probability that the drive is set for", ylabel="drop probability of the chip",
             ylim=(-0.03, 1.03), xlim=(0, 0.6), title="Spread of p, drive set once for all chips")  # fmt: skip
    if not drawn:
        axes.text(0.5, 0.5, "out of the driver's reach", ha="center", transform=axes.transAxes)
        return
    parts = axes.violinplot([*drawn.values()], [*drawn], widths=0.05, showextrema=False, showmeans=True)
    for body in parts["bodies"]:
        body.set(facecolor=BLUE, alpha=0.4, edgecolor="none")
    parts["cmeans"].set(color=BLUE)
    axes.plot([0, 0.6], [0, 0.6], color=GREY, lw=0.9, ls="--")


def _table(axes: Any, rows: Sequence[tuple[str, str, str]]) -> None:
    axes.axis("off")
    table = axes.table(rows, colLabels=("", "digital", "on chip"), loc="center", cellLoc="right", edges="horizontal",
                       colWidths=(0.42, 0.2, 0.28))  # fmt: skip
    table.auto_set_font_size(False)
    table.set_fontsize(8.5)
    for (row, column), cell in table.get_celld().items():
        cell.set_edgecolor("#D9D9D9")
        if column == 0:
            cell.set_text_props(ha="left")
        if row == 0:
            cell.set_text_props(fontweight="bold")


def _bins(axes: Any, digital: torch.Tensor, on_chips: Sequence[torch.Tensor]) -> None:
    axes.plot([0, 1], [0, 1], color=GREY, lw=0.9, ls="--")
    shown = [(one, RED, "on chip" if not index else None, "s") for index, one in enumerate(on_chips)]
    for bins, colour, label, mark in [*shown, (digital, BLUE, "digital", "o")]:
        held = bins[bins[:, 0] > 0]
        confidence, correct = held[:, 1] / held[:, 0], held[:, 2] / held[:, 0]
        alpha = 0.55 if colour == RED and len(on_chips) > 1 else 1.0
        axes.plot(confidence, correct, marker=mark, ms=4, color=colour, label=label, alpha=alpha)
    axes.set(xlabel="confidence", ylabel="accuracy", xlim=(0, 1), ylim=(0, 1.03), title="Calibration")
    axes.legend(frameon=False, fontsize=8, loc="upper left")


def _energy(axes: Any, energy: EnergyReport) -> None:
    parts = sorted(energy.by_component(), key=lambda entry: entry.energy_pj)
    parts = [part for part in parts if part.energy_pj >= 0.001 * energy.energy_pj]
    unit = unit_of(energy.energy_pj)
    bars = axes.barh([part.component for part in parts], [part.energy_pj / UNITS[unit] for part in parts], color=BLUE)
    axes.bar_label(bars, [f"{100 * part.energy_pj / energy.energy_pj:.1f} %" for part in parts], padding=3, fontsize=8)
    axes.margins(x=0.18)
    axes.grid(axis="y", visible=False)
    axes.set(xlabel=f"energy of an image ({unit})", title=f"Energy, {in_unit(energy.energy_pj)} an image")

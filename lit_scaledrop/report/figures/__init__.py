"""Figures as functions of the results folder: `FIGURES` names them, `pictures` makes the files of one.

As in a table, a figure never mixes data, epochs or numbers of images: results that differ in these get separate
figures. The CSV next to a figure holds all its numbers.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from lit_scaledrop.report.figures.chips import chip_numbers, chips_caption, draw_chips
from lit_scaledrop.report.figures.curves import (
    draw_passes,
    draw_rotation,
    passes_caption,
    passes_numbers,
    rotation_numbers,
)
from lit_scaledrop.report.figures.decisions import (
    draw_reliability,
    draw_tradeoff,
    reliability_numbers,
    tradeoff_numbers,
)
from lit_scaledrop.report.figures.design import design_numbers, draw_designs
from lit_scaledrop.report.figures.drives import draw_drives, drive_numbers
from lit_scaledrop.report.figures.energy import draw_energies, energy_numbers
from lit_scaledrop.report.figures.spreads import draw_noise, draw_posterior, noise_numbers, posterior_numbers
from lit_scaledrop.report.figures.style import FORMS, footer, images, place, style, write_files
from lit_scaledrop.report.groups import KEY, ORDER, by_data, by_row, distinction, identity, one_profile, seeds_of
from lit_scaledrop.results.frame import measurements
from lit_scaledrop.results.result import Result

if TYPE_CHECKING:
    from matplotlib.figure import Figure as Drawing

_MEAN = "Mean over seeds, shaded: one sample standard deviation (none for one seed)."


@dataclass(frozen=True)
class Figure:
    """How one figure is made. A further figure is one entry of `FIGURES`."""

    numbers: Callable[[pd.DataFrame, Result], pd.DataFrame]
    """Measurements of a run, and the run -> what is drawn of it."""
    draw: Callable[[pd.DataFrame], "Drawing"]
    """Numbers of all runs, with topology and method -> the picture."""
    caption: str | Callable[[pd.DataFrame], str]
    """What the numbers are, or a function of them that says it: of what is not drawn, nothing is said."""
    over_seeds: bool = True
    """Whether rows have a `value` to be averaged over the seeds; else the first seed is shown."""
    passes: str = ""
    """The T of the figure, where it is not that of the evaluation."""
    study: str = ""
    """The table whose results it shows, where it has none of its own; it is drawn with that table."""
    over_data: bool = False
    """Whether its numbers do not depend on data, so that runs on any stand in one picture."""


FIGURES: dict[str, Figure] = {
    "figure5": Figure(
        noise_numbers,
        draw_noise,
        "The first test image that the network classifies correctly, plus strength x U(0, 255) on the pixel scale; "
        "means over 10 noise patterns. Interval: the central 95 % of the passes. Blue: the right class; orange: its "
        "strongest rival; grey: the others.",
        over_seeds=False,
        passes="100",
    ),
    "figure6": Figure(rotation_numbers, draw_rotation, _MEAN),
    "figure7": Figure(
        passes_numbers,
        draw_passes,
        passes_caption,
        passes="1 to 50",
    ),
    "posterior": Figure(
        posterior_numbers,
        draw_posterior,
        "Left: the first test image and how many of its T outputs differ, each class on its own scale (mean ± "
        "deviation of the logit at its name); lines: normal distributions of the same mean and deviation. Right: mean "
        "and range over classes and images; dashed: the same distance for T normally distributed numbers. A network "
        "with few random bits has few outputs: its posterior is a finite mixture and not normal for any T.",
        over_seeds=False,
        passes="10 to 1000",
    ),
    "threshold": Figure(
        tradeoff_numbers,
        draw_tradeoff,
        "One curve for each quantile over the passes, named at the right; one mark for each threshold; dashed: "
        "chance; ring: the paper's rule, below 0.95 at the 0.1-quantile. Mean over seeds.",
    ),
    "reliability": Figure(
        reliability_numbers,
        draw_reliability,
        "15 bins of equal width; the area of a mark is the share of the test images. Mean over seeds.",
    ),
    "hardware": Figure(
        chip_numbers,
        draw_chips,
        chips_caption,
    ),
    "designs": Figure(
        design_numbers,
        draw_designs,
        "A point is a design: passes T, converter bits, crossbar rows, mapping, execution. Line: Pareto front. "
        "Binary layers on simulated crossbars, energies of the measured network. Likelihoods beyond four times the "
        "best are not shown.",
        passes="1 to 20",
        study="pareto",
    ),
    "temperature": Figure(
        drive_numbers,
        partial(draw_drives, "Chips at different temperatures, by calibration of the drives", "Temperature (K)", 1.0),
        "The junction of each chip is at the temperature of the axis. Nominal: drive of the nominal device at 300 K; "
        "calibrated: with 400 bits per probability at 300 K; recalibrated: again at each temperature. Mean "
        "and sample standard deviation over chips and seeds; dashed: the digital network. Called OOD: uniform noise.",
    ),
    "ageing": Figure(
        drive_numbers,
        partial(draw_drives, "Aged chips, by calibration of the drives", "Drift of the threshold (%)", 100.0),
        "The critical voltage of each chip's junction has drifted. Nominal: drive of the nominal device; calibrated: "
        "with 400 bits per probability before the drift; recalibrated: after it. Mean and "
        "sample standard deviation over chips and seeds; dashed: the digital network. Called OOD: uniform noise.",
    ),
    "energy": Figure(
        energy_numbers,
        draw_energies,
        "The topology at full width: operation counts times component energies of hardware/presets/components.yaml, "
        "first and last layer digital, scales folded into thresholds. Passes one by one, with the deterministic "
        "prefix computed once, and with all common prefixes computed once. Crosses: Murmann's bound and MNSIM's "
        "converters, "
        "for the first method one by one. Dashed: the paper (VGG-small: the unit is missing in our copy, mJ fits the "
        "number of operations).",
        passes="10, or one a member of an ensemble (Tiny-Deep Ensemble: 4)",
        study="table8",
        over_data=True,
    ),
}


def pictures(name: str, results: Sequence[Result], stem: Path, forms: Sequence[str] = FORMS) -> list[Path]:
    """Write `<stem>.csv` and the figure in each format; several groups of results get `<stem>-<data>-<epochs>...` each.

    Raises:
        KeyError: there is no such figure.
        ValueError: the results do not fit the figure.
        OSError: the files cannot be written.
    """
    shown = pictures_of(name, results, stem)
    return [path for one in shown for path in write_files(one.stem, one.files(forms) | {"csv": one.csv()})]


@dataclass(frozen=True)
class Picture:
    """What one picture of a figure shows, before it is drawn."""

    figure: Figure
    stem: Path
    """Its files without their endings."""
    runs: list[Result]
    """All that is shown."""
    frame: pd.DataFrame
    notes: list[str]
    """What a reader has to know of the runs."""

    @property
    def caption(self) -> str:
        """What the numbers are."""
        said = self.figure.caption
        return said if isinstance(said, str) else said(self.frame)

    def files(self, forms: Sequence[str] = FORMS) -> dict[str, bytes]:
        """The figure in each format; needs matplotlib."""
        below = footer(self.runs, self.caption, self.figure.passes, self.notes)
        with style():
            return images(self.figure.draw(self.frame), below, forms)

    def csv(self) -> bytes:
        """The numbers as CSV."""
        return self.frame.to_csv(index=False, float_format="%.6g", lineterminator="\n").encode()


def pictures_of(name: str, results: Sequence[Result], stem: Path) -> list[Picture]:
    """The pictures of the figure `name` as `pictures` writes them, not yet drawn; needs no matplotlib.

    Raises:
        KeyError: there is no such figure.
        ValueError: the results do not fit the figure.
    """
    figure = FIGURES[name]
    one_profile(results)
    groups = [sorted(results, key=lambda run: run.id)] if figure.over_data else by_data(results)
    made = []
    for group in groups:
        notes: list[str] = []
        shown = _ordered(by_row(group, notes))
        used = [run for runs in shown.values() for run in (runs if figure.over_seeds else runs[:1])]
        where = stem if len(groups) == 1 else stem.with_name(f"{stem.name}-{distinction(group[0])}")
        made.append(Picture(figure, where, used, numbers(figure, shown), notes))
    return made


def numbers(figure: Figure, shown: dict[tuple[Any, ...], list[Result]]) -> pd.DataFrame:
    """What is drawn, as it goes into the CSV file: one row a number, mean and deviation over the seeds.

    Raises:
        ValueError: a run has none of the figure's numbers.
    """
    frames = []
    for key, runs in shown.items():
        used = runs if figure.over_seeds else runs[:1]
        frame = pd.concat([figure.numbers(measurements([run]), run) for run in used], ignore_index=True)
        if frame.empty:
            ids = ", ".join(run.id for run in used)
            raise ValueError(f"the results {ids} hold nothing of this figure; delete them and measure again")
        if figure.over_seeds:
            by = [name for name in frame.columns if name != "value"]
            frame = frame.groupby(by, sort=False).value.agg(["mean", "std"]).reset_index()
        head = identity(used[0]) | dict(zip(KEY, key, strict=True)) | {"n": len(used), "seeds": seeds_of(used)}
        head |= {"epochs": used[0].training.get("epochs", 0)}
        frames.append(pd.DataFrame([head] * len(frame)).join(frame[[c for c in frame if c not in head]]))
    return pd.concat(frames, ignore_index=True)


def _ordered(shown: dict[tuple[Any, ...], list[Result]]) -> dict[tuple[Any, ...], list[Result]]:
    return {key: shown[key] for key in sorted(shown, key=lambda key: (ORDER.get(key[0], 9), place(key[1]), key))}

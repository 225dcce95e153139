"""Sweeps as functions of the results folder: `SWEEPS` names those with a table and plots of their own.

Any other folder of trainings gets the table and plots of a sweep as well; the swept settings are read from the results.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd

from lit_scaledrop.report.figures.style import FORMS, footer, images, style, write_files
from lit_scaledrop.report.groups import by_data, distinction
from lit_scaledrop.report.sweeps.objectives import draw_objectives, objectives_table
from lit_scaledrop.report.sweeps.parallel import draw_parallel, draw_scatter
from lit_scaledrop.report.sweeps.prefixes import PASSES, draw_prefixes
from lit_scaledrop.report.sweeps.recipes import draw_recipes
from lit_scaledrop.report.sweeps.responses import draw_responses
from lit_scaledrop.report.sweeps.sigma import SIGMA, draw_sigma
from lit_scaledrop.report.sweeps.swept import show_value, sweep_table
from lit_scaledrop.report.table import Report
from lit_scaledrop.results.result import Result
from lit_scaledrop.results.trials import Trial

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_BARS = "Bars: one sample standard deviation over seeds (none for one seed)."
_RING = f"{_BARS} Ring: best on the validation split."
_ORANGE = "Orange: best on the validation split. Hollow or dashed: stopped early, with its best value until then."
_ENDED = ("stopped", "failed")


@dataclass(frozen=True)
class Sweep:
    """How a sweep is shown. A further one is one entry of `SWEEPS`."""

    title: str
    table: Callable[..., Report] = sweep_table
    """Results of one profile, and the title by name -> the report."""
    draw: Callable[[pd.DataFrame, str], dict[str, "Figure"]] | None = None
    """Rows of a section and the title -> pictures by the ends of their file names; by default by what was swept."""
    about: str = ""
    """What the pictures show, where they are its own."""
    passes: str = ""
    """The T of the pictures, where it is not that of the evaluation."""


SWEEPS: dict[str, Sweep] = {
    "ablation-dropout-rate": Sweep("Drop probability, for all layers and for each class of layer sizes"),
    "ablation-drop-value": Sweep("Value of a dropped scale, and what one bit drops"),
    "ablation-placement": Sweep("Placement of the scale, and how often a mask is drawn"),
    "ablation-sigma": Sweep(
        "Variation of drop probabilities in training, at test, and in both",
        SIGMA.report,
        lambda frame, _: {"response": draw_sigma(frame)},
        f"Solid: p redrawn at each use; dashed: mean over simulated chips with fixed deviations of p. {_BARS}",
    ),
    "ablation-passes": Sweep(
        "Number of passes T",
        PASSES.report,
        lambda frame, _: {"response": draw_prefixes(frame)},
        f"The first T of 50 passes. AUROC: solid by predictive entropy, dashed by mutual information. {_BARS}",
        passes="1 to 50",
    ),
    "ablation-recipe": Sweep(
        "Training recipe: single changes to that of the profile",
        draw=lambda frame, title: {"response": draw_recipes(frame, title)},
        about=f"Dashed: the recipe of the profile. {_BARS}",
    ),
    "search-proposed": Sweep("Search over p, learning rate and the weights of the regularizers"),
    "search-uncertainty": Sweep(
        "Search for useful uncertainty: likelihood against detection of outliers, on the validation split",
        objectives_table,
        draw_objectives,
        f"Orange: the Pareto front, which no other training beats in both. {_BARS}",
    ),
}


def sweep_report(name: str, results: Sequence[Result], trials: Sequence[Trial] = ()) -> Report:
    """The table of a sweep; trials of a search that left no result are named below it.

    Raises:
        ValueError: the results do not fit it.
    """
    sweep = _sweep(name)
    report = sweep.table(results, title=sweep.title)
    return replace(report, notes=[*report.notes, *(_without_result(one) for one in trials if one.state in _ENDED)])


def sweep_pictures(
    name: str, results: Sequence[Result], stem: Path, trials: Sequence[Trial] = (), forms: Sequence[str] = FORMS
) -> list[Path]:
    """Write `<stem>-<what>` in each format; several data sets or lengths get `<stem>-<what>-<data>-<epochs>` each.

    The numbers in them are in the table's CSV file.

    Raises:
        ValueError: the results do not fit the sweep.
        OSError: the files cannot be written.
    """
    sweep, groups = _sweep(name), by_data(results)
    # of what was stopped it is not known which data it was of
    cut = [trial for trial in trials if trial.state == "stopped" and "val/acc" in trial.why] if len(groups) == 1 else []
    written = []
    for group, section in zip(groups, sweep_report(name, results).sections, strict=True):
        end = f"-{distinction(group[0])}" if len(groups) > 1 else ""
        with style():
            drawn = sweep.draw(section.frame, sweep.title) if sweep.draw else _draw(section.frame, sweep.title, cut)
            about = sweep.about or (_ORANGE if "parallel" in drawn else _RING)
            for what, figure in drawn.items():
                files = images(figure, footer(group, about, sweep.passes), forms)
                written += write_files(stem.with_name(f"{stem.name}-{what}{end}"), files)
    return written


def _sweep(name: str) -> Sweep:
    return SWEEPS.get(name, Sweep(f"Trainings of {name}"))


def _without_result(trial: Trial) -> str:
    values = ", ".join(f"{name} {show_value(value)}" for name, value in trial.values.items())
    return f"{trial.name} {trial.state}, {trial.why} ({values})."


def _draw(frame: pd.DataFrame, title: str, stopped: Sequence[Trial]) -> dict[str, "Figure"]:
    """A response curve of one or two settings; of more, each of them against the metric, and all side by side."""
    names = list(frame.columns[: frame.columns.get_loc("validation")])  # the settings stand before the numbers
    if not names:
        return {}
    if len(names) <= 2:
        return {"response": draw_responses(frame, names, title)}
    cut = pd.DataFrame(
        [
            {name: trial.values.get(name) for name in names} | {"validation": 100 * sum(trial.scores)}
            for trial in stopped
        ],
        columns=[*names, "validation"],
    )
    return {
        "response": draw_scatter(frame, names, title, cut),
        "parallel": draw_parallel(frame, names, title, cut),
    }

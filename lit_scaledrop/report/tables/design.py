"""The design space of a chip: of all designs those that no other beats in accuracy, or likelihood, for less energy."""

from collections.abc import Sequence

import pandas as pd

from lit_scaledrop.report.energies import ENERGY, readable
from lit_scaledrop.report.groups import KEY, by_data, by_row, caption, epochs_heading, identity, ids_of, seeds_of
from lit_scaledrop.report.table import RESULT_IDS, Report, Section, named, number, text
from lit_scaledrop.results.frame import measurements
from lit_scaledrop.results.result import Result

DESIGN = ["mapping", "rows", "bits", "passes", "execution"]
"""What makes a design."""
GOALS = {"cls/acc": ("accuracy", False), "cls/nll": ("NLL", True)}
"""What is traded for energy: name, and whether less is better."""
_COLUMNS = named(
    number("passes", "T", ".0f"),
    number("bits", "ADC bits", ".0f"),
    number("rows", "rows", ".0f"),
    text("mapping"),
    text("execution", "passes"),
    number("cls/acc", "accuracy (%)", lambda share: f"{100 * share:.2f}"),
    number("cls/nll", "NLL", ".4f"),
    number(ENERGY, "energy an image", readable),
    number("hw/latency_us", "latency (us)", ".1f"),
    number("hw/area_mm2", "area (mm2)", ".3f"),
)


def designs(runs: Sequence[Result]) -> pd.DataFrame:
    """Every design of a row's runs, one row each, numbers as means over the seeds."""
    found = measurements(runs)
    wide = found.pivot_table("value", [*DESIGN[:4]], "metric")[list(GOALS)]
    costs = found[found.execution.notna()].pivot_table("value", DESIGN, "metric")
    return costs.join(wide).reset_index()


def front(points: pd.DataFrame, goal: str) -> pd.DataFrame:
    """Designs that no other one equals or beats in both energy and a goal, the least energy first.

    >>> points = pd.DataFrame({"hw/energy_nj": [1.0, 2.0, 3.0], "cls/acc": [0.5, 0.4, 0.6]})
    >>> front(points, "cls/acc")["hw/energy_nj"].tolist()
    [1.0, 3.0]
    """
    _, less = GOALS[goal]
    ranked = points.sort_values([ENERGY, goal], ascending=[True, less], kind="stable")
    worth = -ranked[goal] if less else ranked[goal]
    best_before = worth.cummax().shift(fill_value=-float("inf"))
    return ranked[worth > best_before]


def design_table(results: Sequence[Result], _: pd.DataFrame) -> Report:
    """The Pareto fronts of every topology and method; all designs go into the CSV file.

    Raises:
        ValueError: no results, or results of several profiles or studies.
    """
    sections, exported, notes = list[Section](), list[pd.DataFrame](), list[str]()
    for group in by_data(results):
        for key, runs in by_row(group, notes).items():
            points = designs(runs)
            fronts = {goal: front(points, goal) for goal in GOALS}
            head = identity(runs[0]) | dict(zip(KEY, key, strict=True)) | {"n": len(runs), "seeds": seeds_of(runs)}
            on = {f"on the front of {GOALS[goal][0]}": points.index.isin(best.index) for goal, best in fronts.items()}
            exported.append(pd.DataFrame([head] * len(points), points.index).join(points.assign(**on)))
            for goal, best in fronts.items():
                name = f"{key[0]}, {key[1]}, {epochs_heading(runs[0])}: {GOALS[goal][0]} against energy"
                about = f"{len(best)} of {len(points)} designs on the Pareto front; n = {len(runs)}."
                marks = {"topology": key[0], "method": key[1], RESULT_IDS: ids_of(runs)}
                sections.append(Section(name, best.assign(**marks), _COLUMNS, caption(runs, about, "as listed")))
    title = "Design space of a chip: Pareto fronts"
    return Report(title, sections, [*notes, *_NOTES], pd.concat(exported, ignore_index=True))


_NOTES = [
    "A design is a number of passes T, the converters' bits, rows of a crossbar, mapping and execution. The binary "
    "layers are simulated on it; energy, latency and area are those of the measured network at its width. Everything "
    "else is the default chip's, whose cells are ideal, or that of the given chip file.",
]

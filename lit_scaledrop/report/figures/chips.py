"""Hardware in the loop: accuracy and OOD detection of networks on increasingly non-ideal crossbars."""

from typing import TYPE_CHECKING

import pandas as pd

from lit_scaledrop.report.figures.style import DASHED, draw_bars, label_ends, name_row, panels, styles
from lit_scaledrop.results.glossary import METRICS
from lit_scaledrop.results.result import Result

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_EFFECTS = {
    "adc": ("ADC bits", 1),
    "conductance": ("Variation of conductances (%)", 100),
    "stuck": ("Stuck devices (%)", 100),
    "wire": ("Wire between two cells (ohm)", 1),
    "offset": ("Offset of\nconverters (matches)", 1),
    "noise": ("Noise of\nconverters (matches)", 1),
    "reference": ("Variation, reference\ncolumn as well (%)", 100),
    "recovered": ("The same chips,\nrecovered (%)", 100),
    "combined": ("Some of each", 1),
}
_COMBINED = {"ideal": 0.0, "combined": 1.0, "combined_recovered": 2.0}
"""Places on the axis of `combined`."""
_ROWS = {
    "cls/acc": METRICS["cls/acc"].heading(),
    "uniform/ood/rate": "Called OOD (%)",
    "uniform/ood/auroc/predictive_entropy": "AUROC (%)",
}
_TEST_IMAGES = "ood/rate"
"""Share of test images that the rule calls OOD, needed to interpret a detection rate."""


def chip_numbers(found: pd.DataFrame, _: Result) -> pd.DataFrame:
    """Rows (effect, level, chips, metric, value) of a run of the probe `hardware`; a chip is one repetition."""
    found = found[found.effect.notna()]
    metric = (found.suite + "/").where(found.suite.notna(), "") + found.metric
    level, chip = found.level.astype(float).fillna(0.0), found.chip.astype(float).fillna(1.0)
    chips = chip.groupby([found.effect, level]).transform("nunique")
    return found[["effect"]].assign(level=level, chips=chips, metric=metric, value=found.value)


def chips_caption(frame: pd.DataFrame) -> str:
    """What the numbers are, with the effects that there are."""
    effects = set(frame.effect)
    combined = " Combined: 6 bits, variation 5 %, 0.1 % stuck, 1 ohm." * ("combined" in effects)
    recovered = (
        " Recovered: converters trimmed, four spare columns per tile, BatchNorm corrected on training images."
    ) * bool(effects & {"recovered", "combined_recovered"})
    return (
        "Binary layers on 128 x 128 crossbars, everything else digital, with the masks of the digital network "
        "(dashed). Mean and "
        "sample standard deviation over chips and seeds. Called OOD: uniform noise, and dotted the test images. AUROC: "
        f"uniform noise against test images by predictive entropy. Converters' ranges are set on training images; "
        f"unless varied, their resolution is exact.{combined}{recovered}"
    )


def draw_chips(frame: pd.DataFrame) -> "Figure":
    """Rows of panels for each topology: a column for each effect, from ideal at the left to what is worst."""
    topologies = frame.topology.unique()
    shown = [effect for effect in _EFFECTS if (frame.effect == effect).any()]
    recovered = bool((frame.effect == "combined_recovered").any())
    widths = [0.7 + 0.5 * recovered if effect == "combined" else 1 for effect in shown]
    title = "Binary networks on non-ideal crossbars"
    figure, axes = panels(len(topologies) * len(_ROWS), len(shown), 2.4, 2.0, title, sharey="row", width_ratios=widths)
    look = styles(frame.method)
    rows = [(topology, metric) for topology in topologies for metric in _ROWS]
    for row, (topology, metric) in zip(axes, rows, strict=True):
        of_topology = frame[frame.topology == topology]
        for panel, effect in zip(row, shown, strict=True):
            ends = []
            for method, run in of_topology.groupby("method", sort=False):
                end = _curve(panel, run, effect, metric, *look[method])
                ends += [(*end, method, look[method][0])] if end else []
            _axis(panel, of_topology, effect)
            if metric == next(iter(_ROWS)):
                heading = _EFFECTS[effect][0]
                narrow = len(shown) > 5 and "\n" not in heading
                panel.set_title(heading.replace(" (", "\n(") if narrow else heading)
        low, high = row[0].get_ylim()
        row[0].set_ylim(max(low, -4), min(high, 104))
        name_row(row[0], f"{topology}\n{_ROWS[metric]}")
        label_ends(row[-1], ends)
    return figure


def _curve(
    panel: "Axes", run: pd.DataFrame, effect: str, metric: str, colour: str, mark: str
) -> tuple[float, float] | None:
    """One method's line with error bars over chips, its digital network dashed; where the line ends."""
    digital = run[(run.effect == "digital") & (run.metric == metric)]
    for value in 100 * digital["mean"]:
        panel.axhline(value, color=colour, linewidth=1, linestyle=DASHED)
    kinds = [(metric, "-", mark)] + ([(_TEST_IMAGES, ":", "")] if metric == "uniform/ood/rate" else [])
    end = None
    for name, line, marker in kinds:
        effects = _COMBINED if effect == "combined" else ("ideal", effect)
        chosen = run[run.effect.isin(effects) & (run.metric == name)]
        values = chosen.assign(x=_places(chosen, effect)).sort_values("x")
        if values.empty:
            continue
        mean, std = 100 * values["mean"], 100 * values["std"].fillna(0)
        # a deviation may reach where no share is
        bars = [std.clip(upper=mean), std.clip(upper=100 - mean)]
        draw_bars(panel, values.x, mean, bars, colour, marker, linestyle=line)
        if name == metric:
            end = float(values.x.iloc[-1]), float(mean.iloc[-1])
    return end


def _places(chosen: pd.DataFrame, effect: str) -> "pd.Series[float]":
    """Where points stand on the axis of an effect: what is ideal at the left, enough bits as one more than the most."""
    ideal = chosen.effect == "ideal"
    if effect == "combined":
        return chosen.effect.map(_COMBINED)
    if effect == "adc":
        return (-chosen.level).where(~ideal, -chosen.level.max() - 1)
    return (_EFFECTS[effect][1] * chosen.level).where(~ideal, 0.0)


def _axis(panel: "Axes", of_topology: pd.DataFrame, effect: str) -> None:
    """Ticks at what was measured."""
    levels = sorted(of_topology[of_topology.effect == effect].level.unique())
    factor = _EFFECTS[effect][1]
    if effect == "combined":
        recovered = bool((of_topology.effect == "combined_recovered").any())
        panel.set_xticks([0, 1, 2][: 2 + recovered], ["ideal", "combined", "recovered"][: 2 + recovered])
        panel.set_xlim(-0.25, 1.15 + recovered)
        return
    if effect == "adc":
        bits = [int(level) for level in levels[::-1]]
        panel.set_xticks([-bits[0] - 1, *(-bit for bit in bits)], ["exact", *map(str, bits)])
        return
    if effect in ("stuck", "wire"):
        panel.set_xscale("symlog", linthresh=factor * levels[0])
    panel.set_xticks([0, *(factor * level for level in levels)], ["0", *(f"{factor * level:g}" for level in levels)])
    panel.minorticks_off()

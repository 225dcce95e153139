"""The OOD rule's trade-off and the reliability diagram: quality of decisions by confidence."""

from typing import TYPE_CHECKING

import pandas as pd

from lit_scaledrop.report.figures.style import FAINT, INK, TRUE, grid, label_ends, panels
from lit_scaledrop.results.result import Result

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_SUITES = {"uniform": "uniform noise", "test_uniform": "test images + uniform noise"}
_REJECTED = "Suite rejected (%)"
_PAPER = (0.1, 0.95)  # eq. 26
_BLUES = ("#9ECAE1", "#6BAED6", "#3182BD", "#08519C", "#062A56")


def tradeoff_numbers(found: pd.DataFrame, _: Result) -> pd.DataFrame:
    """Rows (part, quantile, threshold, metric, value) of a run of the probe `threshold`."""
    found = found[found.threshold.notna()].rename(columns={"suite": "part"})
    return found[["part", "quantile", "threshold", "metric", "value"]]


def draw_tradeoff(frame: pd.DataFrame) -> "Figure":
    """A row for each run, a panel for each suite, a curve for each quantile; the ring is the paper's rule."""
    suites = [name for name in _SUITES if name in set(frame.part)]
    title = "Quantile and threshold of the OOD rule"
    figure, cells = grid(frame, ["topology", "method"], suites, (4.4, 3.3), title, "{}, {}\n")
    for panel, run, suite, _ in cells:
        rates = run[run.metric == "rate"].set_index(["part", "quantile", "threshold"])["mean"]
        quantiles = sorted(run["quantile"].unique())
        panel.plot([0, 100], [100, 0], color=FAINT, linewidth=1, linestyle=(0, (4, 3)))
        ends = []
        for quantile, colour in zip(quantiles, _BLUES, strict=False):
            accepted, detected = 100 - 100 * rates["clean"][quantile], 100 * rates[suite][quantile]
            panel.plot(accepted, detected, color=colour, marker="o", markersize=2.5)
            ends.append((102.0, float(detected.iloc[0]), f"{quantile:g}", colour))
        if _PAPER[0] in quantiles:
            ring = [rates[part].get(_PAPER) for part in ("clean", suite)]
            if None not in ring:
                panel.plot(100 - 100 * ring[0], 100 * ring[1], "o", ms=9, mfc="none", mec=INK, mew=1.3)
        panel.set_xlim(-2, 102)
        panel.set_ylim(-2, 102)
        panel.set_aspect("equal")
        panel.set_title(_SUITES[suite].capitalize())
        panel.set_xlabel("Test images accepted (%)")
        label_ends(panel, ends, 7.5)
        if suite == suites[0]:  # the name of the row is its label
            panel.text(-0.13, 0.5, _REJECTED, transform=panel.transAxes, rotation=90, ha="center", va="center")
        else:
            panel.set_ylabel(_REJECTED)
    return figure


def reliability_numbers(found: pd.DataFrame, _: Result) -> pd.DataFrame:
    """Rows (bin, metric, value) of a run of the probe `reliability`; bin -1 holds what is of all images."""
    found = found[found.bin.notna() | found.metric.isin(("cal/ece", "cal/adaptive_ece", "cls/acc"))]
    return found.assign(bin=found.bin.astype(float).fillna(-1).astype(int))[["bin", "metric", "value"]]


def draw_reliability(frame: pd.DataFrame) -> "Figure":
    """A panel for each run: accuracy in each bin of confidence; the area of a mark is the share of the images."""
    runs = list(frame.groupby(["topology", "method"], sort=False))
    columns = min(4, len(runs))
    rows = -(-len(runs) // columns)
    figure, axes = panels(rows, columns, 3.3, 3.3, "Reliability: accuracy by confidence", sharex=True, sharey=True)
    for panel in axes.flat[len(runs) :]:
        panel.set_axis_off()
    for panel, ((topology, method), run) in zip(axes.flat, runs, strict=False):
        wide = run.pivot(index="bin", columns="metric", values="mean")
        bins = wide[wide.index >= 0].dropna(subset=["confidence"])
        panel.plot([0, 100], [0, 100], color=FAINT, linewidth=1, linestyle=(0, (4, 3)))
        confidence, accuracy = 100 * bins.confidence, 100 * bins.accuracy
        panel.vlines(confidence, confidence, accuracy, color=TRUE, linewidth=1, alpha=0.5)
        panel.scatter(confidence, accuracy, s=8 + 500 * bins.share, color=TRUE, alpha=0.75, linewidth=0, clip_on=False)
        whole = wide.loc[-1]
        text = f"ECE {whole['cal/ece']:.3f}\nadaptive {whole['cal/adaptive_ece']:.3f}\naccuracy {whole['cls/acc']:.3f}"
        panel.text(0.04, 0.96, text, transform=panel.transAxes, va="top", fontsize=8, linespacing=1.35)
        panel.set_title(f"{topology}, {method}")
        panel.set_xlim(0, 104)
        panel.set_ylim(0, 104)
        panel.set_aspect("equal")
        panel.set_xlabel("Confidence (%)")
    for panel in axes[:, 0]:
        panel.set_ylabel("Accuracy (%)")
    return figure

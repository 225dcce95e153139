"""Figure 5 and the posterior: how the passes spread, class by class, for single images.

Both show one seed of each run, the first: means over networks would be of different images or different classes.
"""

from typing import TYPE_CHECKING

import pandas as pd

from lit_scaledrop.report.figures.style import FAINT, INK, RIVAL, TRUE, grid
from lit_scaledrop.results.result import Result

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

CLASSES = {
    "cifar10": ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"),
}
"""Names of the classes by data set; others are numbers."""
_OF = {"logits": "logit", "probs": "softmax"}


def class_name(data: str, label: int) -> str:
    """Name of a class.

    >>> class_name("cifar10", 3), class_name("mnist", 3)
    ('cat', 'class 3')
    """
    return CLASSES[data][label] if data in CLASSES else f"class {label}"


def _class_of(run: pd.DataFrame, label: int) -> str:
    """Name of a class of a run's data, marked where it is that of the image."""
    return class_name(run.data.iloc[0], label) + (" (true)" if label == run.true_class.iloc[0] else "")


def noise_numbers(found: pd.DataFrame, run: Result) -> pd.DataFrame:
    """Rows (strength, of, class, mean, variance, low, high) of a run of the probe `figure5`."""
    classes = found[found["of"].notna()].pivot(index=["strength", "of", "class"], columns="metric", values="value")
    about = found[found.metric.isin(("image", "label"))].pivot(index="strength", columns="metric", values="value")
    frame = classes.reset_index().join(about.astype(int).rename(columns={"label": "true_class"}), on="strength")
    names = ["image", "true_class", "data", "strength", "of", "class", "high", "low", "mean", "variance"]
    return frame.assign(data=run.data["name"])[names].astype({"class": int})


def draw_noise(frame: pd.DataFrame) -> "Figure":
    """A row for each run: mean with the 95 % interval of logits and softmax, then their variances."""
    columns = [(of, what) for what in ("mean", "variance") for of in _OF]
    by, title = ["topology", "method", "image"], "One test image under growing uniform noise"
    figure, cells = grid(frame, by, columns, (3.3, 2.7), title, "{}, {}\nimage {}")
    for panel, run, (of, what), ends in cells:
        true = run.true_class.iloc[0]
        probs = run[(run.of == "probs") & (run["class"] != true)]
        rival = probs.loc[probs["mean"].idxmax(), "class"]
        colours = {true: TRUE, rival: RIVAL}
        chosen = run[run.of == of].sort_values("strength")
        for label in sorted({int(label) for label in chosen["class"]}, key=lambda label: (label in colours, label)):
            line, colour = chosen[chosen["class"] == label], colours.get(label)
            panel.plot(line.strength, line[what], color=colour or FAINT, linewidth=1.8 if colour else 0.9)
            if colour and what == "mean":
                panel.fill_between(line.strength, line.low, line.high, color=colour, alpha=0.18, linewidth=0)
            if colour:
                name = _class_of(run, label)
                ends.append((float(line.strength.iloc[-1]), float(line[what].iloc[-1]), name, colour))
        panel.set_title(f"{'Mean, 95 % interval' if what == 'mean' else 'Variance'} of the {_OF[of]}")
        panel.set_xlim(0, run.strength.max())
        if of == "probs" and what == "mean":
            panel.set_ylim(-0.02, 1.02)
        elif what == "variance":
            panel.set_ylim(bottom=0)
        panel.set_xlabel("Strength of the noise")
    return figure


def posterior_numbers(found: pd.DataFrame, run: Result) -> pd.DataFrame:
    """Rows (image, passes, class, bin, low, high, count, mean, std, distance) of a run of the probe `posterior`."""
    found = found[found.image.notna() & (found.metric != "passes")]
    frame = found[found.bin.notna()].rename(columns={"value": "count"})[["image", "passes", "class", "bin", "count"]]
    found = found[found.bin.isna()]
    for by in (["image"], ["image", "passes"], ["image", "class"], ["image", "passes", "class"]):
        others = [name for name in ("passes", "class") if name not in by]
        of_these = found[found[by].notna().all(axis=1) & found[others].isna().all(axis=1)]
        frame = frame.join(of_these.pivot(index=by, columns="metric", values="value"), on=by)
    frame = frame.rename(columns={"label": "true_class"}).assign(data=run.data["name"])
    names = ["image", "true_class", "data", "passes", "class", "bin", "low", "high", "count", "mean", "std", "distance"]
    whole = ["image", "true_class", "passes", "class", "bin", "count", "distinct"]
    return frame.reindex(columns=[*names, "normal_distance", "distinct"]).astype(dict.fromkeys(whole, int))


def draw_posterior(frame: pd.DataFrame) -> "Figure":
    """A row for each run: histograms of all classes for the first image at growing T, and the distance to normal."""
    counts, title = sorted(frame.passes.unique()), "Logits of the passes, class by class"
    figure, cells = grid(frame, ["topology", "method"], [*counts, None], (2.75, 3.5), title)
    for panel, run, passes, ends in cells:
        if passes is None:
            ends += _distances(panel, run)
            continue
        first = run[run.image == run.image.min()]
        chosen = first[first.passes == passes]
        _ridges(panel, chosen, first[first.passes == counts[-1]], named=bool(passes == counts[0]))
        panel.set_xlim(-4, 4)
        panel.set_title(f"T = {passes}: {chosen.distinct.iloc[0]} outputs")
        panel.set_xlabel("Logit, standardized")
    return figure


def _ridges(panel: "Axes", chosen: pd.DataFrame, all_passes: pd.DataFrame, named: bool) -> None:
    """One histogram a class, on the scale of that class: mean 0 and deviation 1 over all passes."""
    from math import sqrt, tau

    import numpy as np

    true, names = chosen.true_class.iloc[0], []
    for label in sorted({int(label) for label in chosen["class"]}):
        bars = chosen[chosen["class"] == label].sort_values("bin")
        mean, std = all_passes.loc[all_passes["class"] == label, ["mean", "std"]].iloc[0]
        names.append((label, f"{_class_of(chosen, label)}, {mean:.2f} ± {std:.2g}"))
        if not std > 0:
            continue
        edges = (np.linspace(bars.low.iloc[0], bars.high.iloc[0], len(bars) + 1) - mean) / std
        scale = 0.9 / max(1, bars["count"].max())
        colour = TRUE if label == true else "#8A8A8A"
        heights = label + scale * bars["count"].to_numpy()
        panel.stairs(heights, edges, baseline=label, fill=True, color=colour, alpha=0.45, linewidth=0)
        middle, width = (bars["mean"].iloc[0] - mean) / std, bars["std"].iloc[0] / std
        if width > 0:
            x = np.linspace(-4, 4, 161)
            density = np.exp(-0.5 * ((x - middle) / width) ** 2) / (width * sqrt(tau))
            expected = density * bars["count"].sum() * (edges[1] - edges[0])
            panel.plot(x, label + np.minimum(scale * expected, 0.97), color=INK, linewidth=0.8)
    panel.set_yticks([label for label, _ in names], [name for _, name in names] if named else [""] * len(names))
    panel.set_ylim(-0.1, len(names))
    panel.tick_params(axis="y", length=0)


def _distances(panel: "Axes", run: pd.DataFrame) -> list[tuple[float, float, str, str]]:
    """Mean and range of the distances to normal, and what truly normal numbers have; the ends of the lines."""
    single = run.drop_duplicates(["image", "passes", "class"])
    by_passes = single.groupby("passes").distance
    mean = by_passes.mean()
    panel.fill_between(mean.index, by_passes.min(), by_passes.max(), color=TRUE, alpha=0.15, linewidth=0)
    panel.plot(mean.index, mean, color=TRUE, marker="o", markersize=4)
    normal = single.groupby("passes").normal_distance.first()
    panel.plot(normal.index, normal, color=INK, linestyle=(0, (4, 2)), linewidth=1.2)
    panel.set_xscale("log")
    panel.set_xticks(list(mean.index), [str(passes) for passes in mean.index])
    panel.minorticks_off()
    panel.set_ylim(bottom=0)
    panel.set_title("Distance to the fitted normal (KS)")
    panel.set_xlabel("Passes T")
    return [
        (float(line.index[-1]), float(line.iloc[-1]), text, colour)
        for line, text, colour in ((mean, "passes", TRUE), (normal, "normal numbers", INK))
    ]

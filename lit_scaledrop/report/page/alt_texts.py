"""What is seen on a picture, in words, from the numbers in it: for readers who cannot see it."""

import re
from collections.abc import Callable, Iterator

import pandas as pd

from lit_scaledrop.report.energies import ADC, ADCS, TREATMENTS, component_name, readable
from lit_scaledrop.report.figures import FIGURES
from lit_scaledrop.report.groups import TOPOLOGIES
from lit_scaledrop.report.page.contents import Shown
from lit_scaledrop.report.table import Report, Section

_NAMES = 3
"""Columns of a table that name a row in words."""
_COUNTS = ("n", "seed", "epochs")
_NUMBER = re.compile(r"[-+]?\d+(\.\d+)?(e[-+]?\d+)?( |$)")
_METRICS = {
    "cls/acc": ("accuracy", 100, " %"),
    "cls/nll": ("NLL", 1, " nats"),
    "unc/predictive_entropy": ("predictive entropy", 1, " nats"),
    "unc/mutual_information": ("mutual information", 1, " nats"),
    "ood/rate": ("called OOD", 100, " %"),
    "uniform/ood/rate": ("uniform noise called OOD", 100, " %"),
    "uniform/ood/auroc/predictive_entropy": ("AUROC of uniform noise", 100, " %"),
}
TITLES = {
    "curves": "error against epochs",
    "figure5": "one test image under growing noise",
    "figure6": "rotated test images",
    "figure7": "number of passes T",
    "posterior": "class outputs over the passes",
    "threshold": "quantile and threshold of the OOD rule",
    "reliability": "accuracy by confidence",
    "hardware": "networks on crossbars that are not ideal",
}
"""What a figure with results of its own is about, for its heading."""


def alt_text(shown: Shown, report: Report | None) -> str:
    """Sentences on a picture: what it is of, then for each network where its curves begin and end.

    Args:
        shown: the picture.
        report: table of its study, which has the numbers of a picture that is no figure of `FIGURES`.
    """
    if shown.words:
        return shown.words
    frame = shown.picture.frame if shown.picture else None
    names = [name for name in _TEXTS if shown.picture and FIGURES.get(name) is shown.picture.figure]
    if frame is None:
        ranges = [words for section in report.sections for words in _ranges(section)] if report else []
        return f"Plot {shown.name.replace('-', ' ')} of {_networks(shown)}. {'; '.join(ranges)}."
    if not names:
        return (
            f"Plot of {_networks(shown)}; its {len(frame)} numbers are in the CSV file. {shown.picture.figure.caption}"  # type: ignore[union-attr]
        )
    what, sentences = _TEXTS[names[0]]
    of = (f"{topology} {method}: {'; '.join(sentences(run))}." for (topology, method), run in _runs(frame))
    return f"{what} {' '.join(of)}"


def _networks(shown: Shown) -> str:
    found = dict.fromkeys(f"{TOPOLOGIES.get(run.network, run.network)} {run.label}" for run in shown.runs)
    return ", ".join(found)


def _ranges(section: Section) -> Iterator[str]:
    """Lowest and highest value of each column of numbers, with the rows that have them."""
    records = section.frame.to_dict("records")
    names = [column for column in section.columns.values() if column.left][:_NAMES]
    for column in section.columns.values():
        cells = [(column.cell(row), ", ".join(filter(None, (name.cell(row) for name in names)))) for row in records]
        found = [(float(cell.split()[0]), cell, row) for cell, row in cells if _NUMBER.match(cell)]
        if not column.left and column.header not in _COUNTS and len(found) > 1:
            (_, low, of_low), (_, high, of_high) = min(found), max(found)
            yield f"{section.heading}: {column.header} from {low} ({of_low}) to {high} ({of_high})"


def _runs(frame: pd.DataFrame) -> Iterator[tuple[tuple[str, str], pd.DataFrame]]:
    yield from frame.groupby(["topology", "method"], sort=False)  # type: ignore[misc]


def _ends(run: pd.DataFrame, along: str, unit: str) -> Iterator[str]:
    """Each metric at the first and the last place along the axis, and where it is farthest from the first."""
    for metric, (name, factor, of) in _METRICS.items():
        line = run[run.metric == metric].sort_values(along)
        if len(line):
            values, places = list(factor * line["mean"]), list(line[along])
            farthest = max(range(len(values)), key=lambda place: abs(values[place] - values[0]))
            points = sorted({0, farthest, len(values) - 1})
            yield f"{name} {', '.join(f'{values[place]:.3g}{of} at {places[place]:g}' for place in points)}{unit}"


def _noise(run: pd.DataFrame) -> Iterator[str]:
    probs = run[(run.of == "probs") & (run["class"] == run.true_class)].sort_values("strength")
    first, last = probs.iloc[0], probs.iloc[-1]
    yield (
        f"the right class has a probability of {first['mean']:.2f} without noise and {last['mean']:.2f} at strength "
        f"{last.strength:g}, with central 95 % of the passes from {last.low:.2f} to {last.high:.2f}"
    )


def _posterior(run: pd.DataFrame) -> Iterator[str]:
    distances = run.drop_duplicates(["image", "passes", "class"]).groupby("passes").distance.mean()
    outputs = run.groupby("passes").distinct.max()
    yield "distance of the outputs to a normal distribution " + ", ".join(
        f"{distance:.2f} at T = {passes}" for passes, distance in distances.items()
    )
    yield f"at most {outputs.iloc[-1]} different outputs in {outputs.index[-1]} passes"


def _threshold(run: pd.DataFrame) -> Iterator[str]:
    rule = run[(run["quantile"] == 0.1) & (run.threshold == 0.95) & (run.metric == "rate")]
    for row in rule.itertuples():
        name = "test images" if row.part == "clean" else str(row.part).replace("_", " + ")
        yield f"the paper's rule calls {100 * float(str(row.mean)):.3g} % of {name} OOD"


def _reliability(run: pd.DataFrame) -> Iterator[str]:
    wide = run[run.bin >= 0].pivot(index="bin", columns="metric", values="mean").dropna()
    over = 100 * (wide.share * (wide.confidence - wide.accuracy)).sum()
    yield f"mean confidence is {abs(over):.1f} points {'above' if over > 0 else 'below'} mean accuracy"
    wide = wide[wide.share >= 0.01].assign(gap=lambda frame: (frame.accuracy - frame.confidence).abs())
    pair = wide.sort_values("gap").iloc[-1]
    yield f"farthest from the diagonal, accuracy {pair.accuracy:.0%} at confidence {pair.confidence:.0%}"


def _energy(run: pd.DataFrame) -> Iterator[str]:
    totals = run[run.component == "total"]
    for real, name in TREATMENTS.items():
        band = totals[totals.real_layers == real].set_index("adc")["mean"]
        parts = run[(run.real_layers == real) & (run.adc == ADC) & (run.component != "total")].set_index("component")
        largest = parts["mean"].idxmax()
        yield (
            f"first and last layer {name}: {readable(band[ADC])} with {ADCS[ADC]}'s converters, the largest part "
            f"{component_name(str(largest))} with {readable(parts['mean'].max())}; over the models of the converters "
            f"{readable(band.min())} to {readable(band.max())}"
        )
    for energy in totals[totals.adc == "paper"]["mean"]:
        yield f"the paper's energy, dashed, is {readable(energy)}"


def _chips(run: pd.DataFrame) -> Iterator[str]:
    accuracy = run[run.metric == "cls/acc"]
    for effect, line in accuracy.groupby("effect", sort=False):
        ends = line.sort_values("mean", ascending=False)
        best, worst = 100 * ends["mean"].iloc[0], 100 * ends["mean"].iloc[-1]
        levels = f" from {ends.level.iloc[0]:g} to {ends.level.iloc[-1]:g}" if len(line) > 1 else ""
        yield f"{effect}{levels}: accuracy {best:.1f} %" + (f" to {worst:.1f} %" if levels else "")


_TEXTS: dict[str, tuple[str, Callable[[pd.DataFrame], Iterator[str]]]] = {
    "figure5": ("Curves of logits and class probabilities of one image, and of their variances.", _noise),
    "figure6": ("Curves over the angle by which test images are turned.", lambda run: _ends(run, "angle", " degrees")),
    "figure7": (
        "Curves over the number of passes T.",
        lambda run: _ends(run[run.kind == "plan"], "passes", " passes"),
    ),
    "posterior": ("Histograms of the class outputs of one image, and their distance to the normal.", _posterior),
    "threshold": ("Share called OOD against accepted share, a curve for each quantile.", _threshold),
    "reliability": ("Accuracy in 15 bins of confidence, against the diagonal.", _reliability),
    "hardware": ("Curves of accuracy and detection against what is not ideal on a chip.", _chips),
    "energy": (
        "Stacked bars of the energy of an image by component, and bands over models of the converters.",
        _energy,
    ),
}
"""By name of `FIGURES`: what kind of picture it is, and sentences on one network."""

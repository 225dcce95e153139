"""The figure of a comparison: reliability, risk by coverage, ROC, rotation."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from lit_scaledrop.functional.ood import roc
from lit_scaledrop.functional.selective import risk_coverage
from lit_scaledrop.report.figures.style import INK, panels, style, styles

if TYPE_CHECKING:
    from matplotlib.figure import Figure


Looks = dict[str, tuple[str, str]]
"""Colour and mark of each network."""


def draw_comparison(
    seen: Mapping[str, Any], outside: Mapping[str, Mapping[str, Any]], turned: Mapping[float, Mapping[str, Any]]
) -> "Figure":
    """A panel each for calibration, rejection, every OOD set, and two for rotation; a colour for each network.

    Args:
        seen: numbers of each image by network, as ``evaluation.comparison.Seen``.
        outside: the same by OOD set and network.
        turned: the same by angle in degrees and network.
    """
    from matplotlib import rc_context

    with style(), rc_context({"text.parse_math": False}):  # a name may have dollar signs
        count = 2 + len(outside) + (2 if turned else 0)
        columns = count if count <= 4 else 3
        figure, axes = panels(
            -(-count // columns), columns, 3.1, 2.9, f"{len(seen)} networks on {len(next(iter(seen.values())))} images"
        )
        free = iter(axes.flat)
        looks = styles(seen)
        lines = _reliability(next(free), seen, looks)
        _rejection(next(free), seen, looks)
        for suite, theirs in outside.items():
            _roc(next(free), suite, seen, theirs, looks)
        if turned:
            _rotation(next(free), next(free), turned, looks)
        for unused in free:
            unused.set_axis_off()
        # matplotlib leaves names out that begin with _
        names, wide = [f"\u200b{name}" if name.startswith("_") else name for name in looks], min(len(looks), 5)
        figure.legend(lines, names, loc="lower left", ncols=wide, frameon=False, fontsize=8)
        height = figure.get_size_inches()[1]
        figure.tight_layout(rect=(0, (0.14 + 0.18 * -(-len(looks) // wide)) / height, 1, 1 - 0.05 / height))
    return figure


def _reliability(panel: Any, seen: Mapping[str, Any], looks: Looks) -> list[Any]:
    """The lines of the networks."""
    lines = []
    panel.plot([0, 1], [0, 1], color=INK, linewidth=1, linestyle=(0, (3, 2)))
    for name, (colour, mark) in looks.items():
        images, confidences, correct = seen[name].bins.unbind(1)
        some = images > 0
        x, y = (confidences / images)[some], (correct / images)[some]
        lines += panel.plot(x, y, color=colour, marker=mark, markersize=4)
    panel.set(title="Reliability", xlabel="confidence", ylabel="accuracy", xlim=(0, 1), ylim=(0, 1.02))
    return lines


def _rejection(panel: Any, seen: Mapping[str, Any], looks: Looks) -> None:
    for name, (colour, _) in looks.items():
        coverage, risk = risk_coverage(seen[name]["confidence"], seen[name]["correct"])
        panel.plot(100 * coverage, 100 * risk, color=colour)
    panel.set(title="Errors among the surest", xlabel="coverage (%)", ylabel="error (%)", xlim=(0, 100))
    panel.set_ylim(bottom=0)


def _roc(panel: Any, suite: str, seen: Mapping[str, Any], theirs: Any, looks: Looks) -> None:
    """Solid: by predictive entropy; dotted: by mutual information, where passes differ."""
    for name, (colour, _) in looks.items():
        for score, line in (("predictive_entropy", "-"), ("mutual_information", ":")):
            inside, outside = seen[name][score], theirs[name][score]
            if float(inside.max()) <= 0:  # of one pass
                continue
            x, y = roc(inside, outside)
            panel.plot(100 * x, 100 * y, color=colour, linestyle=line)
    panel.plot([0, 100], [0, 100], color=INK, linewidth=1, linestyle=(0, (3, 2)))
    panel.set(title=f"ROC, {suite} (dotted: MI)", xlabel="false alarms (%)", ylabel="detected (%)")
    panel.set(xlim=(0, 100), ylim=(0, 101))


def _rotation(accuracy: Any, entropy: Any, turned: Mapping[float, Mapping[str, Any]], looks: Looks) -> None:
    def of(seen: Any, what: str) -> float:
        if what == "accuracy":
            return 100 * seen["correct"].double().mean().item()
        return seen["predictive_entropy"].mean().item()

    for name, (colour, mark) in looks.items():
        for panel, what in ((accuracy, "accuracy"), (entropy, "entropy")):
            values = [of(theirs[name], what) for theirs in turned.values()]
            panel.plot(list(turned), values, color=colour, marker=mark, markersize=4)
    accuracy.set(title="Turned images", xlabel="angle (degrees)", ylabel="accuracy (%)")
    entropy.set(title="Turned images", xlabel="angle (degrees)", ylabel="mean entropy (nats)")
    for panel in (accuracy, entropy):
        panel.set_ylim(bottom=0)

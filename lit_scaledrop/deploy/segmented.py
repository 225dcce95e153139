"""Figure 8: one row per image, with image, truth, then prediction and uncertainty of each method."""

from collections.abc import Sequence
from dataclasses import dataclass
from textwrap import wrap
from typing import TYPE_CHECKING

import numpy as np

from lit_scaledrop.shapes import Float, UInt8

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_SIDE = 1.35
"""Width and height of a panel in inches."""
_LINE = 14
"""Letters of a line of a row's name: longer ones reach the next row."""
_TRUTH, _GUESS, _WRONG = "#2BD45A", "#FFFFFF", (0.9, 0.1, 0.1)


@dataclass(frozen=True)
class Panel:
    """A row of the picture."""

    title: str
    image: UInt8[np.ndarray, "height width 3"]
    truth: UInt8[np.ndarray, "height width"]
    """class of each pixel"""
    predictions: dict[str, tuple[UInt8[np.ndarray, "height width"], Float[np.ndarray, "height width"]]]
    """class and uncertainty (0 to 1) of each pixel, by method"""


def draw(rows: Sequence[Panel]) -> "Figure":
    """The picture.

    Raises:
        ValueError: if there are none.
    """
    from lit_scaledrop.report.figures.style import name_row
    from lit_scaledrop.report.figures.style import panels as new_figure

    if not rows:
        raise ValueError("there is no image to show")
    methods = list(rows[0].predictions)
    columns = 2 + 2 * len(methods)
    figure, axes = new_figure(len(rows), columns, _SIDE, _SIDE, "Segmented test images and their uncertainty")
    for line, row in zip(axes, rows, strict=True):
        # "none" puts an image into the SVG as it is, not enlarged to the dots of the PNG
        line[0].imshow(row.image, interpolation="none")
        name_row(line[0], "\n".join(short for part in row.title.splitlines() for short in wrap(part, _LINE)))
        line[1].imshow(row.image, interpolation="none")
        _outline(line[1], row.truth, _TRUTH)
        for place, method in enumerate(methods):
            predicted, uncertainty = row.predictions[method]
            prediction, heat = line[2 + 2 * place], line[3 + 2 * place]
            prediction.imshow(_with_errors(row.image, predicted != row.truth), interpolation="none")
            _outline(prediction, row.truth, _TRUTH)
            _outline(prediction, predicted, _GUESS)
            shown = heat.imshow(uncertainty, vmin=0, vmax=1, cmap="magma", interpolation="none")
            _outline(heat, row.truth, _TRUTH)
        for ax in line:
            ax.set(xticks=[], yticks=[])
            ax.grid(visible=False)
            ax.spines[:].set_visible(False)
    names = ["Image", "Truth", *(name for method in methods for name in (method, "Uncertainty"))]
    for ax, name in zip(axes[0], names, strict=True):
        ax.set_title(name)
    # inside the last panel's axes: tight_layout knows nothing of other places
    bar = figure.colorbar(shown, cax=axes[-1, -1].inset_axes((0.0, -0.12, 1.0, 0.05)), orientation="horizontal")
    bar.set_ticks([0, 0.5, 1])
    bar.set_label("Entropy / maximum")
    return figure


def _outline(axes: "Axes", mask: np.ndarray, colour: str) -> None:
    inside = mask > 0
    if inside.any() and not inside.all():
        axes.contour(inside, levels=[0.5], colors=[colour], linewidths=0.8)


def _with_errors(image: np.ndarray, wrong: np.ndarray) -> np.ndarray:
    """The image with wrong pixels tinted."""
    share = 0.55 * wrong[..., None]
    return image / 255 * (1 - share) + np.array(_WRONG) * share

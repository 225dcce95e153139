"""The figure of a prediction: class probabilities of each pass."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from lit_scaledrop.report.figures.style import FAINT, INK, RIVAL, TRUE, panels, style
from lit_scaledrop.shapes import Float

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_MOST_CLASSES = 12


def draw_prediction(
    probs: Float[Tensor, "samples inputs classes"],
    mean: Float[Tensor, "inputs classes"],
    titles: Sequence[str],
    names: Sequence[str] | None,
) -> "Figure":
    """A panel for each input: the mean of each class as a bar, each sample as a dot; most probable classes first.

    Raises:
        ValueError: another number of names than of classes.
    """
    samples, _, classes = probs.shape
    if names is not None and len(names) != classes:
        raise ValueError(f"{len(names)} names for {classes} classes")
    shown = min(classes, _MOST_CLASSES)
    with style():
        columns = min(len(titles), 4)
        rows = -(-len(titles) // columns)
        figure, axes = panels(rows, columns, 2.9, 1.1 + 0.2 * shown, f"{samples} samples")
        for index, (panel, title) in enumerate(zip(axes.flat, titles, strict=False)):
            best = mean[index].argsort(descending=True)[:shown]
            places = torch.arange(shown).flip(0)
            dots = probs[:, index, best]
            colours = [TRUE, RIVAL, *[FAINT] * shown][:shown]
            panel.barh(places.numpy(), mean[index, best].numpy(), height=0.75, color=colours, alpha=0.45)
            panel.scatter(
                dots.flatten().numpy(), places.repeat(samples).numpy(), s=7, color=INK, alpha=0.5, linewidths=0
            )
            panel.set_yticks(places.numpy(), [str(int(one)) if names is None else names[int(one)] for one in best])
            panel.set(xlim=(0, 1.01), xlabel="probability")
            panel.set_title(title)
        for unused in axes.flat[len(titles) :]:
            unused.set_axis_off()
        figure.tight_layout(rect=(0, 0, 1, 1 - 0.05 / figure.get_size_inches()[1]))
    return figure

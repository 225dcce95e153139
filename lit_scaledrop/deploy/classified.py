"""A contact sheet of classified images: class, confidence, and whether the prediction is accepted."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from lit_scaledrop.shapes import Float, UInt8

COLUMNS, MOST = 8, 64
ACCEPTED, REJECTED = "#009E73", "#D55E00"


@dataclass(frozen=True)
class ClassifiedImage:
    """What a network says of one picture."""

    path: Path
    pixels: UInt8[Tensor, "3 side side"]
    """as the network sees it, in colour"""
    name: str
    """of the most probable class"""
    probs: Float[Tensor, " classes"]
    """mean probabilities over the passes"""
    interval: tuple[float, float]
    """of the probability of that class over the passes, 95 %"""
    entropy: float
    """of the mean probabilities, nats"""
    mutual_information: float
    """disagreement between passes, nats"""
    accepted: bool
    """by the rule of eq. 26"""

    @property
    def confidence(self) -> float:
        """Mean probability of the most probable class."""
        return self.probs.max().item()

    def below(self, folder: Path) -> str:
        """Its path below the folder of the pictures; its name where it is the only one."""
        inside = self.path.is_relative_to(folder) and self.path != folder
        return self.path.relative_to(folder).as_posix() if inside else self.path.name

    @property
    def row(self) -> list[str]:
        """What a table has behind the file."""
        numbers = (self.confidence, *self.interval, self.entropy, self.mutual_information)
        return [self.name, *(f"{n:.4f}" for n in numbers), "accept" if self.accepted else "reject"]


def draw_sheet(images: Sequence[ClassifiedImage], path: Path) -> None:
    """Draw up to 64 pictures, the surest first, as PNG, SVG or PDF."""
    from matplotlib.figure import Figure

    from lit_scaledrop.report.figures.style import style

    shown = sorted(images, key=lambda image: (not image.accepted, -image.confidence))[:MOST]
    columns = min(COLUMNS, len(shown))
    rows = math.ceil(len(shown) / columns)
    with style():
        # wide enough for the title
        figure = Figure(figsize=(max(4.0, 1.45 * columns + 0.3), 1.95 * rows + 0.5), layout="constrained")
        grid = figure.subplots(rows, columns, squeeze=False)
        for axes in grid.flat:
            axes.set_axis_off()
        for axes, image in zip(grid.flat, shown, strict=False):
            colour = ACCEPTED if image.accepted else REJECTED
            axes.set_axis_on()
            axes.grid(False)
            axes.imshow(image.pixels.permute(1, 2, 0).numpy(), interpolation="nearest")
            axes.set_xticks([])
            axes.set_yticks([])
            for spine in axes.spines.values():
                spine.set(visible=True, color=colour, linewidth=2.5)
            verdict = "accept" if image.accepted else "reject"
            axes.set_title(f"{image.name} {100 * image.confidence:.0f} %", fontsize=8)
            axes.set_xlabel(f"{verdict}, H {image.entropy:.2f} nats", fontsize=7, color=colour, labelpad=3)
        title = (
            "Class and mean probability; green: accepted by the rule of eq. 26, orange: rejected; H: predictive entropy"
        )
        figure.suptitle(title if columns >= 5 else title.replace("; ", "\n"), fontsize=8.5, x=0.01, ha="left")
        path.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(path, dpi=150)

"""Figure 8 from made-up pictures. SCALEDROP_PICTURES=folder keeps it."""

import os
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("matplotlib")

from lit_scaledrop.deploy.segmented import Panel, draw
from lit_scaledrop.report.figures.style import _STYLE, images, style

METHODS = ("FP", "MC-Dropout", "Proposed")


def panel(name):
    """A disc as lesion, predicted too far to the right, and uncertain around its edge."""
    y, x = np.mgrid[:40, :40]
    truth, predicted = ((np.hypot(x - at, y - 20) < 9).astype(np.uint8) for at in (20, 23))
    image = np.repeat((90 + 3 * x + 60 * truth)[..., None], 3, axis=2).astype(np.uint8)
    uncertain = np.exp(-abs(np.hypot(x - 20, y - 20) - 9) / 3)
    return Panel(name, image, truth, dict.fromkeys(METHODS, (predicted, uncertain)))


@pytest.fixture
def figure():
    with style():
        return draw([panel(f"Bayesian SegNet\nCOVID-19 Lung CT\n{name}") for name in ("median", "lower quartile")])


def test_titles_are_those_of_the_other_figures(figure):
    rows = figure.axes[:16]
    assert figure.get_suptitle() == "Segmented test images and their uncertainty"
    titles = [axes.get_title(loc="left") for axes in rows[:8]]
    assert titles == ["Image", "Truth", *(name for method in METHODS for name in (method, "Uncertainty"))]
    assert not any(axes.get_title(loc="center") for axes in rows)
    assert {axes._left_title.get_fontsize() for axes in rows[:8]} == {_STYLE["axes.titlesize"]}
    names = [rows[place].yaxis.label for place in (0, 8)]
    assert [label.get_text().splitlines()[-1] for label in names] == ["median", "lower quartile"]
    assert {(label.get_fontsize(), label.get_fontweight()) for label in names} == {(8.5, "bold")}


def test_no_words_lie_on_each_other(figure, tmp_path):
    with style():
        files = images(figure, "What is shown.\nProfile quick.")
        folder = Path(os.environ.get("SCALEDROP_PICTURES", tmp_path))
        (folder / "figure8.png").write_bytes(files["png"])
        figure.canvas.draw()
        rows = figure.axes[:16]
        words = [axes._left_title for axes in rows[:8]] + [axes.yaxis.label for axes in (rows[0], rows[8])]
        words += [figure._suptitle, *figure.texts, *(label for axes in figure.axes for child in axes.child_axes
                  for label in (child.xaxis.label, *child.get_xticklabels()))]  # fmt: skip
        boxes = [word.get_window_extent() for word in dict.fromkeys(words) if word.get_text()]
    assert len(boxes) > 14
    for index, box in enumerate(boxes):
        assert not any(box.overlaps(other) for other in boxes[index + 1 :])
        assert box.x0 >= 0
        assert box.x1 <= figure.bbox.width


def test_there_is_something_to_show():
    with pytest.raises(ValueError, match="no image to show"):
        draw([])

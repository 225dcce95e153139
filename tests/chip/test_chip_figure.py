"""The page on a chip fits, whatever it is called."""

from pathlib import Path

import pytest
import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from torch import nn

from hardware.chip import Chip
from hardware.chip_file import load_chip
from hardware.energy import network_energy
from hardware.passes import expected_passes
from hardware.workload import trace_workload
from lit_scaledrop.chip.chip_figure import draw_chip

DOCS = Path(__file__).resolve().parents[2] / "docs"


@pytest.mark.parametrize("footer", ["short.", "several words " * 30, "a_file_with_a_very_long_name" * 10])
def test_the_footer_fits(footer):
    layers = trace_workload(nn.Sequential(nn.Flatten(), nn.Linear(64, 10)), (1, 8, 8))
    energy = network_energy(layers, expected_passes(layers, passes=1), Chip())
    bins = torch.tensor([[10.0, 5.0, 4.0]] * 15)
    rows = [("accuracy", "0.6", "0.6")]
    figure = draw_chip(load_chip(DOCS / "chip.yaml"), rows, bins, [bins], energy, "a title", footer)
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    written = figure._supxlabel.get_window_extent(canvas.get_renderer())
    panels = [axes.get_tightbbox(canvas.get_renderer()) for axes in figure.axes]
    assert 0 <= written.x0 < written.x1 <= figure.bbox.x1
    assert written.y0 >= 0
    assert written.y1 <= min(panel.y0 for panel in panels)

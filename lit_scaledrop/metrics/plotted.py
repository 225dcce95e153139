"""Metrics that draw themselves as torchmetrics' own do."""

from typing import Any

from torchmetrics import Metric


class PlottedMetric(Metric):
    """A metric with torchmetrics' picture of its value, or of its values over time."""

    def plot(self, val: Any = None, ax: Any = None) -> tuple[Any, Any]:
        """Draw a value, several of them over time, or a dictionary of values; returns figure and axes.

        Args:
            val: what ``compute`` or ``forward`` returned, or a list of such; by default the value so far.
            ax: matplotlib's axes to draw into.
        """
        return self._plot(val, ax)

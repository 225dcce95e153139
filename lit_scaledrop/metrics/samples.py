"""Metrics over every sample of an epoch, gathered from all processes."""

from typing import Any

import torch
from torch import Tensor
from torchmetrics import Metric
from torchmetrics.utilities import dim_zero_cat

from lit_scaledrop.functional.uncertainty import Interpolation


class _ListMetric(Metric):
    """Named lists of one number per input, and the OOD rule (eq. 26) that some of them come from."""

    is_differentiable = False
    full_state_update = False
    plot = Metric._plot

    names: tuple[str, ...]

    def __init__(
        self,
        quantile: float = 0.1,
        threshold: float = 0.95,
        interpolation: Interpolation = "linear",
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.quantile, self.threshold, self.interpolation = quantile, threshold, interpolation
        # of the empty tensor that torchmetrics gathers from a process without inputs
        self.set_dtype(torch.float64)
        # own names, so that compute groups do not merge metrics that agree on the first batch
        options = f"{type(self).__name__}_{quantile}_{threshold}_{interpolation}"
        self._lists = {name: f"{name}_{options}" for name in self.names}
        for state in self._lists.values():
            self.add_state(state, [], dist_reduce_fx="cat")

    def _append(self, **columns: Tensor) -> None:
        for name, state in self._lists.items():
            getattr(self, state).append(columns[name].double())

    def _columns(self) -> dict[str, Tensor]:
        lists = {name: getattr(self, state) for name, state in self._lists.items()}
        empty = torch.zeros(0, dtype=torch.float64)
        return {name: dim_zero_cat(parts) if len(parts) else empty for name, parts in lists.items()}

"""Callbacks: of the training (`training`), its length (`limits`), the chip (`variation`, `crossbar_energy`)."""

from lit_scaledrop.callbacks.crossbar_energy import CrossbarEnergy
from lit_scaledrop.callbacks.limits import AttemptTimer, TimeUpError, ValidationComes
from lit_scaledrop.callbacks.training import (
    EpochLines,
    EstimatorSchedule,
    RunCheckpoint,
    ScaleGradient,
    scale_data_gradients,
)
from lit_scaledrop.callbacks.variation import MTJVariation, evaluation_with

__all__ = [
    "AttemptTimer",
    "CrossbarEnergy",
    "EpochLines",
    "EstimatorSchedule",
    "MTJVariation",
    "RunCheckpoint",
    "ScaleGradient",
    "TimeUpError",
    "ValidationComes",
    "evaluation_with",
    "scale_data_gradients",
]

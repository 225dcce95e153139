"""Callbacks: of the training (`training`), the chip's random bits (`variation`) and its energy (`crossbar_energy`)."""

from lit_scaledrop.callbacks.crossbar_energy import CrossbarEnergy
from lit_scaledrop.callbacks.training import (
    EpochLines,
    EstimatorSchedule,
    RunCheckpoint,
    ScaleGradient,
    scale_data_gradients,
)
from lit_scaledrop.callbacks.variation import MTJVariation, evaluation_with

__all__ = [
    "CrossbarEnergy",
    "EpochLines",
    "EstimatorSchedule",
    "MTJVariation",
    "RunCheckpoint",
    "ScaleGradient",
    "evaluation_with",
    "scale_data_gradients",
]

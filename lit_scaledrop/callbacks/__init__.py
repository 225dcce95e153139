"""Callbacks: what sets or watches something during training (`training`), and the chip's random bits (`variation`)."""

from lit_scaledrop.callbacks.training import (
    EpochLines,
    EstimatorSchedule,
    RunCheckpoint,
    ScaleGradient,
    scale_data_gradients,
)
from lit_scaledrop.callbacks.variation import MTJVariation, evaluation_with

__all__ = [
    "EpochLines",
    "EstimatorSchedule",
    "MTJVariation",
    "RunCheckpoint",
    "ScaleGradient",
    "evaluation_with",
    "scale_data_gradients",
]

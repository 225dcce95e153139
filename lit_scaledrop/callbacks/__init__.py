"""Callbacks: what sets or watches something during training (:mod:`~lit_scaledrop.callbacks.training`)."""

from lit_scaledrop.callbacks.training import (
    EpochLines,
    EstimatorSchedule,
    RunCheckpoint,
    ScaleGradient,
    scale_data_gradients,
)

__all__ = ["EpochLines", "EstimatorSchedule", "RunCheckpoint", "ScaleGradient", "scale_data_gradients"]

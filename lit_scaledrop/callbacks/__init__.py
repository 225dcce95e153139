"""Callbacks: of the training (`training`, `learning_curve`), its length (`limits`), the chip's bits and energy."""

from lit_scaledrop.callbacks.crossbar_energy import CrossbarEnergy
from lit_scaledrop.callbacks.learning_curve import LearningCurve
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
    "LearningCurve",
    "MTJVariation",
    "RunCheckpoint",
    "ScaleGradient",
    "TimeUpError",
    "ValidationComes",
    "evaluation_with",
    "scale_data_gradients",
]

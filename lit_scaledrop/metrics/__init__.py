"""Torchmetrics over a test set; their formulas are in :mod:`lit_scaledrop.functional`, under the same file names."""

from lit_scaledrop.metrics.classification import (
    Accuracy,
    BrierScore,
    CalibrationError,
    ExpectedEntropy,
    MutualInformation,
    NegativeLogLikelihood,
    OODRate,
    PredictiveEntropy,
    classification_metrics,
    uncertainty_metrics,
)
from lit_scaledrop.metrics.ood import OODDetection, detection, ood_metrics, ood_scores
from lit_scaledrop.metrics.segmentation import ImageOverlap, PatchUncertainty, SegmentationMetrics, table5_metrics
from lit_scaledrop.metrics.selective import SelectivePrediction, outcomes, selective_metrics

__all__ = [
    "Accuracy",
    "BrierScore",
    "CalibrationError",
    "ExpectedEntropy",
    "ImageOverlap",
    "MutualInformation",
    "NegativeLogLikelihood",
    "OODDetection",
    "OODRate",
    "PatchUncertainty",
    "PredictiveEntropy",
    "SegmentationMetrics",
    "SelectivePrediction",
    "classification_metrics",
    "detection",
    "ood_metrics",
    "ood_scores",
    "outcomes",
    "selective_metrics",
    "table5_metrics",
    "uncertainty_metrics",
]

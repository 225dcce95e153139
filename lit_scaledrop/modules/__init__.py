"""LightningModules that train and evaluate the networks."""

from lit_scaledrop.modules.base import LitNetwork, NonFiniteLossError
from lit_scaledrop.modules.classifier import LitClassifier
from lit_scaledrop.modules.segmenter import LitSegmenter

__all__ = ["LitClassifier", "LitNetwork", "LitSegmenter", "NonFiniteLossError"]

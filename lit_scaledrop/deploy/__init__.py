"""Trained networks to take away: a packed file with one bit a weight, and programs for other runtimes."""

from lit_scaledrop.deploy.container import Packed, PackedError, read_packed
from lit_scaledrop.deploy.inference import freeze
from lit_scaledrop.deploy.model import load_packed, pack
from lit_scaledrop.deploy.open import open_trained

__all__ = ["Packed", "PackedError", "freeze", "load_packed", "open_trained", "pack", "read_packed"]

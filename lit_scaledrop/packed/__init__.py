"""Trained networks to take away: a packed file with one bit a weight, and programs for other runtimes."""

from lit_scaledrop.packed.container import Packed, PackedError, read_packed
from lit_scaledrop.packed.inference import freeze
from lit_scaledrop.packed.model import load_packed, pack

__all__ = ["Packed", "PackedError", "freeze", "load_packed", "pack", "read_packed"]

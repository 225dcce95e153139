"""Export of trained networks: packed files with one bit per weight, and programs for other runtimes."""

from lit_scaledrop.deploy.container import Packed, PackedError, read_packed
from lit_scaledrop.deploy.inference import freeze
from lit_scaledrop.deploy.model import load_packed, pack
from lit_scaledrop.deploy.open import from_pretrained, open_trained

__all__ = ["Packed", "PackedError", "freeze", "from_pretrained", "load_packed", "open_trained", "pack", "read_packed"]

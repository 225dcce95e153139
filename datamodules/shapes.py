"""Shapes as types: jaxtyping's names; without it (a bare cluster node) the same annotations without the shape."""

from typing import TYPE_CHECKING, Any

from torch import Tensor

if TYPE_CHECKING:
    from jaxtyping import Bool, Float, Int, Shaped, UInt8
else:
    try:
        from jaxtyping import Bool, Float, Int, Shaped, UInt8
    except ImportError:

        class _Plain:
            def __class_getitem__(cls, item: tuple[type, str]) -> Any:
                return item[0]

        Bool = Float = Int = Shaped = UInt8 = _Plain

Images = Shaped[Tensor, "batch channels height width"]
"""A batch of any number type."""
Pixels = UInt8[Tensor, "batch channels height width"]
"""A batch as it is stored."""

__all__ = ["Bool", "Float", "Images", "Int", "Pixels", "Shaped", "UInt8"]

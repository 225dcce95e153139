"""Shapes as types: jaxtyping's names; without it (a bare cluster node) the same annotations without the shape."""

from typing import TYPE_CHECKING, Any

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

__all__ = ["Bool", "Float", "Int", "Shaped", "UInt8"]

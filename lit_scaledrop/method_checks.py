"""What makes no sense in a :class:`lit_scaledrop.method.Method`, refused when one is made."""

from typing import TYPE_CHECKING

from lit_scaledrop.layers.scale_dropout import check_probability

if TYPE_CHECKING:
    from lit_scaledrop.method import Method


def check_method(method: "Method") -> None:
    """Refuse a method whose fields contradict each other.

    Raises:
        ValueError: with the two that do.
    """
    if method.signs and method.activation in ("relu", "pact"):
        raise ValueError(f"a binary method needs activation='hardtanh': sign({method.activation}(x)) is constant")
    if (method.activation == "pact") != (1 < method.bits_a < 32):
        raise ValueError(
            "activation='pact' makes activations of 2 to 16 bits, and nothing else does: "
            f"bits_a is {method.bits_a}, activation {method.activation!r}"
        )
    if method.open_skip and not method.signs:
        raise ValueError("open_skip is for networks of signs: without one no nonlinearity would be left")
    if method.clip_decay and method.activation != "pact":
        raise ValueError("clip_decay is for activation='pact', which has the clips")
    for name in ("feature_dropout", "block_dropout", "weight_dropout", "input_dropout"):
        check_probability(getattr(method, name), name)
    if method.weight_dropout and method.binary:
        raise ValueError("weight_dropout is for full-precision layers; a binary weight has no state for dropped")
    if (method.input_dropout or method.arrays > 1) and not method.binary:
        raise ValueError("input_dropout and arrays are for binary layers: give an estimator")
    if (method.members > 1) != bool(method.member):
        raise ValueError("an ensemble needs both: members above 1, and member, the method that they have")

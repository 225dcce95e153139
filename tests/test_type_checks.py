"""Annotations are checked while the tests run, shapes and plain types, also of dataclasses and inner functions."""

import pytest
import torch
from beartype import beartype
from jaxtyping import Float, TypeCheckError
from torch import Tensor

from lit_scaledrop.functional.uncertainty import mutual_information
from lit_scaledrop.naming import count
from lit_scaledrop.report.energies import Band
from type_checks import jaxtyped


def test_shapes():
    mutual_information(torch.full((2, 3, 4), 0.25))
    with pytest.raises(TypeCheckError, match="mutual_information"):
        mutual_information(torch.full((3, 4), 0.25))


def test_plain_types():
    assert count(2, "run") == "2 runs"
    with pytest.raises(TypeCheckError, match="count"):
        count("2", "run")
    with pytest.raises(TypeCheckError, match="low"):
        Band("2", 3.0, {}, 4.0)


def test_inner_functions_are_checked_where_they_have_a_shape():
    checked = []
    for _ in range(2):

        @jaxtyped(typechecker=beartype)
        def shaped(x: Float[Tensor, "n n"]) -> int:
            return len(x)

        @jaxtyped(typechecker=beartype)
        def plain(x: int) -> int:
            return x

        checked.append((shaped, plain))
    for shaped, plain in checked:
        assert shaped(torch.zeros(2, 2)) == 2
        with pytest.raises(TypeCheckError):
            shaped(torch.zeros(2, 3))
        assert plain("as it is") == "as it is"

"""MATLAB files of version 5 against SciPy, which writes them."""

import io

import numpy as np
import pytest
from scipy.io import loadmat, savemat

from datamodules.files.mat5 import read_arrays

ARRAYS = {
    "X": np.arange(2 * 3 * 4 * 5, dtype=np.uint8).reshape(2, 3, 4, 5),
    "y": np.array([[1.0], [10.0], [1e9]]),
    "a_long_name": np.array([[-3, 7]], np.int16),
    "one": np.array([[2]], np.uint8),  # a small element
    "single": np.array([[0.5, -2.5]], np.float32),
    "none": np.zeros((0, 3)),
}


def written(compressed=False, **arrays):
    stream = io.BytesIO()
    savemat(stream, arrays, do_compression=compressed)
    return stream.getvalue()


@pytest.mark.parametrize("compressed", [False, True])
def test_arrays_are_scipys(compressed):
    content = written(compressed, **ARRAYS, text="abc", cell=np.array([[1, "x"]], object), imaginary=np.array([[1j]]))
    found, theirs = read_arrays(content), loadmat(io.BytesIO(content))
    assert found.keys() == ARRAYS.keys()  # others are none of real numbers
    for name, array in found.items():
        assert array.shape == theirs[name].shape
        assert np.array_equal(array, theirs[name])


def test_what_is_none_or_unpacks_to_too_much_is_refused(monkeypatch):
    content = written(True, X=np.zeros(1_000_000, np.uint8))
    assert read_arrays(content)["X"].shape == (1, 1_000_000)
    monkeypatch.setenv("SCALEDROP_LIMIT_GB", "0.0009")
    for bad, says in (
        (content, "what is compressed in it needs .* SCALEDROP_LIMIT_GB=1 allows it"),
        (b"", "no MATLAB file of version 5"),
        (b"MATLAB 7.3" + bytes(200), "no MATLAB file of version 5"),
        (written(X=np.zeros(9))[:-8], "ends within an element"),
    ):
        with pytest.raises(ValueError, match=says):
            read_arrays(bad)

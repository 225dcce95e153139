"""Nodal analysis of a resistive array, by a sparse solver; knows nothing of the hardware model."""

import numpy as np
import scipy.sparse as sparse
from scipy.sparse.linalg import spsolve


def currents(conductance: np.ndarray, word_ohm: float, bit_ohm: float) -> np.ndarray:
    """Currents out of the bit lines, A, of word lines driven at their left end by 1 V.

    Args:
        conductance: what conducts between each word and bit line, S, ``(rows, columns)``; an undriven row has nothing.
        word_ohm: from one column to the next on a word line, and from its driver to the first.
        bit_ohm: from one row to the next on a bit line, and from the first to the virtual ground.
    """
    rows, columns = conductance.shape
    words = np.arange(rows * columns).reshape(rows, columns)
    bits = words + words.size
    one, other, value = [], [], []

    def between(a: np.ndarray, b: np.ndarray, siemens: np.ndarray | float) -> None:
        a, b, s = (part.ravel() for part in np.broadcast_arrays(a, b, siemens))
        one.extend([a, b, a, b])
        other.extend([a, b, b, a])
        value.extend([s, s, -s, -s])

    between(words, bits, conductance)
    between(words[:, :-1], words[:, 1:], 1 / word_ohm)
    between(bits[:-1], bits[1:], 1 / bit_ohm)
    for ends, ohm in ((words[:, 0], word_ohm), (bits[0], bit_ohm)):
        one.append(ends)
        other.append(ends)
        value.append(np.full(len(ends), 1 / ohm))
    matrix = sparse.csc_matrix((np.concatenate(value), (np.concatenate(one), np.concatenate(other))))
    into = np.zeros(2 * words.size)
    into[words[:, 0]] = 1 / word_ohm
    return spsolve(matrix, into)[bits[0]] / bit_ohm

"""Whether tensors still hold what they did, at the speed of memory."""

from collections.abc import Sequence

import numpy as np
from torch import Tensor

from lit_scaledrop.layers.bits.build import best_level, kernels


class Digest:
    """What tensors on the CPU hold, as one number that other contents would hardly give.

    >>> import torch
    >>> from lit_scaledrop.layers.bits import available
    >>> weight = torch.randn(5, 3)
    >>> digest = Digest([weight]) if available() else None
    >>> before = digest is None or digest.same()
    >>> weight[2, 1].neg_().item() != 0 and before and (digest is None or not digest.same())
    True
    """

    def __init__(self, tensors: Sequence[Tensor]) -> None:
        self.tensors = tensors
        self._where = self._look()
        self._places = np.array(self._where, np.int64).reshape(-1, 2).T.copy()
        self._number = self._mix()

    def same(self) -> bool:
        """Whether they hold what they did, in the same memory."""
        return self._look() == self._where and self._mix() == self._number

    def _look(self) -> list[tuple[int, int]]:
        return [(tensor.data_ptr(), tensor.nbytes) for tensor in self.tensors]

    def _mix(self) -> int:
        where, sizes = self._places
        return int(kernels().bits_digest(best_level(), where.ctypes.data, sizes.ctypes.data, len(where)))

r"""Convolutions of signs in bfloat16: half the bytes, and not one wrong bit.

A sum of n numbers +-1 is an integer of at most n, and processors that multiply bfloat16 add up in float32, which holds
it exactly. bfloat16 itself has 8 significant bits: it holds every integer up to 256, and every even one up to 512. So
the result is exact for n up to 256, and beyond it wherever all sums are even, which an even number of input channels
makes them (zero padding leaves whole pixels out), and below 512. A look at the result says whether one was not, and
then float32 computes it again. ``benchmarks/bench_exact.py`` measures it.
"""

from functools import cache
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from lit_scaledrop.shapes import Float

ALL_EXACT, EVEN_EXACT = 256, 512
"""bfloat16 holds every integer up to the one, and every even integer up to the other."""


@cache
def native_bfloat16() -> bool:
    """Whether this processor multiplies bfloat16 by itself; elsewhere it would be slower than float32."""
    probes = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")
    return torch.backends.mkldnn.is_available() and any(getattr(torch.cpu, probe, bool)() for probe in probes)


def worthwhile(x: Tensor) -> bool:
    """Whether signs may be convolved in bfloat16: float32 on a CPU that has it, and nobody wants a gradient."""
    return (
        x.dtype == torch.float32
        and x.device.type == "cpu"
        and not torch.is_grad_enabled()
        and not torch.compiler.is_compiling()
        and not torch.is_autocast_enabled("cpu")
        and native_bfloat16()
    )


def conv2d_of_signs(
    x: Float[Tensor, "rows c_in h w"], weight: Float[Tensor, "c_out ..."], **geometry: Any
) -> Float[Tensor, "rows c_out h_out w_out"]:
    """What ``F.conv2d`` gives in float32, bit for bit, for inputs and weights that are all +1 or -1.

    >>> x, weight = torch.ones(1, 2, 3, 3), torch.ones(1, 2, 3, 3)
    >>> conv2d_of_signs(x, weight, padding=1)[0, 0].tolist()
    [[8.0, 12.0, 8.0], [12.0, 18.0, 12.0], [8.0, 12.0, 8.0]]
    """
    many = weight[0].numel() > ALL_EXACT
    if many and weight.shape[1] % 2:
        return F.conv2d(x, weight, **geometry)
    sums = F.conv2d(x.bfloat16(), weight.bfloat16(), **geometry)
    if many and sums.numel():
        low, high = torch.aminmax(sums)
        if max(-low.item(), high.item()) >= EVEN_EXACT:
            return F.conv2d(x, weight, **geometry)
    return sums.float()

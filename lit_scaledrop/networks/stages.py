"""Building blocks of the segmentation networks: chains of 3x3 convolutions at one resolution."""

from collections import OrderedDict
from collections.abc import Sequence
from itertools import pairwise

from torch import Tensor, nn

from lit_scaledrop.methods.method import Method
from lit_scaledrop.shapes import Float


class Stage(nn.Module):
    """Convolutions at one resolution, the last one's activation, dropout; what is between them is the network's."""

    def __init__(self, blocks: nn.Module, activation: nn.Module, dropout: nn.Module) -> None:
        super().__init__()
        self.blocks, self.activation, self.dropout = blocks, activation, dropout

    def forward(self, x: Float[Tensor, "batch c_in h w"]) -> Float[Tensor, "rows c_out h w"]:
        """Convolve."""
        return self.dropout(self.activation(self.blocks(x)))


def chain(method: Method, channels: Sequence[int], stem: bool = False) -> nn.Sequential:
    """Hidden 3x3 convolutions, each with scale and BatchNorm; activations in between, none behind the last.

    Args:
        method: where blocks and activations come from.
        channels: in, between and out; one more than there are convolutions.
        stem: whether the first convolution is the network's, in full precision and without a scale.
    """
    layers: list[nn.Module] = []
    for place, (c_in, c_out) in enumerate(pairwise(channels)):
        if stem and not place:
            conv = nn.Conv2d(c_in, c_out, 3, padding=1, bias=False)
            block = nn.Sequential(OrderedDict(conv=conv, norm=nn.BatchNorm2d(c_out)))
        else:
            block = method.conv_block(c_in, c_out, 3, padding=1)
        layers += [block, method.activation_layer()]
    return nn.Sequential(*layers[:-1])


def scaled(channels: Sequence[int], width: float) -> list[int]:
    """Channel counts times a width, at least one each.

    >>> scaled((64, 128), 0.01)
    [1, 1]
    """
    return [max(1, round(count * width)) for count in channels]


def require_multiple(size: Sequence[int], multiple: int, network: str) -> None:
    """Refuse images that the network cannot halve and double without a rest.

    Raises:
        ValueError: height or width is no multiple.

    >>> require_multiple((20, 32), 16, "U-Net")
    Traceback (most recent call last):
    ValueError: U-Net needs images whose height and width are multiples of 16, got 20x32: pad or scale them to 32x32
    """
    height, width = size
    if height % multiple or width % multiple or not height or not width:
        fitting = "x".join(str(max(1, -(-side // multiple)) * multiple) for side in (height, width))
        raise ValueError(
            f"{network} needs images whose height and width are multiples of {multiple}, got {height}x{width}: "
            f"pad or scale them to {fitting}"
        )

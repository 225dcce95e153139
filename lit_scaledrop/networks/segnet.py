"""Bayesian SegNet (Kendall et al., arXiv:1511.02680): VGG-16's 13 convolutions, and a decoder that mirrors them.

The decoder upsamples by max-unpooling: each value goes back to the place where the encoder's pooling found it, and the
other three places of its 2x2 square are zero. Zero is a level of PACT, so unpooled maps are 4-bit codes as well.

convolution, scale, BatchNorm, activation, pooling: what is compared are 4-bit codes. Of these many are equal, and of
equals the first in reading order is taken, so a place is arbitrary to one pixel where a square has its maximum twice
(zeros aside, which are zero at every place). Pooling in front of the activation gives the same values, since the
activation is monotone, and would see finer differences. But sums of +-1 times codes are often equal there too, up to
the rounding of the convolution; then the place, and with it the picture, depends on the kernel that the batch's size
chooses: logits of one image alone and in a batch differed by half of their range.

MC-Dropout stands where the paper's best network has it: behind the three deepest encoders (behind their pooling) and
behind the three deepest decoders, p = 0.5.
"""

from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lit_scaledrop.layers.prefix import align
from lit_scaledrop.methods.method import Method
from lit_scaledrop.networks.stages import Stage, chain, require_multiple, scaled
from lit_scaledrop.shapes import Float, Int

CHANNELS = (64, 128, 256, 512, 512)
CONVOLUTIONS = (2, 2, 3, 3, 3)


class Encoder(Stage):
    """Convolutions, max-pooling that notes the places, dropout."""

    def forward(  # type: ignore[override]
        self, x: Float[Tensor, "batch c_in H W"]
    ) -> tuple[Float[Tensor, "rows c_out h w"], Int[Tensor, "coarser c_out h w"]]:
        """Pooled maps, and for each value its place in the plane, ``row * W + column``."""
        x, places = F.max_pool2d(self.activation(self.blocks(x)), 2, return_indices=True)
        return self.dropout(x), places


class Decoder(Stage):
    """Max-unpooling, convolutions, activation, dropout."""

    def forward(  # type: ignore[override]
        self, x: Float[Tensor, "batch c_in h w"], places: Int[Tensor, "coarser c_in h w"]
    ) -> Float[Tensor, "rows c_out H W"]:
        """Put values back to their places and convolve."""
        # places of an older grouping, as a skip; they count within a plane, so copies of rows keep them valid
        x, places = align(x, places)
        return self.dropout(self.activation(self.blocks(F.max_unpool2d(x, places, [2, 2]))))


class SegNet(nn.Module):
    """Five encoders and five decoders, 26 convolutions of 3x3, the first and the last in full precision.

    ``width`` multiplies the 64, 128, 256, 512 and 512 channels.

    Shape: images ``(batch, in_channels, h, w)``, h and w multiples of 32, to logits ``(batch, num_classes, h, w)``.
    """

    multiple = 32

    def __init__(self, method: Method, num_classes: int = 2, in_channels: int = 3, width: float = 1.0) -> None:
        super().__init__()
        channels = scaled(CHANNELS, width)

        def dropout(level: int) -> nn.Module:
            return method.block_dropout_layer() if level >= len(channels) - 3 else nn.Identity()

        encoders, decoders = [], []
        for level, (previous, count) in enumerate(pairwise((in_channels, *channels))):
            counts = [count] * CONVOLUTIONS[level]
            blocks = chain(method, [previous, *counts], stem=not level)
            back = chain(method, [*counts, previous] if level else counts)  # the head is the first level's last
            encoders.append(Encoder(blocks, method.activation_layer(), dropout(level)))
            decoders.append(Decoder(back, method.activation_layer(), dropout(level)))
        self.encoders = nn.ModuleList(encoders)
        self.decoders = nn.ModuleList(reversed(decoders))
        self.head = nn.Conv2d(channels[0], num_classes, 3, padding=1)

    def forward(self, x: Float[Tensor, "batch channels h w"]) -> Float[Tensor, "rows classes h w"]:
        """Logits of every pixel."""
        require_multiple(x.shape[-2:], self.multiple, "SegNet")
        places: list[torch.Tensor] = []
        for encoder in self.encoders:
            x, found = encoder(x)
            places.append(found)
        for decoder in self.decoders:
            x = decoder(x, places.pop())
        return self.head(x)


def segnet(
    method: Method, num_classes: int = 2, in_channels: int = 3, width: float = 1.0, image_size: int = 256
) -> nn.Module:
    """Build a :class:`SegNet`."""
    require_multiple((image_size, image_size), SegNet.multiple, "segnet")
    return method.finish(SegNet(method, num_classes, in_channels, width), (in_channels, image_size, image_size))

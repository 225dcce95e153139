"""U-Net (Ronneberger et al., arXiv:1505.04597) in a form that crossbars can hold.

- A binary block is convolution, scale, BatchNorm, activation. Borders are padded, so the output has the input's size.
- Upsampling is the paper's 2x2 transposed convolution of stride 2. Its four taps never overlap, so it is a 1x1
  convolution to four times the channels whose outputs are written to the four places of a 2x2 square
  (``nn.PixelShuffle``): one crossbar of C rows and 4 C' columns, 1-bit weights, 4-bit inputs, no adding of partial
  pictures. Bilinear upsampling would have no weights, but it mixes 4-bit codes into values of more levels, which
  would have to be rounded once more in front of the next crossbar.
- Upsampled maps get the activation *module* of the encoder whose maps they are concatenated with. So the two halves
  have one clip and one step, and the next convolution reads 4-bit codes; with two clips it would read 32 levels, and a
  crossbar would have to scale the halves apart.
- MC-Dropout stands behind the two deepest blocks of the encoder (the bottom is one) and of the decoder, the central
  four that Bayesian SegNet's paper speaks of. The fourth encoder's skip is dropped with it, as in the paper's network.
"""

from itertools import pairwise

import torch
from torch import Tensor, nn

from lit_scaledrop.layers.prefix import align
from lit_scaledrop.methods.method import Method
from lit_scaledrop.networks.stages import Stage, chain, require_multiple, scaled
from lit_scaledrop.shapes import Float

CHANNELS = (64, 128, 256, 512, 1024)


class Decoder(nn.Module):
    """Upsampling to twice the resolution, concatenation with the encoder's maps, and a :class:`Stage`."""

    def __init__(self, method: Method, in_channels: int, out_channels: int, dropout: nn.Module) -> None:
        super().__init__()
        self.up = nn.Sequential(method.conv_block(in_channels, 4 * out_channels, 1), nn.PixelShuffle(2))
        blocks = chain(method, (2 * out_channels, out_channels, out_channels))
        self.stage = Stage(blocks, method.activation_layer(), dropout)

    def forward(
        self, x: Float[Tensor, "batch c_in h w"], skip: Float[Tensor, "coarser c_out H W"], activation: nn.Module
    ) -> Float[Tensor, "rows c_out H W"]:
        """Decode; ``activation`` is the one that made ``skip``."""
        return self.stage(torch.cat(align(skip, activation(self.up(x))), 1))


class UNet(nn.Module):
    """Four encoders, a bottom and four decoders; first and last convolution in full precision.

    ``width`` multiplies the 64, 128, 256, 512 and 1024 channels.

    Shape: images ``(batch, in_channels, h, w)``, h and w multiples of 16, to logits ``(batch, num_classes, h, w)``.
    """

    multiple = 16

    def __init__(self, method: Method, num_classes: int = 2, in_channels: int = 3, width: float = 1.0) -> None:
        super().__init__()
        channels = scaled(CHANNELS, width)
        bottom = len(channels) - 1

        def dropout(level: int) -> nn.Module:
            return method.block_dropout_layer() if level >= bottom - 1 else nn.Identity()

        encoders = []
        for level, (previous, count) in enumerate(pairwise((in_channels, *channels))):
            blocks = chain(method, (previous, count, count), stem=not level)
            encoders.append(Stage(blocks, method.activation_layer(), dropout(level)))
        self.bottom = encoders.pop()
        self.encoders = nn.ModuleList(encoders)
        self.pool = nn.MaxPool2d(2)
        self.decoders = nn.ModuleList(
            Decoder(method, channels[level + 1], channels[level], dropout(level + 1))
            for level in reversed(range(bottom))
        )
        self.head = nn.Conv2d(channels[0], num_classes, 1)

    def forward(self, x: Float[Tensor, "batch channels h w"]) -> Float[Tensor, "rows classes h w"]:
        """Logits of every pixel."""
        require_multiple(x.shape[-2:], self.multiple, "U-Net")
        skips = []
        for encoder in self.encoders:
            x = encoder(x)
            skips.append(x)
            x = self.pool(x)
        x = self.bottom(x)
        for decoder, encoder in zip(self.decoders, reversed(self.encoders), strict=True):
            x = decoder(x, skips.pop(), encoder.activation)
        return self.head(x)


def unet(
    method: Method, num_classes: int = 2, in_channels: int = 3, width: float = 1.0, image_size: int = 256
) -> nn.Module:
    """Build a :class:`UNet`."""
    require_multiple((image_size, image_size), UNet.multiple, "unet")
    return method.finish(UNet(method, num_classes, in_channels, width), (in_channels, image_size, image_size))

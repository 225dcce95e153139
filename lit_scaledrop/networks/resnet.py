"""ResNets for 32x32 images in full precision and in their binary forms.

ResNet-20: in full precision that of He et al. (arXiv:1512.03385), two convolutions under each of 9 skips; with binary
weights that of IR-Net, a skip over every convolution (Bi-Real Net). ResNet-18: a skip over every two convolutions. At a
change of stage a skip is ``"subsample"`` (He's option A: every second pixel), ``"pool"`` (2x2 average, as ReCU has it),
both without weights, nothing to map onto a crossbar, new channels zero; or ``"conv"``, a full-precision 1x1 convolution
with BatchNorm. As in IR-Net and ReCU, BatchNorm stands in front of the classifier, and nothing clips the stem of a
binary ResNet-18.
"""

from abc import ABC, abstractmethod
from itertools import pairwise

import torch
from torch import Tensor, nn

from lit_scaledrop.layers.prefix import align
from lit_scaledrop.layers.shortcut import PadShortcut
from lit_scaledrop.methods.method import Method, Shortcut
from lit_scaledrop.networks.stages import scaled
from lit_scaledrop.shapes import Float


def shortcut_layer(kind: Shortcut, in_channels: int, out_channels: int, stride: int) -> nn.Module:
    """What a skip is between two shapes; the identity where they are equal."""
    if stride == 1 and in_channels == out_channels:
        return nn.Identity()
    if kind == "conv":
        conv = nn.Conv2d(in_channels, out_channels, 1, stride, bias=False)
        return nn.Sequential(conv, nn.BatchNorm2d(out_channels))
    if kind == "pool":
        return nn.Sequential(nn.AvgPool2d(stride), PadShortcut(out_channels - in_channels, 1))
    return PadShortcut(out_channels - in_channels, stride)


class Unit(nn.Module):
    """One 3x3 convolution with its own skip: ``activation(block(x) + shortcut(x))``."""

    def __init__(
        self, method: Method, in_channels: int, out_channels: int, stride: int = 1, shortcut: Shortcut = "subsample"
    ) -> None:
        super().__init__()
        self.build(method, in_channels, out_channels, stride)
        self.shortcut = shortcut_layer(shortcut, in_channels, out_channels, stride)
        self.activation = method.skip_activation_layer()

    def build(self, method: Method, in_channels: int, out_channels: int, stride: int) -> None:
        """Make what the skip leads over."""
        self.block = method.conv_block(in_channels, out_channels, 3, stride=stride, padding=1)

    def convolve(self, x: Float[Tensor, "batch c_in h w"]) -> Float[Tensor, "rows c_out h_out w_out"]:
        """What the skip leads over."""
        return self.block(x)

    def forward(self, x: Float[Tensor, "batch c_in h w"]) -> Float[Tensor, "rows c_out h_out w_out"]:
        """Convolve, add the skip, activate."""
        return self.activation(torch.add(*align(self.convolve(x), self.shortcut(x))))


class Block(Unit):
    """Two 3x3 convolutions with one skip over both; arguments as :class:`Unit`."""

    def build(self, method: Method, in_channels: int, out_channels: int, stride: int) -> None:
        """Make what the skip leads over."""
        self.first = nn.Sequential(
            method.conv_block(in_channels, out_channels, 3, stride=stride, padding=1), method.activation_layer()
        )
        self.second = method.conv_block(out_channels, out_channels, 3, padding=1)

    def convolve(self, x: Float[Tensor, "batch c_in h w"]) -> Float[Tensor, "rows c_out h_out w_out"]:
        """What the skip leads over."""
        return self.second(self.first(x))


class ResNet(nn.Module, ABC):
    """Hidden 3x3 convolutions in stages, between a full-precision 3x3 stem and a full-precision classifier.

    Args:
        method: a row of Table III.
        num_classes: outputs.
        in_channels: channels of the images.
        width: multiplier of the channels.
        shortcut: what a skip is at a change of shape; by default the method's, else the network's.

    Shape: images ``(batch, in_channels, height, width)`` to logits ``(batch, num_classes)``.
    """

    channels: tuple[int, ...]
    """of each stage"""
    hidden: str
    """name of the stages among the modules"""
    shortcut: Shortcut

    def __init__(
        self,
        method: Method,
        num_classes: int = 10,
        in_channels: int = 3,
        width: float = 1.0,
        shortcut: Shortcut | None = None,
    ) -> None:
        super().__init__()
        channels = scaled(self.channels, width)
        conv = nn.Conv2d(in_channels, channels[0], 3, padding=1, bias=False)
        self.stem = nn.Sequential(conv, nn.BatchNorm2d(channels[0]), self.stem_activation(method))
        unit, units_a_stage = self.units_of(method)
        units: list[nn.Module] = []
        for stage, (previous, count) in enumerate(pairwise((channels[0], *channels))):
            units.append(unit(method, previous, count, 2 if stage else 1, shortcut or method.shortcut or self.shortcut))
            units += [unit(method, count, count) for _ in range(units_a_stage - 1)]
        self.add_module(self.hidden, nn.Sequential(*units))
        self.features = nn.Sequential(nn.BatchNorm1d(channels[-1]), method.feature_layer(channels[-1]))
        self.classifier = nn.Linear(channels[-1], num_classes)

    def stem_activation(self, method: Method) -> nn.Module:
        """Nonlinearity of the stem."""
        return method.skip_activation_layer()

    @abstractmethod
    def units_of(self, method: Method) -> tuple[type[Unit], int]:
        """What a stage consists of, and how many of them."""

    def forward(self, x: Float[Tensor, "batch channels h w"]) -> Float[Tensor, "rows classes"]:
        """Logits."""
        pooled = torch.mean(getattr(self, self.hidden)(self.stem(x)), (2, 3))
        return self.classifier(self.features(pooled))


class ResNet20(ResNet):
    """Three stages of 16, 32 and 64 channels; binary weights have a skip over each convolution, others over each two.

    Arguments as :class:`ResNet`.
    """

    channels, hidden, shortcut = (16, 32, 64), "units", "subsample"

    def units_of(self, method: Method) -> tuple[type[Unit], int]:
        """18 convolutions."""
        return (Unit, 6) if method.binary else (Block, 3)


class ResNet18(ResNet):
    """Four stages of 64, 128, 256 and 512 channels, 16 convolutions; arguments as :class:`ResNet`."""

    channels, hidden, shortcut = (64, 128, 256, 512), "blocks", "pool"

    def stem_activation(self, method: Method) -> nn.Module:
        """None where signs are multiplied."""
        return nn.Identity() if method.signs else method.activation_layer()

    def units_of(self, method: Method) -> tuple[type[Unit], int]:
        """A skip over two convolutions, for all methods."""
        return Block, 2


def resnet18(
    method: Method,
    num_classes: int = 10,
    in_channels: int = 3,
    width: float = 1.0,
    shortcut: Shortcut | None = None,
    image_size: int = 32,
) -> nn.Module:
    """Build a :class:`ResNet18`; ``shortcut`` is by default the method's, else ``"pool"``."""
    network = ResNet18(method, num_classes, in_channels, width, shortcut)
    return method.finish(network, (in_channels, image_size, image_size))


def resnet20(
    method: Method,
    num_classes: int = 10,
    in_channels: int = 3,
    width: float = 1.0,
    shortcut: Shortcut | None = None,
    image_size: int = 32,
) -> nn.Module:
    """Build a :class:`ResNet20`; ``shortcut`` is by default the method's, else ``"subsample"``."""
    network = ResNet20(method, num_classes, in_channels, width, shortcut)
    return method.finish(network, (in_channels, image_size, image_size))

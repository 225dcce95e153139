"""ResNets for 32x32 images in their binary forms.

ResNet-20 as in IR-Net: a skip over every convolution (Bi-Real), option-A shortcuts without weights. ResNet-18: a skip
over every two convolutions; at a change of stage a weight-free shortcut (average pooling and zero padding, as in ReCU:
nothing to map onto a crossbar) or IR-Net's full-precision 1x1 convolution.
"""

from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lit_scaledrop.layers.sharing import align
from lit_scaledrop.methods import Method
from lit_scaledrop.shapes import Float

Shortcut = Literal["pool", "conv"]


class PadShortcut(nn.Module):
    """Option-A shortcut (He et al., arXiv:1512.03385): every second pixel, new channels zero; no weights.

    Args:
        added_channels: channels to add, half of them in front.
        stride: step of the subsampling.
    """

    def __init__(self, added_channels: int, stride: int) -> None:
        super().__init__()
        self.added_channels, self.stride = added_channels, stride

    def forward(self, x: Float[Tensor, "batch c_in h w"]) -> Float[Tensor, "batch c_out h_out w_out"]:
        """Subsample and pad."""
        front = self.added_channels // 2
        return F.pad(x[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, front, self.added_channels - front))


class Unit(nn.Module):
    """One 3x3 convolution with its own skip: ``activation(block(x) + shortcut(x))``.

    Args:
        method: where block and activation come from.
        in_channels: channels in.
        out_channels: channels out.
        stride: stride of the convolution.
    """

    def __init__(self, method: Method, in_channels: int, out_channels: int, stride: int = 1) -> None:
        super().__init__()
        self.block = method.conv_block(in_channels, out_channels, 3, stride=stride, padding=1)
        same = stride == 1 and in_channels == out_channels
        self.shortcut = nn.Identity() if same else PadShortcut(out_channels - in_channels, stride)
        self.activation = method.activation_layer()

    def forward(self, x: Float[Tensor, "batch c_in h w"]) -> Float[Tensor, "rows c_out h_out w_out"]:
        """Convolve, add the skip, activate."""
        return self.activation(torch.add(*align(self.block(x), self.shortcut(x))))


class ResNet20(nn.Module):
    """18 hidden 3x3 convolutions in three stages, between a full-precision stem and a full-precision classifier.

    Args:
        method: a row of Table III.
        num_classes: outputs.
        in_channels: channels of the images.
        width: multiplier of the 16, 32 and 64 channels.

    Shape: images ``(batch, in_channels, height, width)`` to logits ``(batch, num_classes)``.
    """

    def __init__(self, method: Method, num_classes: int = 10, in_channels: int = 3, width: float = 1.0) -> None:
        super().__init__()
        channels = [max(1, round(c * width)) for c in (16, 32, 64)]
        self.stem = nn.Sequential(
            nn.Conv2d(in_channels, channels[0], 3, padding=1, bias=False),
            nn.BatchNorm2d(channels[0]),
            method.activation_layer(),
        )
        units = []
        previous = channels[0]
        for stage, out_channels in enumerate(channels):
            for index in range(6):
                units.append(Unit(method, previous, out_channels, stride=2 if stage and not index else 1))
                previous = out_channels
        self.units = nn.Sequential(*units)
        self.features = nn.Sequential(nn.BatchNorm1d(previous), method.feature_layer(previous))
        self.classifier = nn.Linear(previous, num_classes)

    def forward(self, x: Float[Tensor, "batch channels h w"]) -> Float[Tensor, "rows classes"]:
        """Logits."""
        pooled = torch.mean(self.units(self.stem(x)), (2, 3))
        return self.classifier(self.features(pooled))


class Block(nn.Module):
    """Two 3x3 convolutions with one skip over both.

    Args:
        method: where blocks and activations come from.
        in_channels: channels in.
        out_channels: channels out.
        stride: stride of the first convolution.
        shortcut: what the skip is at a change of shape.
    """

    def __init__(
        self, method: Method, in_channels: int, out_channels: int, stride: int = 1, shortcut: Shortcut = "pool"
    ) -> None:
        super().__init__()
        self.first = nn.Sequential(
            method.conv_block(in_channels, out_channels, 3, stride=stride, padding=1), method.activation_layer()
        )
        self.second = method.conv_block(out_channels, out_channels, 3, padding=1)
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or in_channels != out_channels:
            if shortcut == "pool":
                self.shortcut = nn.Sequential(nn.AvgPool2d(stride), PadShortcut(out_channels - in_channels, 1))
            else:
                self.shortcut = nn.Sequential(
                    nn.Conv2d(in_channels, out_channels, 1, stride, bias=False), nn.BatchNorm2d(out_channels)
                )
        self.activation = method.activation_layer()

    def forward(self, x: Float[Tensor, "batch c_in h w"]) -> Float[Tensor, "rows c_out h_out w_out"]:
        """Convolve twice, add the skip, activate."""
        return self.activation(torch.add(*align(self.second(self.first(x)), self.shortcut(x))))


class ResNet18(nn.Module):
    """16 hidden 3x3 convolutions in four stages, between a full-precision 3x3 stem and a full-precision classifier.

    Args:
        method: a row of Table III.
        num_classes: outputs.
        in_channels: channels of the images.
        width: multiplier of the 64, 128, 256 and 512 channels.
        shortcut: ``"pool"`` (average pooling, zero padding: no weights) or ``"conv"`` (IR-Net's 1x1 convolution).

    Shape: images ``(batch, in_channels, height, width)`` to logits ``(batch, num_classes)``.
    """

    def __init__(
        self,
        method: Method,
        num_classes: int = 10,
        in_channels: int = 3,
        width: float = 1.0,
        shortcut: Shortcut = "pool",
    ) -> None:
        super().__init__()
        channels = [max(1, round(c * width)) for c in (64, 128, 256, 512)]
        self.stem = nn.Sequential(
            nn.Conv2d(in_channels, channels[0], 3, padding=1, bias=False),
            nn.BatchNorm2d(channels[0]),
            method.activation_layer(),
        )
        blocks = []
        previous = channels[0]
        for stage, out_channels in enumerate(channels):
            for index in range(2):
                stride = 2 if stage and not index else 1
                blocks.append(Block(method, previous, out_channels, stride, shortcut))
                previous = out_channels
        self.blocks = nn.Sequential(*blocks)
        self.features = method.feature_layer(previous)
        self.classifier = nn.Linear(previous, num_classes)

    def forward(self, x: Float[Tensor, "batch channels h w"]) -> Float[Tensor, "rows classes"]:
        """Logits."""
        return self.classifier(self.features(torch.mean(self.blocks(self.stem(x)), (2, 3))))


def resnet18(
    method: Method, num_classes: int = 10, in_channels: int = 3, width: float = 1.0, shortcut: Shortcut = "pool"
) -> nn.Module:
    """Build a :class:`ResNet18`."""
    return ResNet18(method, num_classes, in_channels, width, shortcut)


def resnet20(method: Method, num_classes: int = 10, in_channels: int = 3, width: float = 1.0) -> nn.Module:
    """Build a :class:`ResNet20`."""
    return ResNet20(method, num_classes, in_channels, width)

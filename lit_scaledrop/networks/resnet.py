"""ResNet-20 for 32x32 images in the binary form of IR-Net: a skip over every convolution, shortcuts without weights."""

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from lit_scaledrop.methods import Method


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

    def forward(self, x: Float[Tensor, "batch c_in h w"]) -> Float[Tensor, "batch c_out h_out w_out"]:
        """Convolve, add the skip, activate."""
        return self.activation(self.block(x) + self.shortcut(x))


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

    def forward(self, x: Float[Tensor, "batch channels h w"]) -> Float[Tensor, "batch classes"]:
        """Logits."""
        pooled = torch.mean(self.units(self.stem(x)), (2, 3))
        return self.classifier(self.features(pooled))


def resnet20(method: Method, num_classes: int = 10, in_channels: int = 3, width: float = 1.0) -> nn.Module:
    """Build a :class:`ResNet20`."""
    return ResNet20(method, num_classes, in_channels, width)

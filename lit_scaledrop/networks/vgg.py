"""VGG-small for 32x32 images, as in the binary-network literature (HWGQ, LQ-Net, IR-Net)."""

from torch import Tensor, nn

from lit_scaledrop.methods.method import Method
from lit_scaledrop.networks.stages import scaled
from lit_scaledrop.shapes import Float


class VGGSmall(nn.Module):
    """Five hidden 3x3 convolutions between a full-precision first layer and a full-precision classifier.

    convolution, (pooling), BatchNorm, activation; pooling behind the first, third and fifth hidden convolution.

    ``width`` multiplies the 128, 256 and 512 channels.

    Shape: images ``(batch, in_channels, 32, 32)`` to logits ``(batch, num_classes)``.
    """

    def __init__(self, method: Method, num_classes: int = 10, in_channels: int = 3, width: float = 1.0) -> None:
        super().__init__()
        c1, c2, c3 = scaled((128, 256, 512), width)
        self.stem = nn.Sequential(
            nn.Conv2d(in_channels, c1, 3, padding=1, bias=False), nn.BatchNorm2d(c1), method.activation_layer()
        )
        layers: list[nn.Module] = []
        for previous, channels in ((c1, c1), (c1, c2), (c2, c2), (c2, c3), (c3, c3)):
            pool = nn.MaxPool2d(2) if previous == channels else None
            layers.append(method.conv_block(previous, channels, 3, padding=1, t_min=1e-1, pool=pool))
            layers.append(method.activation_layer())
        self.hidden = nn.Sequential(*layers, nn.Flatten())
        self.features = method.feature_layer(16 * c3)
        self.classifier = nn.Linear(16 * c3, num_classes)

    def forward(self, x: Float[Tensor, "batch channels 32 32"]) -> Float[Tensor, "rows classes"]:
        """Logits."""
        return self.classifier(self.features(self.hidden(self.stem(x))))


def vgg_small(
    method: Method, num_classes: int = 10, in_channels: int = 3, width: float = 1.0, image_size: int = 32
) -> nn.Module:
    """Build a :class:`VGGSmall`."""
    return method.finish(VGGSmall(method, num_classes, in_channels, width), (in_channels, image_size, image_size))

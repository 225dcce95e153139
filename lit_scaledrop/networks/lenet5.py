"""LeNet-5 (LeCun et al. 1998) for 32x32 images: two convolutions, three linear layers; the middle three are hidden."""

from torch import Tensor, nn

from lit_scaledrop.methods.method import Method
from lit_scaledrop.networks.stages import scaled
from lit_scaledrop.shapes import Float


def lenet5(
    method: Method, num_classes: int = 10, in_channels: int = 1, width: float = 1.0, image_size: int = 32
) -> nn.Module:
    """Build a :class:`LeNet5`."""
    return method.finish(LeNet5(method, num_classes, in_channels, width), (in_channels, image_size, image_size))


class LeNet5(nn.Module):
    """First convolution and last linear layer in full precision; a convolution and two linear layers by the method.

    ``width`` multiplies the 6 and 16 channels and the 120 and 84 features.

    Shape: images ``(batch, in_channels, 32, 32)`` to logits ``(batch, num_classes)``.
    """

    def __init__(self, method: Method, num_classes: int = 10, in_channels: int = 1, width: float = 1.0) -> None:
        super().__init__()
        c1, c2, f1, f2 = scaled((6, 16, 120, 84), width)
        self.stem = nn.Sequential(
            nn.Conv2d(in_channels, c1, 5, bias=False), nn.MaxPool2d(2), nn.BatchNorm2d(c1), method.activation_layer()
        )
        # t_min: shallow networks begin EDE where IR-Net's VGG-small does
        self.hidden = nn.Sequential(
            method.conv_block(c1, c2, 5, t_min=1e-1, pool=nn.MaxPool2d(2)),
            method.activation_layer(),
            nn.Flatten(),
            method.linear_block(c2 * 25, f1, t_min=1e-1),
            method.activation_layer(),
            method.linear_block(f1, f2, t_min=1e-1),
            method.activation_layer(),
        )
        self.features = method.feature_layer(f2)
        self.classifier = nn.Linear(f2, num_classes)

    def forward(self, x: Float[Tensor, "batch channels 32 32"]) -> Float[Tensor, "rows classes"]:
        """Logits."""
        return self.classifier(self.features(self.hidden(self.stem(x))))

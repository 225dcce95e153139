"""The full-precision reference: U-Net of segmentation-models-pytorch with a ResNet-18 encoder, not pretrained."""

from torch import Tensor, nn

from lit_scaledrop.extras import extra
from lit_scaledrop.methods.method import Method
from lit_scaledrop.networks.stages import require_multiple
from lit_scaledrop.shapes import Float


class SMPUNet(nn.Module):
    """``smp.Unet``, for full-precision methods without dropout: its layers are its own.

    Args:
        method: a full-precision, deterministic one with ReLU; looked at, not asked for layers.
        num_classes: classes of a pixel.
        in_channels: channels of the images.
        width: must be 1: the encoder's sizes are fixed.

    Shape: images ``(batch, in_channels, h, w)``, h and w multiples of 32, to logits ``(batch, num_classes, h, w)``.

    Raises:
        ValueError: for another method or width.
        ModuleNotFoundError: segmentation-models-pytorch is not installed.
    """

    multiple = 32

    def __init__(self, method: Method, num_classes: int = 2, in_channels: int = 3, width: float = 1.0) -> None:
        super().__init__()
        if method.binary or method.stochastic or method.activation != "relu":
            raise ValueError(
                "unet_smp is the full-precision reference with its own layers: it has no "
                f"{method.label} ({method.bits_w}/{method.bits_a}); use network 'unet', or method 'fp'"
            )
        if width != 1:
            raise ValueError(f"unet_smp has an encoder of fixed width: width must be 1, got {width}; or take 'unet'")
        smp = extra("segmentation_models_pytorch", "network 'unet_smp'", "; or take network 'unet'")
        # never pretrained: it would ask the network, and no other row has seen other pictures
        self.unet = smp.Unet("resnet18", encoder_weights=None, in_channels=in_channels, classes=num_classes)

    def forward(self, x: Float[Tensor, "batch channels h w"]) -> Float[Tensor, "batch classes h w"]:
        """Logits of every pixel."""
        require_multiple(x.shape[-2:], self.multiple, "unet_smp")
        return self.unet(x)


def unet_smp(
    method: Method, num_classes: int = 2, in_channels: int = 3, width: float = 1.0, image_size: int = 256
) -> nn.Module:
    """Build an :class:`SMPUNet`."""
    require_multiple((image_size, image_size), SMPUNet.multiple, "unet_smp")
    return method.finish(SMPUNet(method, num_classes, in_channels, width), (in_channels, image_size, image_size))

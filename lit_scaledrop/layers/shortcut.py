"""Shortcuts without weights."""

from torch import Tensor, nn
from torch.nn import functional as F

from lit_scaledrop.shapes import Float


class PadShortcut(nn.Module):
    """Option-A shortcut (He et al., arXiv:1512.03385): every second pixel, new channels zero, half in front."""

    def __init__(self, added_channels: int, stride: int) -> None:
        super().__init__()
        self.added_channels, self.stride = added_channels, stride

    def forward(self, x: Float[Tensor, "batch c_in h w"]) -> Float[Tensor, "batch c_out h_out w_out"]:
        """Subsample and pad."""
        front = self.added_channels // 2
        return F.pad(x[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, front, self.added_channels - front))

"""Scale-Dropout ResNets as one would write them first: eager, fp32, no library. The baseline of the training benchmark.

Same mathematics as ours (a test compares outputs and gradients), none of the care: statistics recomputed in several
steps, one autograd function for each sign that stores its input, no fusion.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class Sign(torch.autograd.Function):
    """Sign with the error-decay gradient."""

    @staticmethod
    def forward(ctx, x, t, k):  # noqa: D102
        ctx.save_for_backward(x)
        ctx.t, ctx.k = t, k
        return torch.sign(x) + (x == 0).float()

    @staticmethod
    def backward(ctx, grad):  # noqa: D102
        (x,) = ctx.saved_tensors
        return grad * ctx.k * ctx.t * (1 - torch.tanh(x * ctx.t) ** 2), None, None


class Conv(nn.Module):
    """Binary convolution, scale with dropout, BatchNorm."""

    def __init__(self, c_in: int, c_out: int, stride: int, t: float) -> None:
        super().__init__()
        self.conv = nn.Conv2d(c_in, c_out, 3, stride, 1, bias=False)
        self.scale = nn.Parameter(torch.ones(c_out))
        self.norm = nn.BatchNorm2d(c_out)
        self.p, self.t, self.k = 0.0, t, max(1 / t, 1.0)

    def forward(self, x: Tensor) -> Tensor:
        """Convolve, scale, normalize."""
        w = self.conv.weight
        flat = w.view(len(w), -1)
        flat = flat - flat.mean(1, keepdim=True)
        flat = flat / torch.sqrt((flat**2).mean(1, keepdim=True) + 1e-12)
        w = Sign.apply(flat.view_as(w), self.t, self.k)
        y = F.conv2d(Sign.apply(x, self.t, self.k), w, None, self.conv.stride, 1)
        a = self.scale[None, :]
        if self.training:
            keep = (torch.rand(len(x), 1, device=x.device) >= self.p).float()
            a = keep * a + (1 - keep)
        return self.norm(y * a[:, :, None, None])


def pad(x: Tensor, channels: int) -> Tensor:
    """Zero channels on both sides."""
    more = channels - x.shape[1]
    return F.pad(x, (0, 0, 0, 0, more // 2, more - more // 2)) if more else x


class ResNet(nn.Module):
    """ResNet-20 (a skip over each convolution) or ResNet-18 (over two)."""

    def __init__(self, name: str, width: float = 1.0) -> None:
        super().__init__()
        self.small = name == "resnet20"
        stages = [16, 32, 64] if self.small else [64, 128, 256, 512]
        stages = [max(1, round(c * width)) for c in stages]
        self.conv1, self.bn1 = nn.Conv2d(3, stages[0], 3, padding=1, bias=False), nn.BatchNorm2d(stages[0])
        convs, previous = [], stages[0]
        for stage, channels in enumerate(stages):
            for index in range(6 if self.small else 4):
                convs.append(Conv(previous, channels, 2 if stage and not index else 1, 1e-3))
                previous = channels
        self.convs = nn.ModuleList(convs)
        self.bn2 = nn.BatchNorm1d(previous)
        self.fc = nn.Linear(previous, 10)

    def forward(self, x: Tensor) -> Tensor:
        """Logits."""
        x = self.bn1(self.conv1(x))
        x = F.hardtanh(x) if self.small else x
        step = 1 if self.small else 2
        for i in range(0, len(self.convs), step):
            y = self.convs[i](x)
            if not self.small:
                y = self.convs[i + 1](F.hardtanh(y))
            if y.shape[-1] != x.shape[-1]:
                x = x[:, :, ::2, ::2] if self.small else F.avg_pool2d(x, 2)
            x = F.hardtanh(y + pad(x, y.shape[1]))
        return self.fc(self.bn2(x.mean((2, 3))))

    def loss(self, x: Tensor, target: Tensor, lambda_scale: float) -> Tensor:
        """The paper's objective, but for the term on the weights, which is the optimizer's decay."""
        loss = F.cross_entropy(self(x), target)
        for conv in self.convs:
            loss = loss + lambda_scale * (1 - conv.scale.mean()) ** 2
        return loss

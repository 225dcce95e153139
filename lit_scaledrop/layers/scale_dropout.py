r"""Scale-Dropout: drop a layer's whole scale vector with one random bit (paper eq. 2-9).

$$ a = m\,\alpha + (1 - m)\,d, \qquad m \sim \mathrm{Bernoulli}(1 - p), \qquad y = x \cdot a $$

with $\alpha \in \mathbb R^C$ learnable and $d$ the value of a dropped scale: 1 (*unitary*, the paper's), the mean of
$\alpha$ (*average*) or a random draw (*random*). Dropped never means zero.

With a bias (*affine*, after arXiv:2401.12416) the same bit drops both: $y = x \cdot a + m\,\beta$. A positive factor in
front of a sign moves no sign unless its threshold has an offset; a bias moves the threshold itself.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, Literal

import torch
from torch import Tensor, nn

from lit_scaledrop.layers.stochastic import StochasticLayer
from lit_scaledrop.shapes import Float

DropValue = Literal["unitary", "average", "random"]
Mask = Literal["vector", "element"]
MaskPer = Literal["sample", "batch"]


class ScaleDropout(StochasticLayer):
    """Learnable per-channel scale that is used or bypassed at random.

    Args:
        num_features: channels C (dimension 1 of the input).
        p: probability that the scale is dropped, in [0, 1]; ``None`` leaves it to :meth:`set_probability`, and the
            layer refuses to draw before.
        drop_value: what a dropped scale becomes: ``"unitary"`` 1, ``"average"`` mean of alpha, ``"random"`` uniform in
            ``random_range``.
        mask: one bit for the ``"vector"`` (the paper's) or one for each ``"element"`` of it.
        mask_per: in training, one draw for each ``"sample"`` of a batch or one for the whole ``"batch"``. With
            ``"batch"`` and BatchNorm right behind, the loss does not see the scale (docs/scale-placement.md).
        random_range: bounds of the random drop value.
        num_weights: weights of the layer that is scaled; :func:`set_adaptive_probability` reads it.
        bias: a learnable bias that is dropped together with the scale.
        start: scale and bias start uniformly within these distances of one and of zero.

    Shape: ``(batch, C, ...)`` to the same.

    Attributes:
        scale: alpha, shape ``(C,)``.
        bias: beta, shape ``(C,)``, or ``None``.
        p: drop probability, a buffer that is no part of the state dict: a checkpoint never overrides the one that was
            asked for.

    >>> layer = ScaleDropout(2, p=1.0).train()
    >>> _ = layer.scale.data.fill_(3.0)
    >>> layer(torch.ones(1, 2)).tolist(), layer.eval()(torch.ones(1, 2)).tolist()
    ([[1.0, 1.0]], [[3.0, 3.0]])
    """

    p: Tensor
    channelwise = True
    """does the same to all pixels of a channel, and never turns their order (or turns all of it)"""

    def __init__(
        self,
        num_features: int,
        p: float | None = 0.1,
        drop_value: DropValue = "unitary",
        mask: Mask = "vector",
        mask_per: MaskPer = "sample",
        random_range: tuple[float, float] = (0.5, 1.5),
        num_weights: int = 0,
        bias: bool = False,
        start: tuple[float, float] = (0.0, 0.0),
    ) -> None:
        super().__init__()
        self.num_features, self.num_weights = num_features, num_weights
        self.drop_value, self.mask, self.mask_per, self.random_range = drop_value, mask, mask_per, random_range
        self.scale = nn.Parameter(_around(1.0, start[0], num_features))
        self.bias = nn.Parameter(_around(0.0, start[1], num_features)) if bias else None
        self.register_buffer("p", torch.tensor(torch.nan), persistent=False)
        self._has_probability = False
        if p is not None:
            self.set_probability(p)

    def set_probability(self, p: float) -> None:
        """Set the drop probability in place, so that a compiled network sees it.

        Raises:
            ValueError: if ``p`` is no probability.
        """
        self.p.fill_(check_probability(p))
        self._has_probability = True

    @property
    def random_bits(self) -> int:
        """Random bits a pass: one for a vector mask, C for an element-wise one (a random drop value is not a bit)."""
        return 1 if self.mask == "vector" else self.num_features

    @property
    def uniform_shape(self) -> tuple[int, int]:
        """A plane for the keep bits and, for ``drop_value="random"``, one for the values; width is 1 or C."""
        return (2 if self.drop_value == "random" else 1, self.random_bits)

    def from_uniform(self, uniform: Float[Tensor, "rows kinds width"]) -> Float[Tensor, "rows kinds width"]:
        """Keep bits, and for ``drop_value="random"`` a second plane with the values.

        Raises:
            RuntimeError: if the drop probability was never set.
        """
        self._require_probability()
        keep = (uniform[:, :1] >= self.p.to(uniform.device)).float()
        if self.drop_value != "random":
            return keep
        low, high = self.random_range
        return torch.cat([keep, (uniform[:, 1:] * (high - low) + low).float()], 1)

    def effective(self, draws: Float[Tensor, "rows kinds width"]) -> Float[Tensor, "rows kinds width"]:
        """The value of a scale that is kept has no effect."""
        return torch.cat([draws[:, :1], draws[:, 1:] * (1 - draws[:, :1])], 1)

    def outcomes(self) -> tuple[Float[Tensor, "outcomes kinds width"], list[float]]:
        """Kept and dropped, without what is impossible.

        Raises:
            ValueError: for element-wise masks and random drop values.
            RuntimeError: if the drop probability was never set.
        """
        self._require_probability()
        p = float(self.p)
        if (self.mask == "element" and 0 < p < 1) or (self.drop_value == "random" and p > 0):
            what = "random drop values" if self.drop_value == "random" else "element-wise masks"
            raise ValueError(f"{what} cannot be enumerated")
        likely = [(keep, q) for keep, q in ((1.0, 1 - p), (0.0, p)) if q > 0]
        draws = torch.tensor([keep for keep, _ in likely])[:, None, None].expand(-1, *self.uniform_shape)
        return draws.contiguous(), [q for _, q in likely]

    def forward(self, x: Float[Tensor, "batch channels ..."]) -> Float[Tensor, "batch channels ..."]:
        """Multiply by the scale and add the bias, or what stands for them where they are dropped."""
        factor, shift = self.factor_and_shift(x)
        spatial = [1] * (x.dim() - 2)
        scaled = x * factor.reshape(*factor.shape, *spatial)
        return (scaled if shift is None else scaled + shift.reshape(*shift.shape, *spatial)).to(x.dtype)

    def factor_and_shift(
        self, x: Float[Tensor, "batch channels ..."]
    ) -> tuple[Float[Tensor, "draws channels"], Float[Tensor, "draws channels"] | None]:
        """What the input ``x`` is multiplied by, and what is added: one row, or one for each of its rows."""
        draws = self.active_draws(x)
        factor, shift = self.scale[None], None if self.bias is None else self.bias[None]
        if draws is not None:
            kept = draws[:, 0] > 0
            factor = torch.where(kept, factor, self._dropped(draws))
            if shift is not None:
                average = self.drop_value == "average"
                shift = torch.where(kept, shift, shift.mean() if average else torch.zeros_like(shift))
        return factor, shift

    def _dropped(self, draws: Tensor) -> Tensor:
        if self.drop_value == "random":
            return draws[:, 1]
        return self.scale.mean() if self.drop_value == "average" else torch.ones_like(self.scale)

    def _require_probability(self) -> None:
        if not self._has_probability:
            raise RuntimeError(
                "the drop probability of this ScaleDropout was never set: build the network by its function "
                "(resnet20(method), not ResNet20(method)), or call method.finish(network) or layer.set_probability(p)"
            )

    def extra_repr(self) -> str:
        """What distinguishes one layer from another."""
        affine = ", bias=True" if self.bias is not None else ""
        return f"{self.num_features}, p={float(self.p):g}, drop_value={self.drop_value}, mask={self.mask}{affine}"


def _around(centre: float, distance: float, size: int) -> Tensor:
    """Uniform numbers around ``centre``; no distance takes none from the random stream."""
    return torch.empty(size).uniform_(centre - distance, centre + distance) if distance else torch.full((size,), centre)


def check_probability(p: float, name: str = "p") -> float:
    """Return ``p``.

    Raises:
        ValueError: if ``p`` is no probability.
    """
    if not 0 <= p <= 1:
        raise ValueError(f"{name} is a probability and must lie in [0, 1], got {p}")
    return float(p)


SizeClasses = tuple[float, float, float]
"""drop probabilities of the small, the middle and the large layers of a network"""
ADAPTIVE: SizeClasses = (0.1, 0.2, 0.5)
"""the default of the three"""


def adaptive_probability(num_weights: int, largest: int, p: SizeClasses = ADAPTIVE) -> float:
    """Layer-adaptive drop probability from the size of a layer relative to the network's largest binary layer.

    The paper gives a small p to layers with few parameters and a large one to those with many; its thresholds are
    lost in our copy. Ours: small up to an eighth of the largest, middle up to a half, large above; a width multiplier
    leaves it unchanged. For VGG-small: .1 .1 .2 .2 .5.

    >>> [adaptive_probability(n, 16) for n in (1, 2, 4, 8, 16)]
    [0.1, 0.1, 0.2, 0.2, 0.5]
    """
    share = num_weights / largest
    return p[0] if share <= 1 / 8 else p[1] if share <= 1 / 2 else p[2]


def set_adaptive_probability(model: nn.Module, p: SizeClasses = ADAPTIVE) -> None:
    """Give every :class:`ScaleDropout` of ``model`` the probability that :func:`adaptive_probability` finds for it."""
    layers = [layer for layer in model.modules() if isinstance(layer, ScaleDropout)]
    largest = max((layer.num_weights for layer in layers), default=0)
    for layer in layers:
        layer.set_probability(adaptive_probability(layer.num_weights, largest, p))


Placement = Literal["before_norm", "after_norm"]
_SPEAKING = ("p", "drop_value", "mask", "mask_per")


@dataclass(frozen=True)
class ScaleOptions:
    """How Scale-Dropout is used in a network."""

    p: float | Sequence[float] | Literal["adaptive"] = "adaptive"
    """drop probability of all layers; of small, middle and large layers; or "adaptive": .1, .2 and .5 for these"""
    drop_value: DropValue = "unitary"
    """what a dropped scale becomes"""
    mask: Mask = "vector"
    """one bit per layer, or per channel"""
    mask_per: MaskPer = "sample"
    """one mask per example of a training batch, or one per batch"""
    placement: Placement = "before_norm"
    """the scale before or after BatchNorm"""
    bias: bool = False
    """a bias that is dropped together with the scale"""
    start: Sequence[float] = (0.0, 0.0)
    """largest initial distance of scales from one and of biases from zero"""

    @classmethod
    def arguments(cls) -> dict[str, str]:
        """Argument of a LightningModule for each option: its name, with ``scale_`` where it would not speak alone."""
        return {f.name: f.name if f.name in _SPEAKING else f"scale_{f.name}" for f in fields(cls)}

    @classmethod
    def given(cls, arguments: Mapping[str, Any]) -> dict[str, Any]:
        """The options among the arguments of a LightningModule, by name; ``None``: as the method says."""
        return {option: arguments.get(name) for option, name in cls.arguments().items()}

    def __post_init__(self) -> None:
        if isinstance(self.p, int | float):
            object.__setattr__(self, "p", check_probability(self.p, "p (drop probability)"))
        elif not isinstance(self.p, str):
            object.__setattr__(self, "p", tuple(check_probability(p, "p (of a size class)") for p in self.p))
            if len(self.p) != 3:
                raise ValueError(f"p has one value for all layers, or three for small, middle and large: not {self.p}")

        object.__setattr__(self, "start", tuple(self.start))
        if len(self.start) != 2 or not all(math.isfinite(distance) and distance >= 0 for distance in self.start):
            raise ValueError(
                f"start has two distances of at least 0, of scales from 1 and biases from 0: not {self.start}"
            )

    @property
    def of_layer(self) -> dict[str, Any]:
        """Arguments of a :class:`ScaleDropout`: all options but p, which may depend on the network, and the place."""
        return {f.name: getattr(self, f.name) for f in fields(self) if f.name not in ("p", "placement")}

    @property
    def by_size(self) -> SizeClasses | None:
        """Drop probabilities of small, middle and large layers; ``None`` where all have the same."""
        if isinstance(self.p, float):
            return None
        return ADAPTIVE if self.p == "adaptive" else self.p  # type: ignore[return-value]

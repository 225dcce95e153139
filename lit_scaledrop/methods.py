"""A row of the paper's Table III is a :class:`Method`; :data:`METHODS` holds them all.

A network is a function of a method: it asks the method for its blocks (convolution, scale, pooling, BatchNorm),
activations and feature dropout, and never which method it is. A new method is one entry here and at most one layer
class.
"""

import difflib
from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Literal

from torch import nn

from lit_scaledrop.layers.binary import EDE, STE, BinaryConv2d, BinaryLinear, WeightScale
from lit_scaledrop.layers.dropout import MCDropout
from lit_scaledrop.layers.scale_dropout import (
    DropValue,
    Mask,
    MaskPer,
    ScaleDropout,
    check_probability,
    set_adaptive_probability,
)

Placement = Literal["before_norm", "after_norm"]


@dataclass(frozen=True)
class ScaleOptions:
    """How Scale-Dropout is used in a network."""

    p: float | Literal["adaptive"] = "adaptive"
    """drop probability of every layer, or "adaptive": from the layer's size"""
    drop_value: DropValue = "unitary"
    """what a dropped scale becomes"""
    mask: Mask = "vector"
    """one bit a layer, or one a channel"""
    mask_per: MaskPer = "sample"
    """one draw for each example of a training batch, or one for the batch"""
    placement: Placement = "before_norm"
    """the scale before or after BatchNorm"""

    def __post_init__(self) -> None:
        if self.p != "adaptive":
            check_probability(self.p, "p (drop probability)")


@dataclass(frozen=True)
class Method:
    """How a network's layers compute, and what is random in them."""

    label: str
    """name in the paper's tables"""
    reference: str
    """where the method is defined"""
    bits_w: int = 32
    """bits a weight"""
    bits_a: int = 32
    """bits an activation"""
    estimator: Literal["none", "ste", "ede"] = "none"
    """gradient of the sign; "none": full precision"""
    weight_scale: WeightScale = "none"
    """analytic scale of the binary weights"""
    activation: Literal["relu", "hardtanh"] = "hardtanh"
    """nonlinearity; a sign needs a signed one, since sign(relu(x)) is constant"""
    scale: ScaleOptions | None = None
    """Scale-Dropout, or none"""
    feature_dropout: float = 0.0
    """MC-Dropout probability on the features before the classifier"""

    def __post_init__(self) -> None:
        if self.binary and self.activation == "relu":
            raise ValueError("a binary method needs activation='hardtanh': sign(relu(x)) is constant")
        check_probability(self.feature_dropout, "feature_dropout")

    @property
    def binary(self) -> bool:
        """Whether hidden layers have 1-bit weights and activations."""
        return self.estimator != "none"

    @property
    def bayesian(self) -> bool:
        """Whether passes over one input differ."""
        return self.scale is not None or self.feature_dropout > 0

    def with_scale(self, **options: object) -> "Method":
        """Copy with some of the :class:`ScaleOptions` replaced; ``None`` leaves an option as the method says.

        Raises:
            ValueError: if the method has no Scale-Dropout and an option is given.
        """
        given = {name: value for name, value in options.items() if value is not None}
        if not given:
            return self
        if self.scale is None:
            raise ValueError(f"method {self.label!r} has no Scale-Dropout: drop the option {', '.join(given)}")
        return replace(self, scale=replace(self.scale, **given))  # type: ignore[arg-type]

    def conv_block(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int,
        *,
        stride: int = 1,
        padding: int = 0,
        t_min: float = 1e-3,
        pool: nn.Module | None = None,
    ) -> nn.Sequential:
        """Hidden convolution with what stands between it and the activation: scale, pooling, BatchNorm.

        Args:
            in_channels: channels in.
            out_channels: channels out.
            kernel_size: side of the square kernel.
            stride: stride.
            padding: zeros around the input.
            t_min: where EDE begins; IR-Net's depends on the topology.
            pool: pooling in front of BatchNorm.
        """
        conv: nn.Conv2d
        if self.binary:
            conv = BinaryConv2d(
                in_channels, out_channels, kernel_size, self._estimator(t_min), self._estimator(t_min),
                stride=stride, padding=padding, weight_scale=self.weight_scale,
            )  # fmt: skip
        else:
            conv = nn.Conv2d(in_channels, out_channels, kernel_size, stride, padding, bias=False)
        return self._block("conv", conv, pool, nn.BatchNorm2d(out_channels))

    def linear_block(self, in_features: int, out_features: int, *, t_min: float = 1e-3) -> nn.Sequential:
        """Hidden linear layer with scale and BatchNorm; arguments as :meth:`conv_block`."""
        linear: nn.Linear
        if self.binary:
            linear = BinaryLinear(
                in_features,
                out_features,
                self._estimator(t_min),
                self._estimator(t_min),
                weight_scale=self.weight_scale,
            )
        else:
            linear = nn.Linear(in_features, out_features, bias=False)
        return self._block("linear", linear, None, nn.BatchNorm1d(out_features))

    def activation_layer(self) -> nn.Module:
        """Nonlinearity behind a block."""
        return nn.ReLU() if self.activation == "relu" else nn.Hardtanh()

    def feature_layer(self, num_features: int) -> nn.Module:
        """What stands between the extracted features and the classifier."""
        return MCDropout(num_features, self.feature_dropout) if self.feature_dropout else nn.Identity()

    def finish(self, network: nn.Module) -> nn.Module:
        """Set what needs the whole network: the layer-adaptive drop probabilities."""
        if self.scale is not None and self.scale.p == "adaptive":
            set_adaptive_probability(network)
        return network

    def _estimator(self, t_min: float) -> nn.Module:
        return EDE(t_min) if self.estimator == "ede" else STE()

    def _block(self, name: str, layer: nn.Conv2d | nn.Linear, pool: nn.Module | None, norm: nn.Module) -> nn.Sequential:
        parts: OrderedDict[str, nn.Module] = OrderedDict({name: layer})
        scale = None
        if self.scale is not None:
            scale = ScaleDropout(
                layer.weight.shape[0],
                p=0.0 if self.scale.p == "adaptive" else self.scale.p,
                drop_value=self.scale.drop_value,
                mask=self.scale.mask,
                mask_per=self.scale.mask_per,
                num_weights=layer.weight.numel(),
            )
        before = self.scale is not None and self.scale.placement == "before_norm"
        if scale is not None and before:
            parts["scale"] = scale
        if pool is not None:
            parts["pool"] = pool
        parts["norm"] = norm
        if scale is not None and not before:
            parts["scale"] = scale
        return nn.Sequential(parts)


METHODS: dict[str, Method] = {
    "fp": Method("FP", "full-precision reference of the IR-Net paper (arXiv:1909.10788)", activation="relu"),
    "irnet": Method(
        "IR-Net", "Qin et al., CVPR 2020 (arXiv:1909.10788)", 1, 1, estimator="ede", weight_scale="power_of_two"
    ),
    "mc_dropout_htanh": Method(
        "MC-Dropout (HTanh)",
        "Gal & Ghahramani, ICML 2016 (arXiv:1506.02142)",
        activation="hardtanh",
        feature_dropout=0.5,
    ),
    "proposed": Method(
        "Proposed", "Ahmed et al., Scale-Dropout (arXiv:2311.15816)", 1, 1, estimator="ede", scale=ScaleOptions()
    ),
}


def lookup(kind: str, name: str, known: Iterable[str]) -> str:
    """Return ``name`` if it is among ``known``.

    Raises:
        ValueError: if it is not; the message has the nearest match and the whole list.

    >>> lookup("method", "proposd", ["fp", "proposed"])
    Traceback (most recent call last):
    ValueError: unknown method 'proposd'; did you mean 'proposed'? Known: fp, proposed
    """
    known = sorted(known)
    if name in known:
        return name
    near = difflib.get_close_matches(name, known, n=1, cutoff=0.4)
    hint = f"; did you mean {near[0]!r}?" if near else "."
    raise ValueError(f"unknown {kind} {name!r}{hint} Known: {', '.join(known)}")


def get_method(name: str) -> Method:
    """Look a method up by its key in :data:`METHODS`.

    Raises:
        ValueError: for an unknown name, with the nearest match.
    """
    return METHODS[lookup("method", name, METHODS)]

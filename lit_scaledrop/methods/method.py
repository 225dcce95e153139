"""A row of Table III or V: a frozen :class:`Method`, which builds the layers of networks.

A network gets blocks (convolution, scale, pooling, BatchNorm), activations and dropout from it, and never tests which
method it is.
"""

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Literal

from torch import nn

from lit_scaledrop.layers.activations import PACT, Clip, DistributionLoss
from lit_scaledrop.layers.binary import BinaryConv2d, BinaryLinear, WeightScale
from lit_scaledrop.layers.dropout import MCDropout, MCDropout2d, SpinDrop, fix_shapes
from lit_scaledrop.layers.ensemble_norm import ensemble_norms
from lit_scaledrop.layers.quantizers import BINARIZATIONS
from lit_scaledrop.layers.scale_dropout import (
    ScaleDropout,
    ScaleOptions,
    check_probability,
    set_adaptive_probability,
)
from lit_scaledrop.layers.weight_sampling import DropConnectConv2d, DropConnectLinear, SpinBayesConv2d, SpinBayesLinear


def check_method(method: "Method") -> None:
    """Refuse a method whose fields contradict each other.

    Raises:
        ValueError: with the two that do.
    """
    if method.signs and method.activation in ("relu", "pact"):
        raise ValueError(f"a binary method needs activation='hardtanh': sign({method.activation}(x)) is constant")
    if (method.activation == "pact") != (1 < method.bits_a < 32):
        raise ValueError(
            "activation='pact' makes activations of 2 to 16 bits, and nothing else does: "
            f"bits_a is {method.bits_a}, activation {method.activation!r}"
        )
    if method.open_skip and not method.signs:
        raise ValueError("open_skip is for networks of signs: without one no nonlinearity would be left")
    if method.clip_decay and method.activation != "pact":
        raise ValueError("clip_decay is for activation='pact', which has the clips")
    for name in ("feature_dropout", "block_dropout", "weight_dropout", "input_dropout"):
        check_probability(getattr(method, name), name)
    if method.weight_dropout and method.binary:
        raise ValueError("weight_dropout is for full-precision layers; a binary weight has no state for dropped")
    if (method.input_dropout or method.arrays > 1) and not method.binary:
        raise ValueError("input_dropout and arrays are for binary layers: give an estimator")
    if method.norm_sets < 1 or (method.norm_sets > 1 and method.draws):
        raise ValueError(
            f"norm_sets is 1, or the members of an ensemble in which nothing else is random: {method.norm_sets}"
        )
    if (method.members > 1) != bool(method.member):
        raise ValueError("an ensemble needs both: members above 1, and member, the method that they have")


Shortcut = Literal["subsample", "pool", "conv"]
Estimator = Literal["none", "ste", "ede", "ede_weights", "ede_poly", "bnn", "xnor", "dorefa", "dsq", "lab", "recu"]


@dataclass(frozen=True)
class Method:
    """How a network's layers compute, and what is random in them."""

    label: str
    """name in the paper's tables"""
    reference: str
    """where the method is defined"""
    bits_w: int = 32
    bits_a: int = 32
    estimator: Estimator = "none"
    """binarization, a key of ``BINARIZATIONS``; "none": full precision"""
    weight_scale: WeightScale = "none"
    """analytic scale of the binary weights"""
    activation: Literal["relu", "hardtanh", "unit", "pact"] = "hardtanh"
    """nonlinearity: relu, clip to [-1, 1] or [0, 1], PACT's ``bits_a`` bits; sign(relu(x)) is always 1"""
    open_skip: bool = False
    """no nonlinearity on the skip path of a binary network: its values reach the classifier as sums"""
    shortcut: Shortcut | None = None
    """what a skip of a ResNet is where the shape changes; by default as the network says"""
    clip_decay: float = 0.0
    """weight of the L2 term on PACT's clips in the objective"""
    scale: ScaleOptions | None = None
    """Scale-Dropout, or none"""
    feature_dropout: float = 0.0
    """MC-Dropout probability on the features before the classifier"""
    block_dropout: float = 0.0
    """MC-Dropout probability behind the central blocks of a segmentation network"""
    weight_dropout: float = 0.0
    """DropConnect probability of the hidden layers' weights"""
    input_dropout: float = 0.0
    """probability that an input of a binary layer is dropped, behind its sign"""
    input_dropout_per: Literal["neuron", "feature_map"] = "neuron"
    """what is dropped as one"""
    arrays: int = 1
    """weight arrays that a binary layer stores, one of which is drawn per pass"""
    norm_sets: int = 1
    """sets of BatchNorm on the same weights; a pass uses one of them in all layers"""
    divergence: float = 0.0
    """weight of the posterior's KL divergence in the objective, for ``arrays`` above 1"""
    distribution_loss: float = 0.0
    """weight of RAD's loss on what is binarized"""
    members: int = 1
    """networks of a deep ensemble"""
    member: str = ""
    """key in ``METHODS`` of what the members of an ensemble are"""

    def __post_init__(self) -> None:
        check_method(self)

    @property
    def binary(self) -> bool:
        """Whether hidden layers have 1-bit weights."""
        return self.estimator != "none"

    @property
    def signs(self) -> bool:
        """Whether hidden layers multiply +-1 by +-1."""
        return self.binary and BINARIZATIONS[self.estimator].binary_inputs

    @property
    def draws(self) -> bool:
        """Whether random bits are drawn for a pass."""
        rates = (self.feature_dropout, self.block_dropout, self.weight_dropout, self.input_dropout)
        return self.scale is not None or any(rates) or self.arrays > 1

    @property
    def stochastic(self) -> bool:
        """Whether passes of one network over one input differ."""
        return self.draws or self.norm_sets > 1

    @property
    def bayesian(self) -> bool:
        """Whether predictions are averaged, over passes or over networks."""
        return self.stochastic or self.members > 1

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

    def conv_layer(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int | tuple[int, int],
        *,
        t_min: float = 1e-3,
        **geometry: Any,
    ) -> nn.Conv2d:
        """Hidden convolution alone, without bias; ``t_min`` is where EDE begins, IR-Net's depends on the topology."""
        kinds = (nn.Conv2d, DropConnectConv2d, BinaryConv2d, SpinBayesConv2d)
        return self._layer(kinds, (in_channels, out_channels, kernel_size), t_min, geometry)

    def linear_layer(self, in_features: int, out_features: int, *, t_min: float = 1e-3) -> nn.Linear:
        """Hidden linear layer alone, without bias; arguments as :meth:`conv_layer`."""
        kinds = (nn.Linear, DropConnectLinear, BinaryLinear, SpinBayesLinear)
        return self._layer(kinds, (in_features, out_features), t_min, {})

    def _layer(self, kinds: tuple[Callable[..., Any], ...], shape: tuple, t_min: float, geometry: dict) -> Any:
        """The layer of the method among those in full precision, with dropped weights, binary, and of arrays."""
        plain, dropped, binary, several = kinds
        if self.weight_dropout:
            return dropped(*shape, p=self.weight_dropout, **geometry)
        if not self.binary:
            return plain(*shape, bias=False, **geometry)
        kind, arrays = (several, {"arrays": self.arrays}) if self.arrays > 1 else (binary, {})
        normalize = BINARIZATIONS[self.estimator].normalize
        options = {"weight_scale": self.weight_scale, "normalize": normalize, **arrays, **geometry}
        layer = kind(*shape, nn.Identity(), nn.Identity(), **options)
        self.set_estimators(layer, t_min)
        return layer

    def scale_layer(self, layer: nn.Conv2d | nn.Linear) -> ScaleDropout | None:
        """Scale-Dropout for the outputs of ``layer``, if the method has it."""
        if self.scale is None:
            return None
        return ScaleDropout(
            layer.weight.shape[0],
            p=self.scale.p if isinstance(self.scale.p, float) else None,  # the others are set by `finish`
            num_weights=layer.weight.numel(),
            **self.scale.of_layer,
        )

    def conv_block(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int,
        *,
        t_min: float = 1e-3,
        pool: nn.Module | None = None,
        **geometry: int,
    ) -> nn.Sequential:
        """Hidden convolution with what stands between it and the activation: scale, pooling, BatchNorm."""
        conv = self.conv_layer(in_channels, out_channels, kernel_size, t_min=t_min, **geometry)
        return self._block("conv", conv, pool, nn.BatchNorm2d(out_channels))

    def linear_block(self, in_features: int, out_features: int, *, t_min: float = 1e-3) -> nn.Sequential:
        """Hidden linear layer with scale and BatchNorm; arguments as :meth:`conv_block`."""
        linear = self.linear_layer(in_features, out_features, t_min=t_min)
        return self._block("linear", linear, None, nn.BatchNorm1d(out_features))

    def activation_layer(self) -> nn.Module:
        """Nonlinearity behind a block."""
        if self.activation == "relu":
            return nn.ReLU()
        if self.activation == "pact":
            return PACT(self.bits_a)
        clip = Clip(0.0, 1.0) if self.activation == "unit" else Clip()
        return nn.Sequential(DistributionLoss(self.distribution_loss), clip) if self.distribution_loss else clip

    def skip_activation_layer(self) -> nn.Module:
        """Nonlinearity of what a skip carries."""
        return nn.Identity() if self.open_skip else self.activation_layer()

    def feature_layer(self, num_features: int) -> nn.Module:
        """What stands between the extracted features and the classifier."""
        return MCDropout(num_features, self.feature_dropout) if self.feature_dropout else nn.Identity()

    def block_dropout_layer(self) -> nn.Module:
        """What stands behind a central block of a segmentation network."""
        return MCDropout2d(self.block_dropout) if self.block_dropout else nn.Identity()

    def finish(self, network: nn.Module, input_shape: tuple[int, ...] | None = None) -> nn.Module:
        """Set what needs the whole network: sets of BatchNorm, layer-adaptive drop probabilities, sizes of masks.

        Args:
            network: built of this method's layers.
            input_shape: one input, e.g. ``(3, 32, 32)``; masks for single neurons need it.
        """
        if self.norm_sets > 1:
            ensemble_norms(network, self.norm_sets)
        if self.scale is not None and self.scale.by_size is not None:
            set_adaptive_probability(network, self.scale.by_size)
        if input_shape is not None:
            fix_shapes(network, input_shape)
        return network

    def set_estimators(self, layer: BinaryConv2d | BinaryLinear, t_min: float = 1e-3) -> None:
        """Give a binary layer the method's estimators, made for the weights that it has now."""
        estimators = BINARIZATIONS[self.estimator].estimators(layer.weight, t_min)
        layer.weight_estimator, layer.input_estimator = estimators
        layer.input_bits = self.bits_a
        if self.input_dropout:
            maps = (layer.in_channels, 1, 1) if isinstance(layer, BinaryConv2d) else (layer.in_features,)
            neurons = isinstance(layer, BinaryConv2d) and self.input_dropout_per == "neuron"
            drop = SpinDrop(None if neurons else maps, self.input_dropout)
            layer.input_estimator = nn.Sequential(layer.input_estimator, drop)

    def _block(self, name: str, layer: nn.Conv2d | nn.Linear, pool: nn.Module | None, norm: nn.Module) -> nn.Sequential:
        parts: OrderedDict[str, nn.Module] = OrderedDict({name: layer})
        scale = self.scale_layer(layer)
        before = self.scale is not None and self.scale.placement == "before_norm"
        order = ("scale", "pool", "norm") if before else ("pool", "norm", "scale")
        behind = {"scale": scale, "pool": pool, "norm": norm}
        parts.update((part, module) for part in order if (module := behind[part]) is not None)
        return nn.Sequential(parts)

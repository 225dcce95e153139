r"""Dropout of the methods that Scale-Dropout is compared with: MC-Dropout, SpinDrop, Spatial-SpinDrop.

SpinDrop (Ahmed et al., IEEE JETCAS 13(1), 2023) has a stochastic magnetic junction for each neuron, Spatial-SpinDrop
(Ahmed et al., arXiv:2306.10185) one for each feature map:

$$ y = \operatorname{sign}(x) \cdot m / (1 - p), \qquad m \sim \mathrm{Bernoulli}(1 - p). $$

The mask acts *behind* the sign, where a dropped neuron is a word line that stays off and adds nothing: in front of it
the sign would make +1 of a dropped 0. BatchNorm takes the constant $1/(1-p)$; it keeps the mean of a pass without
dropout. Our assumptions, since the drop probabilities of the two papers are not in our copy: p = 0.1, and every binary
layer has its inputs dropped, so the neurons are those of the first layer and of all hidden ones but the last.
"""

import torch
from torch import Tensor, nn

from lit_scaledrop.layers.probing import probe
from lit_scaledrop.layers.scale_dropout import check_probability
from lit_scaledrop.layers.stochastic import StochasticLayer
from lit_scaledrop.shapes import Float, Shaped


class SpinDrop(StochasticLayer):
    """Dropout with one bit a neuron or one a feature map, the same for all inputs of a planned pass.

    Args:
        shape: what has a bit of its own: ``(C,)`` features, ``(C, 1, 1)`` feature maps, ``(C, H, W)`` neurons;
            ``None``: neurons whose number :func:`fix_shapes` finds out.
        p: probability that one is dropped, in [0, 1].

    Shape: ``(batch, *shape)``, or what ``shape`` can be broadcast to, to the same.

    >>> layer = SpinDrop((4, 1, 1), p=0.5).train()
    >>> layer.random_bits, sorted(set(layer(torch.ones(9, 4, 2, 2)).flatten().tolist()))
    (4, [0.0, 2.0])
    """

    p: Tensor

    def __init__(self, shape: tuple[int, ...] | None, p: float = 0.1) -> None:
        super().__init__()
        self.shape = shape
        self.register_buffer("p", torch.tensor(check_probability(p)), persistent=False)

    @property
    def uniform_shape(self) -> tuple[int, ...]:
        """Shape of the random numbers that one pass takes: one for each bit.

        Raises:
            ValueError: if the number of neurons is not known yet.
        """
        if self.shape is None:
            raise ValueError(
                "a mask for each neuron needs the sizes of the feature maps: take build_network, "
                "build_segmentation_network or convert, or call "
                "Method.finish(network, input_shape)"
            )
        return self.shape

    @property
    def random_bits(self) -> int:
        """One bit for each neuron or feature map."""
        return torch.Size(self.uniform_shape).numel()

    def from_uniform(self, uniform: Float[Tensor, "rows ..."]) -> Shaped[Tensor, "rows ..."]:
        """Keep bits."""
        return uniform >= self.p.to(uniform.device)

    def forward(self, x: Float[Tensor, "batch ..."]) -> Float[Tensor, "batch ..."]:
        """Drop, and scale up the rest."""
        keep = self.active_draws(x)
        if keep is None:
            return x
        if not all(bits in (1, size) for bits, size in zip(keep.shape[1:], x.shape[1:], strict=True)):
            raise ValueError(
                f"the masks were made for inputs of shape {tuple(keep.shape[1:])}, this one is {tuple(x.shape[1:])}: "
                "build the network for images of this size"
            )
        # p = 1 drops all: 0, not 0/0
        return (x * keep / (1 - self.p).clamp_min(torch.finfo(torch.float32).tiny)).to(x.dtype)

    def extra_repr(self) -> str:
        """Shape and probability."""
        return f"{self.shape}, p={float(self.p):g}"


def fix_shapes(network: nn.Module, input_shape: tuple[int, ...]) -> None:
    """Find out how many neurons the open :class:`SpinDrop` layers have, by one deterministic pass over zeros.

    A network without open layers is not run.

    Args:
        network: any network.
        input_shape: one input without the batch dimension, e.g. ``(3, 32, 32)``.
    """
    layers = [layer for layer in network.modules() if isinstance(layer, SpinDrop) and layer.shape is None]

    def note(layer: SpinDrop, inputs: tuple[Tensor, ...]) -> None:
        layer.shape = tuple(inputs[0].shape[1:])

    if layers:
        probe(network, torch.zeros(1, *input_shape), layers, note)


class MCDropout(SpinDrop):
    r"""Dropout of extracted features that stays on at inference (Gal & Ghahramani, arXiv:1506.02142).

    $y_i = x_i m_i / (1 - p)$, $m_i \sim \mathrm{Bernoulli}(1 - p)$. In training every example has its own mask; a
    planned pass is one network drawn from the posterior, with the same mask for all inputs.

    Args:
        num_features: features F (dimension 1 of the input).
        p: probability that a feature is dropped, in [0, 1].

    Shape: ``(batch, F)`` to the same.
    """

    def __init__(self, num_features: int, p: float = 0.5) -> None:
        super().__init__((num_features,), p)

    def from_uniform(self, uniform: Float[Tensor, "rows features"]) -> Float[Tensor, "rows features"]:
        """Keep bits, as the floats that kept features are multiplied by."""
        return super().from_uniform(uniform).float()


class MCDropout2d(SpinDrop):
    """Dropout of single activations of feature maps that stays on at inference (Bayesian SegNet, arXiv:1511.02680).

    What SpinDrop draws in front of a crossbar, between any two layers: one bit for each activation, the same for all
    inputs of a planned pass.

    Args:
        p: probability that an activation is dropped, in [0, 1].
        shape: of the maps of one input, ``(C, H, W)``; ``None``: :func:`fix_shapes` finds it out.

    Shape: ``(batch, C, H, W)`` to the same.
    """

    def __init__(self, p: float = 0.5, shape: tuple[int, ...] | None = None) -> None:
        super().__init__(shape, p)

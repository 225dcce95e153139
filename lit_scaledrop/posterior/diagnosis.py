r"""Diagnosis: the effect of each layer's random bits on the rest of the network, on validation images.

Each stochastic layer is varied *alone*: it is dropped, all others are as in evaluation, where nothing is dropped.

moved        how far that moves the layer's own output, $\sqrt{\sum |\Delta y|^2 / \sum |y|^2}$ over the images.
flipped      what share of the next signs it turns (behind PACT: of the levels); a sign throws away all else.
information  mutual information in nats when this layer alone draws, $H(E_m\, p) - E_m H(p)$. A network's layers act
             together, so these do not add up to its mutual information; their shares compare layers.

A layer with one bit is dropped, its weights are 1 - p and p; of others that cannot be enumerated :data:`DRAWS` masks
are drawn, which makes their information a lower estimate. A Tiny-Deep Ensemble has one line, its member, which all
layers change at once: moved is what reaches the last BatchNorm.
"""

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from lit_scaledrop.functional.uncertainty import mutual_information
from lit_scaledrop.layers.activations import PACT
from lit_scaledrop.layers.binary import BinaryConv2d, BinaryLinear
from lit_scaledrop.layers.probing import evaluating, hooked
from lit_scaledrop.layers.scale_dropout import ScaleDropout
from lit_scaledrop.layers.stochastic import StochasticLayer, drawing_alone, stochastic_layers
from lit_scaledrop.posterior.execution import classes_last
from lit_scaledrop.posterior.posterior import PosteriorPredictive
from lit_scaledrop.results.measurement import Measurement
from lit_scaledrop.shapes import Float

AGREEING_NATS = 0.03
"""Below this mutual information the passes say the same. Passes whose probability of a class deviates by d around one
half have 2 d^2 nats, so at 0.03 they deviate by an eighth where the network is torn, and by less elsewhere. On CIFAR-10
Scale-Dropout (ResNet-20, 15 epochs) has 0.021, five networks of full precision 0.075 (docs/scale-placement.md)."""
DRAWS = 2
"""Masks of a layer that cannot be enumerated."""
OUTCOMES = 8
"""Most masks of a layer that are enumerated."""
WORK = 20_000
"""Passes times images of 32x32 that a diagnosis takes by default: those of 20 passes over 1,000 images."""
_BATCH = 50
_ROUNDING = 1e-12  # nats


@dataclass(frozen=True)
class LayerEffect:
    """What one layer's random bits do when they alone are drawn."""

    layer: str
    moved: float
    """how far a dropped mask moves the output, relative to its size"""
    flipped: float | None
    """share of the next signs that it turns; ``None`` where there is no sign behind"""
    information: float
    """mutual information, nats"""


@dataclass(frozen=True)
class Diagnosis:
    """What random bits do in a network."""

    layers: tuple[LayerEffect, ...]
    mutual_information: float
    """of T passes, in which all layers draw: nats, mean over images"""
    images: int
    samples: int
    """T"""

    @property
    def agrees(self) -> bool:
        """Whether the passes say the same, below :data:`AGREEING_NATS`."""
        return self.mutual_information < AGREEING_NATS

    def shares(self) -> list[float]:
        """Each layer's share of the layers' information; 0 where there is none."""
        total = sum(layer.information for layer in self.layers)
        return [layer.information / total if total > _ROUNDING else 0.0 for layer in self.layers]

    def records(self) -> list[Measurement]:
        """What a result keeps of it: mutual information on the validation split, and each layer's numbers."""
        found = [Measurement({"unc/mutual_information": self.mutual_information}, {"suite": "validation"})]
        for effect in self.layers:
            numbers = {"unc/layer_moved": effect.moved, "unc/layer_information": effect.information}
            numbers |= {} if effect.flipped is None else {"unc/layer_flipped": effect.flipped}
            found.append(Measurement(numbers, {"layer": effect.layer}))
        return found

    def sentence(self) -> str:
        """One line on whether the passes agree."""
        how = f"mutual information is {self.mutual_information:.4f} nats on {self.images} validation images"
        if not self.agrees:
            return f"the passes differ: {how} (T = {self.samples})"
        return (
            f"the passes agree: {how} (T = {self.samples}), below {AGREEING_NATS:g}, so they add little to a single "
            f"pass (docs/scale-placement.md)"
        )


def diagnosis_images(network: nn.Module, samples: int = 20, pixels: int = 32 * 32) -> int:
    """Number of images of so many pixels, at most 1,000, that keep a diagnosis within :data:`WORK`."""
    passes = 1 + sum(_passes(layer) for layer in stochastic_layers(network).values()) + samples
    return max(1, min(1000, WORK * 32 * 32 // (passes * pixels)))


@torch.no_grad()
def diagnose(network: nn.Module, images: Float[Tensor, "images ..."], samples: int = 20, seed: int = 0) -> Diagnosis:
    """Diagnose a network; memory is bounded by a batch of 50 images.

    Args:
        network: any network with stochastic layers.
        images: network inputs, normalized, on the network's device; of the validation split.
        samples: passes T of the mutual information.
        seed: of the passes, and of masks that cannot be enumerated.

    Raises:
        ValueError: nothing in the network is random, or there are no images.
    """
    layers = stochastic_layers(network)
    if not layers:
        raise ValueError("the network has no random layers: there is nothing to diagnose")
    if not len(images):
        raise ValueError("a diagnosis needs images, of the validation split; there are none")
    generator = torch.Generator().manual_seed(seed)
    masks = {name: _masks(layer, generator, images.device) for name, layer in layers.items()}
    posterior = PosteriorPredictive(network, samples, seed, "auto", max_leaves=1)
    joint = examples = 0.0
    with evaluating(network), torch.compiler.set_stance("force_eager"):
        behind = _next_signs(network, images[:1])
        layers = {name: layer for name, layer in layers.items() if name in behind}
        sums = {name: _Sums() for name in layers}
        for batch in images.split(_BATCH):
            with _outputs([*layers.values(), *filter(None, behind.values())]) as found:
                logits = network(batch)
                plain = dict(found)
            kept = _probs(logits)
            for name, layer in layers.items():
                sums[name].add(network, batch, layer, behind[name], masks[name], plain, kept)
            joint += posterior(batch).wide().mutual_information.sum().item()
            examples += len(kept)
    effects = [sums[name].effect(name, examples) for name in layers]
    return Diagnosis(tuple(effects), joint / examples, len(images), posterior.num_samples)


def render(diagnosis: Diagnosis) -> str:
    """Text table of the layers, and the sentence below."""
    lines = [["layer", "output moved by", "next signs flipped", "alone, nats", "share"]]
    for effect, share in zip(diagnosis.layers, diagnosis.shares(), strict=True):
        flipped = "" if effect.flipped is None else f"{100 * effect.flipped:.2f} %"
        lines.append(
            [effect.layer, f"{100 * effect.moved:.2f} %", flipped, f"{effect.information:.5f}", f"{100 * share:.1f} %"]
        )
    widths = [max(len(line[column]) for line in lines) for column in range(len(lines[0]))]
    rows = ["  ".join([line[0].ljust(widths[0]), *map(str.rjust, line[1:], widths[1:])]) for line in lines]
    return "\n".join([rows[0], "-" * len(rows[0]), *rows[1:], diagnosis.sentence()])


@dataclass(frozen=True)
class _Masks:
    """Draws that a layer is given alone, with their probabilities; ``rest`` is that of drawing as in evaluation."""

    draws: Tensor
    weights: list[float]
    rest: float = 0.0


class _Sums:
    """Sums over the images for one layer."""

    def __init__(self) -> None:
        self.moved = self.size = self.flipped = self.signs = self.information = 0.0

    def add(
        self,
        network: nn.Module,
        batch: Tensor,
        layer: StochasticLayer,
        sign: nn.Module | None,
        masks: _Masks,
        plain: dict[nn.Module, Tensor],
        kept: Tensor,
    ) -> None:
        """Add a batch: one pass for each mask of the layer."""
        predictions, weights = ([kept], [masks.rest]) if masks.rest else ([], [])
        for draw, weight in zip(masks.draws, masks.weights, strict=True):
            with drawing_alone(layer, draw[None]), _outputs([layer, *([sign] if sign else [])]) as found:
                predictions.append(_probs(network(batch)))
            weights.append(weight)
            share = 1 / len(masks.weights)
            self.moved += share * (found[layer] - plain[layer]).double().square().sum().item()
            self.size += share * plain[layer].double().square().sum().item()
            if sign is not None:
                self.flipped += share * (found[sign] != plain[sign]).double().sum().item()
                self.signs += share * plain[sign].numel()
        stacked = torch.stack(predictions)
        self.information += mutual_information(stacked, stacked.new_tensor(weights)).sum().item()

    def effect(self, name: str, examples: float) -> LayerEffect:
        """What the sums say."""
        moved = math.sqrt(self.moved / self.size) if self.size else 0.0
        return LayerEffect(name, moved, self.flipped / self.signs if self.signs else None, self.information / examples)


def _enumerated(layer: StochasticLayer) -> tuple[Tensor, list[float]] | None:
    """The masks of a layer with their probabilities, where they are few."""
    try:
        draws, probabilities = layer.outcomes()
    except ValueError:
        return None
    return (draws, probabilities) if len(probabilities) <= OUTCOMES else None


def _one_bit(layer: StochasticLayer) -> bool:
    return isinstance(layer, ScaleDropout) and layer.mask == "vector" and layer.drop_value != "random"


def _passes(layer: StochasticLayer) -> int:
    if _one_bit(layer):
        return 1
    found = _enumerated(layer)
    return DRAWS if found is None else len(found[1])


def _masks(layer: StochasticLayer, generator: torch.Generator, device: torch.device) -> _Masks:
    if _one_bit(layer):  # also where p is 0
        p = float(layer.get_buffer("p"))
        return _Masks(torch.zeros(1, *layer.uniform_shape, device=device), [p], 1 - p)
    found = _enumerated(layer)
    if found is not None:
        return _Masks(found[0].to(device), found[1])
    return _Masks(layer.draw(DRAWS, generator).to(device), [1 / DRAWS] * DRAWS)


def _probs(logits: Tensor) -> Tensor:
    """Probabilities, a row an example; of maps, a row a pixel."""
    return classes_last(logits).flatten(0, -2).double().softmax(-1)


def _sign_modules(network: nn.Module) -> list[nn.Module]:
    """What binarizes inputs; what makes levels of several bits counts as well."""
    binary = [layer for layer in network.modules() if isinstance(layer, BinaryConv2d | BinaryLinear)]
    inputs = [layer.input_estimator for layer in binary]
    # a dropout behind the sign (SpinDrop) is no part of it
    signs = [part[0] if isinstance(part, nn.Sequential) else part for part in inputs]
    levels = [module for module in network.modules() if isinstance(module, PACT)]
    return [sign for sign in signs if not isinstance(sign, nn.Identity)] + levels


def _next_signs(network: nn.Module, example: Tensor) -> dict[str, nn.Module | None]:
    """The first sign that is taken behind each stochastic layer that runs, by the layer's name."""
    names = {layer: name for name, layer in stochastic_layers(network).items()}
    with _outputs([*names, *_sign_modules(network)]) as found:
        network(example)
        order = list(found)
    signs: dict[str, nn.Module | None] = {}
    following: nn.Module | None = None
    for module in reversed(order):
        if module in names:
            signs[names[module]] = following
        else:
            following = module
    return signs


@contextmanager
def _outputs(modules: Sequence[nn.Module]) -> Iterator[dict[nn.Module, Tensor]]:
    """In the block, the last output of each module, in the order in which they end."""
    found: dict[nn.Module, Tensor] = {}

    def note(module: nn.Module, _: object, output: Tensor) -> None:
        found.pop(module, None)
        found[module] = output

    with hooked(*(module.register_forward_hook(note) for module in dict.fromkeys(modules))):
        yield found

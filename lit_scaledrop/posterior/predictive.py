"""The common form of all predictions: logits of every sample, and derived quantities (paper eq. 18-23, 26).

Monte-Carlo passes, deep ensembles and exact enumerations end here; metrics, plots, the OOD rule start here.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Literal

import torch
from torch import Tensor

from lit_scaledrop.functional import uncertainty
from lit_scaledrop.functional.uncertainty import Interpolation
from lit_scaledrop.shapes import Bool, Float, Int

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Interval = tuple[Float[Tensor, "batch classes"], Float[Tensor, "batch classes"]]


@dataclass(frozen=True, eq=False, repr=False)
class Predictive:
    """A predictive distribution as samples of logits; a deterministic network is the case of one sample.

    Derived quantities are computed once, on the device of the logits. Entropies are in nats.

    Raises:
        ValueError: The logits are not finite floats of three dimensions with a sample and two classes, or the
            weights are not one non-negative number per sample that sum to one.

    >>> prediction = Predictive(torch.tensor([[[0.9, 0.1]], [[0.5, 0.5]]]).log())
    >>> prediction.mean, prediction.predicted_class
    (tensor([[0.7000, 0.3000]]), tensor([0]))
    >>> prediction
    Predictive(2 samples of 1 inputs, 2 classes)
    """

    logits: Float[Tensor, "samples batch classes"]
    """Unnormalized log probabilities of each sample."""
    weights: Float[Tensor, " samples"] | None = None
    """Probability of each sample; ``None`` means that all count alike."""
    uncovered: float = 0.0
    """Probability that an enumeration left out: a bound on the error of each mean class probability."""

    def __post_init__(self) -> None:
        shape = tuple(self.logits.shape)
        if self.logits.ndim != 3 or not self.logits.is_floating_point():
            raise ValueError(
                "logits must be floats of shape (samples, batch, classes), a single pass being logits[None]; "
                f"got {self.logits.dtype} of shape {shape}"
            )
        if shape[0] < 1 or shape[2] < 2:
            raise ValueError(
                f"a prediction needs at least one sample and two classes, got logits of shape {shape}; for one logit "
                f"z of a sigmoid, use 0 and z: lit_scaledrop.posterior.any_network.two_classes"
            )
        bad = self.logits.numel() - int(self.logits.isfinite().sum())
        if bad:
            raise ValueError(f"{bad} of {self.logits.numel()} logits are not finite; the network has diverged")
        if self.weights is not None:
            self._check_weights(self.weights)

    def __repr__(self) -> str:
        samples, inputs, classes = self.logits.shape
        return f"Predictive({samples} samples of {inputs} inputs, {classes} classes)"

    def _check_weights(self, weights: Tensor) -> None:
        if weights.shape != self.logits.shape[:1] or not weights.is_floating_point():
            raise ValueError(
                f"weights must be floats, one for each of the {self.num_samples} samples; "
                f"got {weights.dtype} of shape {tuple(weights.shape)}"
            )
        total = weights.sum(dtype=uncertainty.wide_dtype(weights.device)).item()
        if not abs(total - 1) <= 1e-5:  # "not <=" also catches NaN
            raise ValueError(f"weights must sum to one, got {total:g}; pass weights / weights.sum()")
        if (weights < 0).any():
            raise ValueError(f"weights must not be negative, got {weights.min().item():g}")

    @property
    def num_samples(self) -> int:
        """Passes, networks or leaves: the length of the first axis."""
        return self.logits.shape[0]

    @property
    def num_classes(self) -> int:
        """The length of the last axis."""
        return self.logits.shape[2]

    @cached_property
    def probs(self) -> Float[Tensor, "samples batch classes"]:
        """Softmax of the logits, in float32 or wider whatever the logits are."""
        return self.logits.to(torch.promote_types(self.logits.dtype, torch.float32)).softmax(dim=-1)

    @cached_property
    def mean(self) -> Float[Tensor, "batch classes"]:
        """Mean probabilities over the samples (eq. 18)."""
        return uncertainty.predictive_mean(self.probs, self.weights)

    @cached_property
    def log_mean(self) -> Float[Tensor, "batch classes"]:
        """Logarithm of the mean probabilities, finite also where they are too small for a float."""
        return uncertainty.log_predictive_mean(self.logits, self.weights)

    @cached_property
    def variance(self) -> Float[Tensor, "batch classes"]:
        """Variance of the probabilities over the samples (eq. 19), divided by T and not T - 1."""
        return uncertainty.predictive_variance(self.probs, self.weights)

    @cached_property
    def predictive_entropy(self) -> Float[Tensor, " batch"]:
        """Entropy of the mean: the total uncertainty."""
        return uncertainty.predictive_entropy(self.probs, self.weights)

    @cached_property
    def expected_entropy(self) -> Float[Tensor, " batch"]:
        """Mean of the samples' entropies: what more samples or data would not remove."""
        return uncertainty.expected_entropy(self.probs, self.weights)

    @cached_property
    def mutual_information(self) -> Float[Tensor, " batch"]:
        """Predictive minus expected entropy: how far the samples disagree."""
        return uncertainty.mutual_information(self.probs, self.weights)

    @property
    def predicted_class(self) -> Int[Tensor, " batch"]:
        """Class of the largest mean probability."""
        return self.mean.argmax(dim=-1)

    @property
    def confidence(self) -> Float[Tensor, " batch"]:
        """The largest mean probability."""
        return self.mean.amax(dim=-1)

    def confidence_interval(
        self,
        level: float = 0.95,
        kind: Literal["normal", "quantile"] = "normal",
        interpolation: Interpolation = "linear",
        of: Literal["probs", "logits"] = "probs",
        draws: int | None = None,
    ) -> Interval:
        """Lower and upper bound per class.

        Args:
            level: Share that the interval covers.
            kind: ``normal`` bounds the *mean* and narrows with the number of samples; ``quantile`` bounds the
                *samples* and does not.
            interpolation: Between two samples, for ``quantile``.
            of: Probabilities, or logits (paper Fig. 5).
            draws: Number of passes, for ``normal`` with weights; see :func:`uncertainty.normal_interval`.

        >>> passes = torch.arange(11.0).view(11, 1, 1).expand(-1, -1, 2)
        >>> Predictive(passes).confidence_interval(0.8, kind="quantile", of="logits")
        (tensor([[1., 1.]]), tensor([[9., 9.]]))
        """
        if of not in ("probs", "logits"):
            raise ValueError(f"an interval is for 'probs' or 'logits', not {of!r}")
        values = self.probs if of == "probs" else self.logits
        if kind == "normal":
            return uncertainty.normal_interval(values, level, self.weights, draws)
        if kind == "quantile":
            return uncertainty.quantile_interval(values, level, self.weights, interpolation)
        raise ValueError(f"kind of interval must be 'normal' or 'quantile', got {kind!r}")

    def quantile_confidence(
        self, quantile: float = 0.1, interpolation: Interpolation = "linear"
    ) -> Float[Tensor, " batch"]:
        """The score behind :meth:`is_ood`: the largest class-wise quantile over the samples."""
        return uncertainty.quantile_confidence(self.probs, quantile, self.weights, interpolation)

    def is_ood(
        self, quantile: float = 0.1, threshold: float = 0.95, interpolation: Interpolation = "linear"
    ) -> Bool[Tensor, " batch"]:
        """OOD rule (eq. 26): True where :meth:`quantile_confidence` is below ``threshold``."""
        return uncertainty.is_ood(self.probs, quantile, threshold, self.weights, interpolation)

    def cpu(self) -> "Predictive":
        """The same prediction in host memory."""
        return Predictive(self.logits.cpu(), None if self.weights is None else self.weights.cpu(), self.uncovered)

    def wide(self) -> "Predictive":
        """The same prediction in float64 (float32 on MPS), where probabilities next to one still differ."""
        return Predictive(self.logits.to(uncertainty.wide_dtype(self.logits.device)), self.weights, self.uncovered)

    def tempered(self, temperature: float) -> "Predictive":
        """The prediction with the logits of each sample divided by a temperature above 0.

        See :func:`lit_scaledrop.functional.calibration.fitted_temperature`.

        Raises:
            ValueError: The temperature is not above 0.

        >>> Predictive(torch.tensor([[[4.0, 0.0]]])).tempered(2.0).logits
        tensor([[[2., 0.]]])
        """
        if not temperature > 0:
            raise ValueError(f"a temperature must be above 0, got {temperature}")
        return Predictive(self.logits / temperature, self.weights, self.uncovered)

    def plot(self, inputs: Sequence[int] | None = None, names: Sequence[str] | None = None) -> "Figure":
        """Mean and samples of each class for some inputs, as a figure.

        Args:
            inputs: which of the batch, by their places; by default the first four.
            names: of the classes, in order.

        Raises:
            ValueError: an input that is not there, or another number of names than of classes.
        """
        from lit_scaledrop.posterior.predictive_figure import draw_prediction

        batch = len(self.predicted_class)
        chosen = list(range(min(4, batch)) if inputs is None else inputs)
        if not chosen or not all(0 <= index < batch for index in chosen):
            raise ValueError(f"inputs to draw are numbers from 0 to {batch - 1}, got {chosen}")
        titles = [
            f"input {index}\nentropy {self.predictive_entropy[index]:.2f}, MI {self.mutual_information[index]:.3f}"
            for index in chosen
        ]
        return draw_prediction(self.probs[:, chosen].cpu(), self.mean[chosen].cpu(), titles, names)

    @staticmethod
    def cat(parts: Sequence["Predictive"]) -> "Predictive":
        """Join predictions of several batches by the same samples.

        Raises:
            ValueError: No parts, or parts whose samples, weights or classes differ.
        """
        if not parts:
            raise ValueError("nothing to join: cat needs at least one prediction")
        sizes = {(part.num_samples, part.num_classes) for part in parts}
        if len(sizes) > 1:
            raise ValueError(f"parts differ in (samples, classes): {sorted(sizes)}")
        weights = parts[0].weights
        for part in parts:
            same = part.weights is weights or (
                part.weights is not None and weights is not None and torch.equal(part.weights, weights)
            )
            if not same:
                raise ValueError("parts weight their samples differently; join predictions of one set of samples")
        uncovered = max(part.uncovered for part in parts)
        return Predictive(torch.cat([part.logits for part in parts], dim=1), weights, uncovered)

"""A trained run, ready for evaluation: its networks, its data, and how its posterior is sampled."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from lit_scaledrop.functional.calibration import fitted_temperature
from lit_scaledrop.functional.selective import accepting_threshold
from lit_scaledrop.metrics.classification import classification_metrics, uncertainty_metrics
from lit_scaledrop.posterior.evaluation import Evaluation, build_posterior
from lit_scaledrop.posterior.posterior import PosteriorPredictive
from lit_scaledrop.posterior.predictive import Predictive
from lit_scaledrop.shapes import Int, Shaped

if TYPE_CHECKING:
    from datamodules import ImageDataModule
    from datamodules.suites.suites import Suite

#: test images, their labels, and what the networks say of them
Clean = tuple[Shaped[Tensor, "images channels height width"], Int[Tensor, " images"], Predictive]

ACCEPTED = 0.95
"""Share of the validation split that the second OOD rule accepts (measured at the coordinate ``rule: validation``)."""


class Subject:
    """A trained run on one device.

    Args:
        networks: one network, or the members of an ensemble.
        data: data module of the run, set up.
        evaluation: passes, plan and OOD rule. The execution ``"auto"`` chooses the quickest of those that give the same
            numbers; ``"exact"``, which gives others, is taken only where it is asked for.
        device: where the networks run.
        limit: most images of each part; ``None`` takes all.
        on_batch: called with the images done and to do after each batch of a prediction, for progress.

    Attributes:
        suites: title, kind, source, fingerprint and number of images of each suite that was asked for, by its name.
    """

    def __init__(
        self,
        networks: Sequence[nn.Module],
        data: "ImageDataModule",
        evaluation: Evaluation,
        device: torch.device | str = "cpu",
        limit: int | None = None,
        on_batch: Callable[[int, int], None] | None = None,
    ) -> None:
        self.networks = [network.to(device).eval() for network in networks]
        self.data, self.evaluation, self.device, self.limit = data, evaluation, device, limit
        self.on_batch = on_batch
        self.suites: dict[str, dict[str, Any]] = {}
        self._posteriors: dict[int, PosteriorPredictive] = {}
        self._independent: dict[tuple[Any, ...], Subject] = {}

    @property
    def num_classes(self) -> int:
        """Classes that the networks tell apart."""
        return self.data.num_classes

    @property
    def rule(self) -> dict[str, Any]:
        """Quantile, threshold and interpolation of the OOD rule (paper eq. 26), as the metrics take them."""
        names = ("quantile", "threshold", "interpolation")
        return {name: getattr(self.evaluation, name) for name in names}

    def require_one_network(self, probe: str) -> None:
        """Refuse an ensemble for a probe that counts the passes of one network.

        Raises:
            ValueError: naming the probe.
        """
        if len(self.networks) != 1:
            raise ValueError(f"{probe} counts the passes of one network; this is an ensemble of {len(self.networks)}")

    def posterior(self, samples: int | None = None) -> PosteriorPredictive:
        """The posterior with ``samples`` passes (those of the evaluation by default); made once."""
        passes = samples or self.evaluation.samples
        if passes not in self._posteriors:
            how = self.evaluation
            # one leaf is no distribution: so "auto" never turns the T passes that a table states into all masks
            leaves = {"max_leaves": 1} if how.execution == "auto" else {}
            self._posteriors[passes] = build_posterior(self.networks, how, passes, **leaves)
        return self._posteriors[passes]

    def independent(self, **changes: Any) -> "Subject":
        """The same networks and data with independent passes, and with changes of the evaluation; made once."""
        key = tuple(sorted(changes.items()))
        if key not in self._independent:
            evaluation = replace(self.evaluation, **{"scheme": "iid", "execution": "auto"} | changes)
            self._independent[key] = self.asked(evaluation)
        return self._independent[key]

    def asked(self, evaluation: Evaluation, **changes: Any) -> "Subject":
        """The same run, asked otherwise; `changes` are `networks` on a chip, or another `limit`."""
        same = {name: getattr(self, name) for name in ("networks", "data", "device", "limit", "on_batch")}
        return Subject(evaluation=evaluation, **same | changes)

    def predict(
        self,
        images: Shaped[Tensor, "images channels height width"],
        normalized: bool = False,
        samples: int | None = None,
    ) -> Predictive:
        """Predict any number of images, in batches.

        Args:
            images: on the scale 0 to 255, or network inputs.
            normalized: whether they are network inputs already.
            samples: passes T, those of the evaluation by default.

        Returns:
            One prediction for all images, its logits on the CPU.

        Raises:
            ValueError: there are no images.
        """
        if not len(images):
            raise ValueError("there are no images to predict")
        posterior, parts, done = self.posterior(samples), [], 0
        for batch in images.split(self.data.eval_batch_size):
            x = batch.to(self.device)
            parts.append(posterior(x.float() if normalized else self.data.normalized(x)).cpu())
            done += len(batch)
            if self.on_batch:
                self.on_batch(done, len(images))
        return Predictive.cat(parts)

    def clean(self) -> Clean:
        """Test images (the first ``limit``), their labels and their prediction, computed once."""
        images, labels = self.test_images
        return images, labels, self._clean_prediction

    @cached_property
    def test_images(self) -> tuple[Shaped[Tensor, "images channels height width"], Int[Tensor, " images"]]:
        """Test images (the first ``limit``) and their labels."""
        test = self.data.test_set
        return test.images[: self.limit], test.labels[: self.limit]

    @cached_property
    def _clean_prediction(self) -> Predictive:
        return self.predict(self.test_images[0])

    @cached_property
    def validation(self) -> Clean | None:
        """Validation images (the first ``limit``), their labels and their prediction; ``None`` without such a split."""
        split = self.data.val_set
        if not len(split):
            return None
        images, labels = split.images[: self.limit], split.labels[: self.limit]
        return images, labels, self.predict(images)

    @cached_property
    def validation_threshold(self) -> float | None:
        """Threshold of the OOD rule that accepts :data:`ACCEPTED` of the validation split, at the rule's quantile."""
        if self.validation is None:
            return None
        rule = self.evaluation
        confidence = self.validation[2].wide().quantile_confidence(rule.quantile, rule.interpolation)
        return accepting_threshold(confidence, ACCEPTED)

    @cached_property
    def temperature(self) -> float | None:
        """Temperature of the logits of each pass that suits the validation split best."""
        if self.validation is None:
            return None
        _, labels, prediction = self.validation
        return fitted_temperature(prediction.logits, labels, prediction.weights)

    def suite(self, name: str) -> "Suite":
        """A test suite by its name (see ``datamodules.suites``), noted for the record.

        Raises:
            DatasetNotFoundError: its data is absent.
        """
        from datamodules.suites.suites import load_suite

        suite = load_suite(name, self.data, self.limit)
        self.note(name, suite)
        return suite

    def note(self, name: str, suite: "Suite") -> None:
        """Keep for the record what a suite is."""
        about = {key: getattr(suite, key) for key in ("title", "kind", "source", "fingerprint")}
        self.suites[name] = {**about, "images": len(suite.images)}

    def uncertainty(self, prediction: Predictive) -> dict[str, float]:
        """Mean uncertainties and the OOD rate: what needs no labels."""
        metrics = uncertainty_metrics(**self.rule, num_classes=self.num_classes)
        metrics.update(prediction)
        return {name: float(value) for name, value in metrics.compute().items()}

    def classification(self, prediction: Predictive, labels: Int[Tensor, " images"]) -> dict[str, float]:
        """Accuracy, error, likelihood, calibration and what :meth:`uncertainty` says."""
        metrics = classification_metrics(self.num_classes, **self.rule)
        metrics.update(prediction, labels)
        values = {name: float(value) for name, value in metrics.compute().items()}
        return {**values, "cls/error": 1 - values["cls/acc"]}

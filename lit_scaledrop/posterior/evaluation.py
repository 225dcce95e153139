"""How a trained network is evaluated: passes, mask plan, OOD rule, and variation of its drop probabilities."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal

from torch import nn

from lit_scaledrop.functional.uncertainty import Interpolation
from lit_scaledrop.layers.scale_dropout import ScaleDropout
from lit_scaledrop.posterior.plans import Scheme
from lit_scaledrop.posterior.posterior import Execution, PosteriorPredictive
from lit_scaledrop.posterior.variation import Redraw, Variation, Within

if TYPE_CHECKING:
    from hardware.chip_file import ChipFile


_MOST_SAMPLES = 100_000  # the standard error of a probability is then 0.0016 at most


@dataclass(frozen=True)
class Evaluation:
    """How a trained network is evaluated."""

    samples: int = 20
    """number T of stochastic forward passes; a deterministic network makes one"""
    seed: int = 0
    """seed of the mask plan"""
    execution: Execution = "loop"
    """how passes are executed: loop, folded and shared give the same numbers, exact uses all masks; auto chooses"""
    quantile: float = 0.1
    """quantile over the passes in the out-of-distribution (OOD) rule (paper eq. 26)"""
    threshold: float = 0.95
    """an input is called OOD if this quantile is below it for every class"""
    interpolation: Interpolation = "linear"
    """interpolation of the quantile between two passes"""
    checkpoint: Literal["best", "last"] = "best"
    """best checkpoint on the validation split, or that of the last epoch"""
    scheme: Scheme = "iid"
    """sampling of the T passes: independent, stratified or systematic"""
    sigma: float = 0.0
    """standard deviation of the drop probabilities around the nominal ones (paper eq. 24)"""
    mtj: str | None = None
    """instead of sigma: a junction whose device variation changes them, e.g. sot_80nm, or your own, FILE.yaml[:NAME]"""
    redraw: Redraw = "use"
    """redraw drop probabilities for each pass and layer (use), or fix them per simulated chip (chip)"""
    chip: int = 0
    """number of the simulated chip, its seed; `--chip FILE` sets the chip file below instead"""
    within: Within = "clipped"
    """how probabilities under sigma are kept in [0, 1]: clipped or truncated Gaussian"""
    temperature_k: float | None = None
    """temperature of the junction in K; its drive is set at the device's nominal temperature"""
    chip_file: str | None = None
    """instead of sigma and mtj: a complete chip, crossbars and junction, see `scaledrop chip`"""
    correlation: float = 0.0
    """correlation of successive bits of the junction, layer after layer and pass after pass"""
    calibration: int = 0
    """number of draws to calibrate the drive of mtj for each probability on the chip; 0: use the nominal drive"""
    dac_bits: int = 0
    """resolution in bits of the drive in a calibration; 0: continuous"""
    recalibrate: bool = False
    """calibrate at temperature_k and after the drift, instead of at the nominal temperature when new"""
    drift: float = 0.0
    """relative increase of the junction's critical voltage by ageing since its drive was set: 0.01 is 1 %"""

    def __post_init__(self) -> None:
        if self.samples < 1:
            raise ValueError(f"evaluation.samples (T) must be at least 1, got {self.samples}")
        if self.samples > _MOST_SAMPLES:
            raise ValueError(f"evaluation.samples (T) must be at most {_MOST_SAMPLES:,}, got {self.samples}")
        for name in ("quantile", "threshold"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"evaluation.{name} must lie in [0, 1], got {getattr(self, name)}")
        otherwise = (self.sigma, self.mtj, self.redraw, self.within) != (0, None, "use", "clipped")
        if self.chip_file is not None and otherwise:
            raise ValueError(
                "a chip file defines the variation of drop probabilities: remove evaluation.sigma, mtj, redraw and "
                "within"
            )
        varied = bool(self.sigma) or self.mtj is not None or self.chip_file is not None
        how = (self.redraw, self.chip, self.within, self.temperature_k, self.calibration, self.dac_bits)
        if not varied and (how != ("use", 0, "clipped", None, 0, 0) or self.recalibrate or self.drift):
            raise ValueError(
                "evaluation.redraw, chip, within, temperature_k, drift, calibration, dac_bits and recalibrate need a "
                "source of variation: add evaluation.sigma, .mtj or .chip_file"
            )
        if not self.finished and self.chip:
            raise ValueError(f"evaluation.chip={self.chip} selects a simulated chip: add evaluation.redraw=chip")
        if self.correlation and (self.execution == "exact" or self.scheme != "iid"):
            raise ValueError(
                "correlated bits need consecutive passes: remove evaluation.execution=exact and evaluation.scheme, "
                "or evaluation.correlation"
            )
        self.variation, self.described  # noqa: B018  what is wrong with them is refused now
        if varied and not self.finished and (self.execution == "exact" or self.scheme != "iid"):
            raise ValueError(
                "drop probabilities that are redrawn for each pass need independent passes: remove "
                "evaluation.execution=exact and evaluation.scheme, or add evaluation.redraw=chip"
            )

    @property
    def finished(self) -> bool:
        """Whether the drop probabilities are those of one finished chip."""
        return self.redraw == "chip" or self.chip_file is not None

    @cached_property
    def described(self) -> "ChipFile | None":
        """The chip file as it is when the evaluation is planned: it may be edited while hours of training pass."""
        from hardware.chip_file import load_chip

        return None if self.chip_file is None else load_chip(self.chip_file)

    @cached_property
    def variation(self) -> Variation | None:
        """Where the drop probabilities come from, if they are not the nominal ones of independent bits."""
        device = self.mtj or self.chip_file
        if not (self.sigma or device or self.correlation):
            return None
        sigma = self.sigma if device is None or self.sigma else None
        redraw: Redraw = "chip" if self.finished else "use"
        names = ("chip", "within", "temperature_k", "correlation", "calibration", "dac_bits", "recalibrate", "drift")
        return Variation(sigma, device, redraw, **{name: getattr(self, name) for name in names})

    def variation_of(self, network: nn.Module) -> Variation | None:
        """The same for a network, which may go on a chip without a junction if nothing in it has a drop probability."""
        scales = any(isinstance(layer, ScaleDropout) for layer in network.modules())
        if scales or self.chip_file is None:
            return self.variation
        return Variation(0.0, correlation=self.correlation) if self.correlation else None


def build_posterior(
    networks: nn.Module | Sequence[nn.Module], evaluation: Evaluation, samples: int | None = None, **options: Any
) -> PosteriorPredictive:
    """The posterior predictive that an evaluation asks for; ``samples`` and options go before what it says."""
    first = networks if isinstance(networks, nn.Module) else networks[0]
    variation = evaluation.variation_of(first)
    if variation is not None:
        options["correlation"] = variation.correlation
    if variation is not None and variation.moves_p:
        options["probability"] = variation.probability()
        options["chip"] = evaluation.chip if evaluation.finished else None
    passes = samples or evaluation.samples
    return PosteriorPredictive(
        networks, passes, evaluation.seed, evaluation.execution, scheme=evaluation.scheme, **options
    )

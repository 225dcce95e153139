r"""Variation of the drop probability with the junction that generates the bits: from settings to a model.

Two sources: a Gaussian around the wanted p (paper eq. 24), or a device whose switching law turns the spread of its
threshold and slope into one of p, at the temperature of the day. Two ways to draw:

``use``   Another $\hat p$ at each use of a layer, as eq. 24 says. A bit that is drawn once from it is Bernoulli of the
          *mean* of $\hat p$, whatever its spread; for eq. 24 that is p itself but for what is cut off at 0 and 1. So
          the law of the masks hardly changes.
``chip``  A finished chip: its $\hat p$ are drawn once and off for good, so every use is wrong in the same direction.
          The harder case, and what a fab delivers.

With eq. 24 every layer of a chip has a deviation of its own; with a device one junction serves all layers (the paper's
single module), so most deviations go together. Its cycle-to-cycle spread is left out of a finished chip, since it is
redrawn at each use and counts by its mean only.

Beside p, the bits themselves may be correlated from draw to draw (``correlation``): a junction that is read or written
again before it has forgotten its state.
"""

import math
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor, nn

from lit_scaledrop.layers.stochastic import stochastic_layers
from lit_scaledrop.posterior.drop_probability import Probability, read_probabilities, scale_dropouts

if TYPE_CHECKING:
    from hardware.devices import Device
    from hardware.drop_probability import DeviceProbability

Redraw = Literal["use", "chip"]
Within = Literal["clipped", "truncated"]


@dataclass(frozen=True)
class Variation:
    """Where the drop probabilities of a chip come from.

    Raises:
        ValueError: not exactly one of ``sigma`` and ``device``, a bad sigma, an unknown device, or a temperature
            without a device or out of its range.
    """

    sigma: float | None = None
    """standard deviation of p (eq. 24)"""
    device: str | None = None
    """a junction of ``hardware/presets/devices.yaml``, of a device file (``lab.yaml:name``), or of a chip file"""
    redraw: Redraw = "use"
    """another probability at each use of a layer, or those of one finished chip"""
    chip: int = 0
    """which chip: the seed of its probabilities"""
    within: Within = "clipped"
    """how eq. 24 stays in [0, 1]: clipped at the bounds, or truncated"""
    temperature_k: float | None = None
    """temperature of the device at run time, K; its drive was chosen at its own"""
    correlation: float = 0.0
    """correlation of the bits that a junction draws one after another; with sigma 0, of the nominal p"""
    calibration: int = 0
    """draws by which a finished device's drive is set for each probability; 0: to that of the nominal device"""
    dac_bits: int = 0
    """bits of the converter that a calibration sets the drive with; 0: any voltage"""
    recalibrate: bool = False
    """calibrated at ``temperature_k`` and behind the ``drift``, not at the device's own temperature when it was new"""
    drift: float = 0.0
    """share that the device's critical voltage has gone up by, by ageing, since its drive was chosen"""

    def __post_init__(self) -> None:
        if (self.sigma is None) == (self.device is None):
            given = "neither" if self.sigma is None else "both"
            raise ValueError(
                "the drop probability varies by sigma, its standard deviation (paper eq. 24), or by a device, e.g. "
                f"'sot_80nm': give one of them, not {given}"
            )
        if self.sigma is not None and not 0 <= self.sigma < math.inf:
            raise ValueError(f"sigma, the standard deviation of the drop probability, must be 0 or above: {self.sigma}")
        if self.device is not None and self.within != "clipped":
            raise ValueError("within='truncated' is for sigma: a device's switching law is always in [0, 1]")
        if not 0 <= self.correlation < 1:
            raise ValueError(f"correlation of successive bits must be 0 or above and below 1, got {self.correlation}")
        if self.device is None and (self.temperature_k, self.drift) != (None, 0):
            raise ValueError("temperature_k and drift act through a device's switching law: add the device")
        if self.calibration < 0 or (self.calibration and self.device is None):
            raise ValueError(f"calibration is a number of draws, 0 or more, of a device: {self.calibration}")
        if (self.dac_bits or self.recalibrate) and not self.calibration:
            raise ValueError("dac_bits and recalibrate need a calibration: add calibration, its number of draws")
        if self.recalibrate and self.temperature_k is None and not self.drift:
            raise ValueError("recalibrate needs another temperature or ageing: add temperature_k or drift")
        if self.device is not None:
            self._junction  # noqa: B018  what is wrong with it is refused now

    @property
    def moves_p(self) -> bool:
        """Whether drop probabilities are others than the nominal ones."""
        return bool(self.sigma) or self.device is not None

    def probability(self) -> Probability:
        """What draws the actual probabilities from the nominal ones."""
        from hardware.drop_probability import GaussianProbability

        if self.device is None:
            return GaussianProbability(self.sigma or 0.0, self.within).probability
        junction = self._junction
        if self.redraw == "use":
            return junction.probability
        population = replace(junction, variation=replace(junction.variation, cycle_cv=0.0))

        def finished(p: Tensor, generator: torch.Generator) -> Tensor:
            return population.manufacture(generator).probability(p, generator)

        return finished

    @cached_property
    def _described(self) -> "Device":
        """The device as it is when the variation is made: its file may be edited while hours of training pass."""
        from hardware.chip_file import find_junction

        return find_junction(str(self.device))

    @cached_property
    def _junction(self) -> "DeviceProbability":
        from hardware.calibration import Calibration
        from hardware.drop_probability import DeviceProbability

        device, spread = self._described.build()
        device.at(self.temperature_k).drifted(self.drift)
        calibration = None
        if self.calibration:
            then = (self.temperature_k, self.drift) if self.recalibrate else (None, 0.0)
            calibration = Calibration(self.calibration, self.dac_bits, *then)
        return DeviceProbability(device, spread, self.temperature_k, self.drift, calibration=calibration)

    def require(self, model: nn.Module) -> None:
        """Refuse a network that has nothing to vary, or probabilities that the device cannot give.

        Raises:
            ValueError: the network has no Scale-Dropout layer, or the device cannot reach a layer's probability; for a
                correlation alone, it draws no bits.
        """
        if self.correlation and all(layer.turns for layer in stochastic_layers(model).values()):
            raise ValueError("the network draws no bits that could be correlated")
        if self.correlation and not self.moves_p:
            return
        p = read_probabilities(scale_dropouts(model))
        self.probability()(p, torch.Generator().manual_seed(0))

    def record(self) -> dict[str, Any]:
        """What a result says of it."""
        chip = self.chip if self.redraw == "chip" else None
        # where a file lies is of this machine; what it says is in its fingerprint
        device = self.device and Path(self.device).name
        of_file = {"device_fingerprint": self._described.fingerprint} if device and "." in device else {}
        return {**asdict(self), "device": device, "chip": chip, **of_file}

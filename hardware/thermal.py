r"""Temperature dependence of a junction's free layer: magnetization, anisotropy, critical voltage, thermal stability.

Magnetization follows Bloch's law, $M_s(T) = M_s(0)\,(1 - (T/T^*)^{3/2})$, and the interfacial anisotropy a power of
it, $K_i \propto M_s^{\gamma}$ (Alzate et al., Appl. Phys. Lett. 104, 112410 (2014)). With $m = M_s(T) / M_s(T_{ref})$
and the share $d$ of the interfacial anisotropy that the demagnetizing energy $\mu_0 M_s^2 / 2$ takes back at $T_{ref}$,

$$ \frac{K_{eff}(T)}{K_{eff}(T_{ref})} = \frac{m^\gamma - d\,m^2}{1 - d} . $$

The critical current, of spin transfer and of spin-orbit torque on a perpendicular layer alike, goes with $M_s H_k$, so
with $K_{eff}$ ($H_k = 2 K_{eff} / (\mu_0 M_s)$ is the anisotropy field); and $\Delta = K_{eff} V / (k_B T)$. Damping,
the efficiency of the torque and the resistance of the write path are taken as constant.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from hardware.shapes import Float
from hardware.switching import Number, as_double, require_positive


@dataclass(frozen=True)
class FreeLayer:
    """How the free layer of a junction depends on temperature.

    Raises:
        ValueError: for constants out of range.
    """

    bloch_temperature_k: float
    """T* of Bloch's law, K"""
    anisotropy_exponent: float
    """power of the magnetization that the interfacial anisotropy follows"""
    shape_share: float
    """share of the interfacial anisotropy that the demagnetizing energy takes back at the reference temperature"""

    def __post_init__(self) -> None:
        require_positive(self, "bloch_temperature_k", "anisotropy_exponent")
        if not 0 <= self.shape_share < 1:
            raise ValueError(f"shape_share must be 0 or above and below 1, got {self.shape_share}")

    def magnetization(self, temperature_k: Number, reference_k: float) -> Float[Tensor, "..."]:
        """Saturation magnetization over that at the reference.

        Raises:
            ValueError: a temperature is not between 0 and T*.
        """
        kelvin, reference = as_double(temperature_k), as_double(reference_k)
        for given in (kelvin, reference):
            if not bool(((given > 0) & (given < self.bloch_temperature_k)).all()):
                raise ValueError(f"temperature_k must be above 0 and below {self.bloch_temperature_k:g} K, got {given}")
        now, then = (1 - (each / self.bloch_temperature_k) ** 1.5 for each in (kelvin, reference))
        return now / then

    def anisotropy_energy(self, temperature_k: Number, reference_k: float) -> Float[Tensor, "..."]:
        """Effective anisotropy energy over that at the reference: of the barrier and of the critical voltage.

        Raises:
            ValueError: as :meth:`magnetization`, or the layer is no longer perpendicular.
        """
        m = self.magnetization(temperature_k, reference_k)
        ratio = (m**self.anisotropy_exponent - self.shape_share * m**2) / (1 - self.shape_share)
        if not bool((ratio > 0).all()):
            raise ValueError(f"at {temperature_k} K this free layer has no perpendicular anisotropy left")
        return torch.as_tensor(ratio)

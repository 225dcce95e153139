"""stt_nvsim's curve against a macrospin in a thermal bath, by the stochastic Landau-Lifshitz-Gilbert equation."""

import math

import pytest
import torch

from hardware.devices import load_device

DELTA, DAMPING, FIELD_T, GYROMAGNETIC = 40.0, 0.02, 0.4, 1.76e11
CRITICAL_V = 40.82e-6 * 9e3


def switched(drives: list[float], pulse_ns: float, trials: int, step: float = 0.1) -> torch.Tensor:
    """Share of trials that have switched at the end of a pulse, by drive in critical currents; Heun's scheme.

    Time is counted in 1 / (gyromagnetic ratio x anisotropy field), fields in anisotropy fields: the thermal field's
    spectral density is damping / Delta, and the spin torque equals the damping at the critical current.
    """
    generator = torch.Generator().manual_seed(0)
    drive = torch.tensor(drives, dtype=torch.float64).repeat_interleave(trials)

    def motion(m: torch.Tensor, noise: torch.Tensor) -> torch.Tensor:
        field = noise.clone()
        field[:, 2] += m[:, 2]
        torque = torch.zeros_like(m)
        torque[:, 2] = -DAMPING * drive
        across = torch.linalg.cross(m, field)
        return -(across + torch.linalg.cross(m, DAMPING * across + torch.linalg.cross(m, torque))) / (1 + DAMPING**2)

    # thermal equilibrium in the well at +z: 1 - m_z is exponential to first order in 1 / Delta
    z = 1 - torch.empty(len(drive), dtype=torch.float64).exponential_(2 * DELTA, generator=generator)
    angle = 2 * math.pi * torch.rand(len(drive), generator=generator, dtype=torch.float64)
    across = (1 - z**2).sqrt()
    m = torch.stack([across * angle.cos(), across * angle.sin(), z], 1)
    for _ in range(round(pulse_ns * 1e-9 * GYROMAGNETIC * FIELD_T / step)):
        noise = torch.randn(m.shape, generator=generator, dtype=torch.float64) * math.sqrt(DAMPING / DELTA / step)
        first = motion(m, noise)
        m = m + step / 2 * (first + motion(m + step * first, noise))
        m = m / m.norm(dim=1, keepdim=True)
    return (m[:, 2] < 0).double().view(len(drives), trials).mean(1)


def test_the_curve_of_stt_nvsim_is_a_macrospins():
    device, _ = load_device("stt_nvsim")
    drives, trials = [0.8, 0.98, 1.03, 1.08, 1.3], 1000
    simulated = switched(drives, device.pulse_ns, trials)
    ours = device.probability(torch.tensor(drives, dtype=torch.float64) * CRITICAL_V)
    # a logistic curve is not quite the shape: 0.03 beside the statistical error
    assert (simulated - ours).abs().max() < 0.03 + 3 * 0.5 / math.sqrt(trials)
    slope = (simulated[3] - simulated[1]) / (drives[3] - drives[1])
    assert slope.item() == pytest.approx(2.5, abs=3 * 0.7 / math.sqrt(trials) / 0.1)

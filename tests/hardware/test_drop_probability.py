"""The probabilities that dropout modules have: eq. 24's Gaussian, and another junction than the nominal one."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hardware.devices import load_device
from hardware.drop_probability import DeviceProbability, GaussianProbability, telegraph_correlation
from hardware.mtj import DeviceVariation, DriveError


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@settings(max_examples=100)
@given(
    p=st.lists(st.floats(0, 1), min_size=1, max_size=20),
    sigma=st.floats(0, 1e6, allow_subnormal=False),
    within=st.sampled_from(["clipped", "truncated"]),
    seed=st.integers(0, 2**31),
)
def test_a_probability_stays_one(p, sigma, within, seed):
    wanted = torch.tensor(p, dtype=torch.float64)
    got = GaussianProbability(sigma, within).probability(wanted, seeded(seed))
    assert got.shape == wanted.shape
    assert bool(((got >= 0) & (got <= 1)).all())
    if sigma == 0:
        assert torch.equal(got, wanted)


@pytest.mark.parametrize("within", ["clipped", "truncated"])
def test_gaussian_moments(within):
    n, p, sigma = 50_000, 0.1, 0.1
    got = GaussianProbability(sigma, within).probability(torch.full((n,), p), seeded())
    a = (0 - p) / sigma
    density, below = math.exp(-(a**2) / 2) / math.sqrt(2 * math.pi), 0.5 * math.erfc(-a / math.sqrt(2))
    if within == "clipped":
        mean = p * (1 - below) + sigma * density
        assert (got == 0).double().mean().item() == pytest.approx(below, abs=5 * math.sqrt(below / n))
    else:
        mean = p + sigma * density / (1 - below)
        assert not bool((got == 0).any())
    assert abs(got.mean().item() - mean) < 5 * sigma / math.sqrt(n)


def test_device_probabilities():
    device, variation = load_device("sot_80nm")
    small = DeviceVariation(threshold_cv=0.001)
    wanted = torch.full((20_000,), 0.3)
    got = DeviceProbability(device, small).probability(wanted, seeded())
    spread = 0.3 * 0.7 * 44.6 * device.voltage(0.3).item() * 0.001
    assert got.std().item() == pytest.approx(spread, rel=0.03)
    assert abs(got.mean().item() - 0.3) < 5 * spread / math.sqrt(len(wanted)) + spread**2
    # a finished chip has one device: the same at every use, another on another chip
    mixed = torch.tensor([0.3, 0.3, 0.0, 1.0])
    chips = [DeviceProbability(device, variation).manufacture(seeded(seed)) for seed in (0, 1)]
    one, other = (chip.probability(mixed, seeded(9)) for chip in chips)
    assert one[0] == one[1] != other[0]
    assert one[2:].tolist() == [0.0, 1.0]
    # drives were chosen at room temperature; heat lowers the threshold
    hot = DeviceProbability(device, DeviceVariation(), temperature_k=400.0)
    assert (hot.probability(torch.tensor([0.1, 0.2]), seeded()) > torch.tensor([0.1, 0.2])).all()
    with pytest.raises(DriveError, match="reaches"):
        DeviceProbability(device, small).probability(torch.tensor([0.99999]), seeded())


def test_telegraph_noise_by_its_rates():
    """A two-state process with rates 1 / 3 and 1 / 5 a ns: its propagator is the exponential of the rate matrix."""
    rates = torch.tensor([[-1 / 3, 1 / 3], [1 / 5, -1 / 5]], dtype=torch.float64)
    stay = torch.linalg.matrix_exp(2.5 * rates)
    p = 3 / 8  # of state 0, where it stays 3 of 8 ns
    covariance = p * stay[0, 0] - p**2
    expected = (covariance / (p * (1 - p))).item()
    assert telegraph_correlation(2.5, 3.0, 5.0) == pytest.approx(expected)


def test_wrong_probabilities_are_refused():
    with pytest.raises(ValueError, match="sigma"):
        GaussianProbability(-0.1)
    for bad in (1.5, -0.1, float("nan")):
        with pytest.raises(ValueError, match=r"\[0, 1\]"):
            GaussianProbability(0.1).probability(torch.tensor([bad]), seeded())

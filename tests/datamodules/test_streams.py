"""Random numbers by counter: the published generator, independence of the batch, and the distributions."""

import numpy as np
import pytest
import torch
from scipy import stats

from datamodules.files.streams import GAMMA, Streams, mix


def test_mix_is_splitmix64():
    def splitmix64(state):
        word = (state ^ (state >> 30)) * 0xBF58476D1CE4E5B9 % 2**64
        word = (word ^ (word >> 27)) * 0x94D049BB133111EB % 2**64
        return word ^ (word >> 31)

    states = [0, 1, 2**63, 2**64 - 1, *np.random.default_rng(0).integers(0, 2**63, 50).tolist()]
    signed = torch.tensor([state - 2**64 if state >= 2**63 else state for state in states])
    kept = signed.clone()
    assert [word % 2**64 for word in mix(signed).tolist()] == [splitmix64(state) for state in states]
    assert torch.equal(signed, kept)
    # the published test vector for seed 1234567
    counters = torch.arange(1, 4) * GAMMA + 1234567
    assert [word % 2**64 for word in mix(counters).tolist()] == [
        6457827717110365317,
        3203168211198807973,
        9817491932198370423,
    ]


@pytest.mark.parametrize("draw", [lambda s: s.uniform(3, 5), lambda s: s.normal(7), lambda s: s.integers(9, 4)])
def test_an_images_numbers_depend_on_its_index_and_the_words_only(draw):
    whole = draw(Streams(torch.arange(10, 20), 3, 1))
    assert torch.equal(whole[4:5], draw(Streams(torch.tensor([14]), 3, 1)))
    assert len(whole.unique()) > 5
    for other in (Streams(torch.arange(10, 20), 3, 2), Streams(torch.arange(10, 20), 1, 3)):
        assert not torch.equal(whole, draw(other))


def test_later_draws_are_new():
    streams = Streams(torch.arange(2), 0)
    first, second = streams.uniform(100), streams.uniform(100)
    assert not set(first.flatten().tolist()) & set(second.flatten().tolist())


def test_distributions():
    streams = Streams(torch.arange(50), 1)
    uniform, normal = streams.uniform(2001, low=-1.0, high=3.0), streams.normal(2001)
    assert uniform.shape == normal.shape == (50, 2001)
    assert stats.kstest(uniform.flatten().numpy(), stats.uniform(-1, 4).cdf).pvalue > 0.01
    assert stats.kstest(normal.flatten().numpy(), stats.norm.cdf).pvalue > 0.01
    assert streams.integers(3, 3000).flatten().bincount().div(150_000).sub(1 / 3).abs().max() < 0.01
    for numbers in (uniform, normal):
        correlations = np.corrcoef(numbers.numpy()) - np.eye(50)  # between images
        assert np.abs(correlations).max() < 5 / 2001**0.5
    serial = np.corrcoef(normal[:, :-1].flatten(), normal[:, 1:].flatten())[0, 1]
    assert abs(serial) < 5 / 100_000**0.5
    halves = np.corrcoef(normal[:, :1000].flatten(), normal[:, 1001:2001].flatten())[0, 1]
    assert abs(halves) < 5 / 50_000**0.5

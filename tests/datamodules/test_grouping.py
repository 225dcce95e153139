"""Near-duplicate groups against SciPy and NumPy, and splits that keep groups whole."""

import numpy as np
import pytest
import torch
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components

from datamodules.grouping import connected, group_positions, similar_groups


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("edges", [0, 1, 20, 60, 400])
def test_components_equal_scipys(seed, edges):
    drawn = np.random.default_rng(seed).integers(0, 80, (edges, 2))
    both = torch.from_numpy(np.concatenate([drawn, drawn[:, ::-1]]))
    labels = connected(80, both).numpy()
    _, expected = connected_components(coo_matrix((np.ones(edges), drawn.T), (80, 80)), directed=False)
    first = {label: int(np.flatnonzero(expected == label)[0]) for label in np.unique(expected)}
    assert labels.tolist() == [first[label] for label in expected]


def test_a_long_chain_is_one_component():
    chain = torch.arange(499)
    pairs = torch.cat([torch.stack([chain, chain + 1], 1), torch.stack([chain + 1, chain], 1)])
    assert connected(500, pairs).unique().tolist() == [0]


def test_similar_groups_follow_numpys_correlation():
    random = np.random.default_rng(0)
    originals = random.normal(size=(600, 64))  # more than one block of rows
    copies = 3 * originals[:100] + 0.2 * random.normal(size=(100, 64)) - 5  # other contrast and brightness
    thumbnails = np.concatenate([originals, copies]).astype(np.float32)
    groups = similar_groups(torch.from_numpy(thumbnails), 0.9)
    assert groups[600:].tolist() == list(range(100))
    assert groups[:600].tolist() == list(range(600))
    near = np.corrcoef(thumbnails) > 0.4
    _, expected = connected_components(coo_matrix(near), directed=False)
    loose = similar_groups(torch.from_numpy(thumbnails), 0.4).numpy()
    assert len(np.unique(loose)) == len(np.unique(expected)) < 600
    assert all(len(np.unique(expected[loose == label])) == 1 for label in np.unique(loose))


def test_a_picture_of_one_grey_level_is_like_no_other():
    thumbnails = torch.stack([torch.zeros(16), torch.full((16,), 7.0), torch.arange(16.0), torch.arange(16.0)])
    assert similar_groups(thumbnails, 0.9).tolist() == [0, 1, 2, 2]


def test_positions_keep_groups_whole_and_strata_even():
    random = np.random.default_rng(1)
    groups = torch.from_numpy(random.integers(0, 150, 600))
    strata = groups % 3
    position = group_positions(groups, strata, seed=0)
    assert 0 < position.min() < position.max() < 1
    for group in groups.unique():
        assert len(position[groups == group].unique()) == 1
    for stratum in range(3):
        mine = position[strata == stratum]
        for cut in (0.1, 0.2, 0.5, 0.8):
            assert abs((mine < cut).double().mean().item() - cut) < 0.04  # largest group: 3.5 % of a stratum
    assert torch.equal(position, group_positions(groups, strata, seed=0))
    assert not torch.equal(position, group_positions(groups, strata, seed=1))


def test_a_split_is_for_ever():
    """The numbers are those of the first release: if they change, results are no longer comparable."""
    position = group_positions(torch.arange(8), torch.arange(8) % 2, seed=0)
    assert (position * 8).tolist() == [5.0, 1.0, 3.0, 5.0, 7.0, 7.0, 1.0, 3.0]

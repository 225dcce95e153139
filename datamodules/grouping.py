"""Splits by group: near-duplicates and slices of one volume stay together."""

import numpy as np
import torch
from torch import Tensor

from datamodules.shapes import Float, Int


def similar_groups(thumbnails: Float[Tensor, "items pixels"], correlation: float) -> Int[Tensor, " items"]:
    """Group pictures that look alike, and what looks like those, and so on (single linkage).

    Args:
        thumbnails: Grey levels of each picture, reduced to one size; contrast and brightness play no part. A picture
            of one grey level is like no other.
        correlation: Two pictures belong together if Pearson's correlation of their thumbnails is above it.

    Returns:
        For each picture the index of the first one of its group.

    >>> similar_groups(torch.tensor([[0.0, 1, 2], [2, 1, 0], [5, 7, 9]]), 0.9).tolist()
    [0, 1, 0]
    """
    centred = thumbnails - thumbnails.mean(1, keepdim=True)
    unit = centred / centred.norm(dim=1, keepdim=True).clamp(min=1e-6)
    found = []
    for start in range(0, len(unit), 512):  # not all pairs at once: 10,000 pictures would be 400 MB
        near = ((unit[start : start + 512] @ unit.T) > correlation).nonzero()
        found.append(near + torch.tensor([start, 0]))
    return connected(len(unit), torch.cat(found) if found else torch.empty(0, 2, dtype=torch.int64))


def connected(items: int, pairs: Int[Tensor, "pairs 2"]) -> Int[Tensor, " items"]:
    """Connected components of a graph: for each item the smallest index in its component.

    Every item takes the smallest label among its neighbours, then the label of that label, until nothing changes.

    Args:
        items: Number of items.
        pairs: Which items belong together, in both directions.

    >>> connected(4, torch.tensor([[0, 2], [2, 0], [2, 3], [3, 2]])).tolist()
    [0, 1, 0, 0]
    """
    labels = torch.arange(items)
    while True:
        lowest = labels.scatter_reduce(0, pairs[:, 0], labels[pairs[:, 1]], "amin")
        lowest = lowest[lowest]
        if torch.equal(lowest, labels):
            return labels
        labels = lowest


def group_positions(groups: Int[Tensor, " items"], strata: Int[Tensor, " items"], seed: int) -> Float[Tensor, " items"]:
    """Lay the groups of each stratum in random order side by side on the interval from 0 to 1.

    Cutting the interval splits the items in parts of about these sizes, with the same shares of the strata, and no
    group in two parts.

    Args:
        groups: Which items belong together.
        strata: Class of each item; a group counts for the class of its first item.
        seed: Decides the order.

    Returns:
        For each item the middle of its group's piece, strictly between 0 and 1.

    >>> group_positions(torch.tensor([7, 7, 2, 2]), torch.zeros(4, dtype=torch.int64), seed=0).tolist()
    [0.25, 0.25, 0.75, 0.75]
    """
    _, first, inverse, counts = np.unique(groups.numpy(), return_index=True, return_inverse=True, return_counts=True)
    # RandomState, not default_rng: NumPy promises that its stream never changes, and so the split never does
    order = np.random.RandomState(seed).permutation(len(first))
    stratum = strata.numpy()[first]
    position = np.empty(len(first))
    for label in np.unique(stratum):
        members = order[stratum[order] == label]
        sizes = counts[members]
        position[members] = (sizes.cumsum() - sizes / 2) / sizes.sum()
    return torch.from_numpy(position[inverse])

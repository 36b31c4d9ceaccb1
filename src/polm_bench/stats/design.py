"""What all methods of one score share: its items, their weights, and the clusters that are drawn together."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from polm_bench.stats.bootstrap import Array


@dataclass(frozen=True)
class Design:
    """Items [N], each with its weight and its cluster."""

    weight: Array  # [N]
    members: NDArray[np.intp] | None  # [N], number of each item's cluster; None: every item is its own
    size: Array  # [C], summed weight of each cluster

    @property
    def clusters(self) -> int:
        return len(self.size)

    @property
    def total(self) -> float:
        return float(self.size.sum())

    @property
    def inflation(self) -> float:
        """Factor that makes a variance over clusters unbiased."""
        return self.clusters / max(self.clusters - 1, 1)

    @property
    def plain(self) -> bool:
        """Whether every item counts alike and stands alone."""
        return self.members is None and bool((self.weight == self.weight[0]).all())

    def sums(self, values: Array) -> Array:
        """Weighted sums per cluster [..., C] of values [..., N]."""
        weighted = values * self.weight
        if self.members is None:
            return np.asarray(weighted)
        flat = weighted.reshape(-1, weighted.shape[-1])
        found = [np.bincount(self.members, row, self.clusters) for row in flat]
        return np.asarray(found, np.float64).reshape(*weighted.shape[:-1], self.clusters)


def design(items: int, clusters: ArrayLike | None = None, weights: ArrayLike | None = None) -> Design:
    """The design of `items` items; without clusters each stands alone, without weights all count alike."""
    weight = np.ones(items) if weights is None else np.asarray(weights, float)
    if clusters is None:
        return Design(weight, None, weight)
    names, found = np.unique(np.asarray(clusters), return_inverse=True)
    if len(names) == items:
        return Design(weight, None, weight)
    members = found.reshape(-1)
    return Design(weight, members, np.asarray(np.bincount(members, weight, len(names)), np.float64))


def binary(scores: Array) -> bool:
    """Whether every score is 0 or 1."""
    return bool(((scores == 0) | (scores == 1)).all())

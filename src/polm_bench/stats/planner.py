"""Where the variance of a comparison comes from, and how many seeds and items a difference needs to be seen."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from polm_bench.stats.bootstrap import Array
from polm_bench.stats.design import Design, design
from polm_bench.stats.interval import satterthwaite
from polm_bench.stats.student import student_quantile

MOST_CLUSTERS = 10_000_000
MOST_SEEDS = 1000


class Components(NamedTuple):
    """Variance of a score, or of a paired difference, per cluster of items and per seed; in the score's unit squared."""

    seed: float  # between seeds: training that ended elsewhere
    item: float  # between clusters of items
    rest: float  # of a cluster at one seed: what seed and item do together, and chance in decoding

    def error(self, seeds: int, clusters: int) -> float:
        """Standard error of a mean over this many seeds and clusters."""
        return math.sqrt(self.seed / seeds + self.item / clusters + self.rest / seeds / clusters)


def components(scores: ArrayLike, *, clusters: ArrayLike | None = None, weights: ArrayLike | None = None) -> Components:
    """Variance of scores [S, N] split by the analysis of variance of a two-way layout without repeats; S and the clusters must be 2 or more.

    With mean squares MS: rest = MS_rest, seed = (MS_seed - MS_rest) / C, item = (MS_item - MS_rest) / S, none below zero (Searle, Casella and
    McCulloch 1992, section 4.7). A cluster counts as one item, at its weighted mean in units of the mean cluster's weight.
    """
    matrix = np.atleast_2d(np.asarray(scores, float))
    shared = design(matrix.shape[1], clusters, weights)
    seeds, groups = len(matrix), shared.clusters
    if seeds < 2 or groups < 2:
        raise ValueError(f"a split of variance needs two seeds and two clusters or more, not {seeds} and {groups}")
    table = pulls(matrix, shared)
    row, column = table.mean(axis=1), table.mean(axis=0)
    left = table - row[:, None] - column[None, :] + table.mean()
    rest = float((left**2).sum()) / (seeds - 1) / (groups - 1)
    seed = groups * float(row.var(ddof=1))
    item = seeds * float(column.var(ddof=1))
    return Components(max(0.0, (seed - rest) / groups), max(0.0, (item - rest) / seeds), rest)


def pulls(scores: Array, shared: Design) -> Array:
    """Each cluster's pull [..., C] on the mean of scores [..., N], so that the mean over clusters is the weighted mean of the items."""
    means = (scores @ shared.weight / shared.total)[..., None]
    return np.asarray((shared.sums(scores) - means * shared.size) * (shared.clusters / shared.total) + means)


def power(effect: float, found: Components, seeds: int, clusters: int, alpha: float = 0.05) -> float:
    """Chance that a two-sided test at alpha sees a mean of `effect` with this many seeds (2 or more) and clusters."""
    from scipy.special import gammaincinv, ndtr

    error = found.error(seeds, clusters)
    if error == 0:
        return 1.0 if effect else alpha
    parts = [
        (found.item / clusters + found.rest / seeds / clusters, clusters - 1),
        (found.seed / seeds + found.rest / seeds / clusters, seeds - 1),
        (found.rest / seeds / clusters, (seeds - 1) * (clusters - 1)),
    ]
    freedom = satterthwaite(error**2, parts)
    bound = student_quantile(freedom, 1 - alpha / 2)
    # The non-central t, as the mean over its chi: the series of scipy.special.nctdtr breaks down for many degrees of freedom.
    chance = (np.arange(400) + 0.5) / 400
    spread = np.sqrt(2 * gammaincinv(freedom / 2, chance) / freedom)
    away = abs(effect) / error
    return float((ndtr(away - bound * spread) + ndtr(-away - bound * spread)).mean())


def clusters_needed(effect: float, found: Components, seeds: int, wanted: float = 0.8) -> int | None:
    """Fewest clusters that show the effect with power `wanted` at this many seeds; None where no number of them does."""
    if power(effect, found, seeds, MOST_CLUSTERS) < wanted:
        return None
    return _fewest(lambda count: power(effect, found, seeds, count) >= wanted, 2, MOST_CLUSTERS)


def seeds_needed(effect: float, found: Components, clusters: int, wanted: float = 0.8) -> int | None:
    """Fewest seeds that show the effect with power `wanted` on this many clusters; None where no number of them does."""
    if power(effect, found, MOST_SEEDS, clusters) < wanted:
        return None
    return _fewest(lambda count: power(effect, found, count, clusters) >= wanted, 2, MOST_SEEDS)


def visible_effect(found: Components, seeds: int, clusters: int, wanted: float = 0.8) -> float:
    """Smallest effect that this many seeds and clusters show with power `wanted`."""
    error = found.error(seeds, clusters)
    low, high = 0.0, 30 * error
    for _ in range(50):
        middle = (low + high) / 2
        low, high = (low, middle) if power(middle, found, seeds, clusters) >= wanted else (middle, high)
    return high


def _fewest(enough: Callable[[int], bool], low: int, high: int) -> int:
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if enough(middle) else (middle + 1, high)
    return low

"""The interval of a mean, over items and seeds."""

from __future__ import annotations

import math
from statistics import NormalDist
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from polm_bench.stats.bootstrap import Array, Bootstrap
from polm_bench.stats.design import Design, binary, design
from polm_bench.stats.student import student_quantile

LEVEL = 0.95


class Interval(NamedTuple):
    """A mean with its interval, and where its variance comes from."""

    mean: float
    low: float
    high: float
    items: int
    clusters: int
    seeds: int
    seed_variance: float
    """Part of the mean's variance that more seeds would shrink."""
    item_variance: float
    """Part of the mean's variance that more items would shrink."""


def mean_interval(
    scores: ArrayLike,
    bootstrap: Bootstrap,
    *,
    clusters: ArrayLike | None = None,
    weights: ArrayLike | None = None,
    level: float = LEVEL,
) -> Interval:
    """Mean of scores [S, N] or [N] with its bootstrap interval over seeds and items.

    Where every score is 0, or every score is 1, resampling shows no spread at all: there the interval is the exact
    binomial one (Clopper and Pearson 1934) with the clusters as its trials.
    """
    matrix = np.atleast_2d(np.asarray(scores, float))
    return mean_intervals(matrix[None], bootstrap, clusters=clusters, weights=weights, level=level)[0]


def mean_intervals(
    scores: ArrayLike,
    bootstrap: Bootstrap,
    *,
    clusters: ArrayLike | None = None,
    weights: ArrayLike | None = None,
    level: float = LEVEL,
) -> list[Interval]:
    """`mean_interval` of many methods [M, S, N] that answer the same items, with one set of draws."""
    cube = np.asarray(scores, float)
    shared = design(cube.shape[2], clusters, weights)
    return [
        _interval(matrix, found, shared, level)
        for matrix, found in zip(cube, spreads(cube, bootstrap, shared), strict=True)
    ]


def _interval(matrix: Array, found: Spread, shared: Design, level: float) -> Interval:
    low, high = bounds(found, level)
    if binary(matrix):
        low, high = max(0.0, low), min(1.0, high)
    if (matrix == matrix[0, 0]).all() and matrix[0, 0] in (0.0, 1.0):
        reach = ((1 - level) / 2) ** (1 / shared.clusters)
        low, high = (reach, 1.0) if matrix[0, 0] == 1.0 else (0.0, 1 - reach)
    seeds, items = matrix.shape
    return Interval(found.mean, low, high, items, shared.clusters, seeds, found.seed_variance, found.item_variance)


class Spread(NamedTuple):
    """A mean, its resampled values, and its variance in parts."""

    mean: float
    replicates: Array  # [B], resampled means
    seed_variance: float
    item_variance: float
    freedom: float  # degrees of freedom of the two variances' sum
    sums: Array  # [C], weighted sum of the seeds' mean scores in each cluster

    @property
    def error(self) -> float:
        """Standard error of the mean."""
        return math.sqrt(self.seed_variance + self.item_variance)


def spreads(cube: Array, bootstrap: Bootstrap, shared: Design) -> list[Spread]:
    """Resample clusters of the items' means over seeds, and add resampled effects of the seeds; one spread per method of [M, S, N].

    The seeds' own means differ by training and by chance on these items. The second part is already in the items' resampling, so it is
    taken out of the effects before they are drawn (residuals reflated to their estimated variance: Carpenter, Goldstein and Rasbash 2003).
    The variance over items is that of a ratio of sums over clusters, to first order. Degrees of freedom after Satterthwaite (1946).
    """
    sums = shared.sums(cube.mean(axis=1))  # [M, C]
    drawn = bootstrap.means(np.ascontiguousarray(sums.T), shared.size)
    return [
        _spread(matrix, own, drawn[:, place], bootstrap, shared)
        for place, (matrix, own) in enumerate(zip(cube, sums, strict=True))
    ]


def _spread(matrix: Array, sums: Array, drawn: Array, bootstrap: Bootstrap, shared: Design) -> Spread:
    seeds, groups, total = len(matrix), shared.clusters, shared.total
    mean = float(sums.sum() / total)
    item_variance = float(((sums - mean * shared.size) ** 2).sum()) / total**2 * shared.inflation
    observed = noise = seed_variance = 0.0
    if seeds > 1:
        seed_means = matrix @ shared.weight / total
        observed = float(seed_means.var(ddof=1)) / seeds
        rest = (matrix - seed_means[:, None]) - (matrix.mean(axis=0) - mean)
        noise = float((shared.sums(rest) ** 2).sum()) / total**2 / (seeds - 1) / seeds * shared.inflation
        seed_variance = max(0.0, observed - noise)
        if seed_variance > 0:
            drawn = drawn + bootstrap.seed_means((seed_means - mean) * math.sqrt(seed_variance / observed))
    parts = [(item_variance, groups - 1), (observed, seeds - 1), (noise, (seeds - 1) * (groups - 1))]
    freedom = satterthwaite(seed_variance + item_variance, parts)
    return Spread(mean, drawn, seed_variance, item_variance, freedom, sums)


def bounds(found: Spread, level: float) -> tuple[float, float]:
    """Percentiles of the resampled means, stretched about the mean for few clusters or seeds."""
    factor = stretch(found, level)
    if factor == 0:
        return found.mean, found.mean
    tail = (1 - level) / 2
    low, high = np.quantile(found.replicates, [tail, 1 - tail])
    return found.mean + factor * (float(low) - found.mean), found.mean + factor * (float(high) - found.mean)


def stretch(found: Spread, level: float) -> float:
    """By how much resampled means must be drawn apart about the mean; 0 where nothing varies.

    Resampling few things shows too little variance, and a normal tail is too short for them: the stretch is the ratio of the unbiased to the
    resampled standard error, times that of Student's quantile to the normal one (cf. Hesterberg 2015, section 5.3).
    """
    seen = float(found.replicates.std())
    if seen == 0 or found.error == 0:
        return 0.0
    tail = (1 - level) / 2
    return found.error / seen * student_quantile(found.freedom, 1 - tail) / NormalDist().inv_cdf(1 - tail)


def satterthwaite(variance: float, parts: list[tuple[float, int]]) -> float:
    """Degrees of freedom of a sum of variances, each (estimate, its own degrees)."""
    doubt = sum(part**2 / freedom for part, freedom in parts if freedom > 0)
    return max(1.0, variance**2 / doubt) if doubt > 0 else 1.0

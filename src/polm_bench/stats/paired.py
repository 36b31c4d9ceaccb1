"""Two methods on the same items: the interval of their difference, and its test."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from polm_bench.stats.bootstrap import Array, Bootstrap
from polm_bench.stats.design import Design, binary, design
from polm_bench.stats.interval import LEVEL, Spread, bounds, satterthwaite, spreads
from polm_bench.stats.student import student_quantile, student_tail


class Difference(NamedTuple):
    """Mean of a paired difference with its interval and the two-sided p-value of 'no difference'."""

    mean: float
    low: float
    high: float
    p: float
    test: str
    """`mcnemar`, `sign-flip`, `seeds` (t-test on the variance over seeds and items), or `t` (on the seeds' figures alone)."""
    items: int
    seeds: int
    error: float = 0.0
    """Standard error of the mean."""
    freedom: float = 1.0
    """Degrees of freedom of the error."""


def paired_difference(
    scores: ArrayLike,
    against: ArrayLike,
    bootstrap: Bootstrap,
    *,
    clusters: ArrayLike | None = None,
    weights: ArrayLike | None = None,
    level: float = LEVEL,
) -> Difference:
    """Mean of `scores - against`, item by item and seed by seed; either may be [N], or [1, N], for all seeds of the other.

    The p-value is exact McNemar's for 0/1 scores of one seed without clusters or weights, a sign-flip permutation's (by cluster) for other
    scores of one seed, and over several seeds a t-test's on the same variance as the interval.
    """
    first, second = np.atleast_2d(np.asarray(scores, float)), np.atleast_2d(np.asarray(against, float))
    gaps = first - second
    shared = design(gaps.shape[1], clusters, weights)
    found = spreads(gaps[None], bootstrap, shared)[0]
    low, high = bounds(found, level)
    zero_one = binary(first) and binary(second)
    if zero_one:
        low, high = max(-1.0, low), min(1.0, high)
    seeds, items = gaps.shape
    if seeds > 1:
        p, test = _t_test(found), "seeds"
    elif shared.plain and zero_one:
        p, test = mcnemar(int((gaps > 0).sum()), int((gaps < 0).sum())), "mcnemar"
    else:
        p, test = sign_flip(found.sums, bootstrap), "sign-flip"
    return Difference(found.mean, low, high, p, test, items, seeds, found.error, found.freedom)


def seed_difference(gaps: Sequence[float], level: float = LEVEL) -> Difference | None:
    """Difference of figures that no item has (a perplexity, a time), one gap a seed, by Student's t; None for fewer than two."""
    seeds = len(gaps)
    if seeds < 2:
        return None
    mean, error = statistics.mean(gaps), statistics.stdev(gaps) / math.sqrt(seeds)  # exact: equal gaps have no spread
    reach = student_quantile(seeds - 1, (1 + level) / 2) * error
    p = student_tail(seeds - 1, mean / error) if error else float(mean == 0)
    return Difference(mean, mean - reach, mean + reach, p, "t", 0, seeds, error, seeds - 1)


def mcnemar(gained: int, lost: int) -> float:
    """Two-sided exact p-value of McNemar's test: under no difference each changed item is a fair coin."""
    changed = gained + lost
    tail = sum(math.comb(changed, k) for k in range(min(gained, lost) + 1))
    return min(1.0, 2 * tail / 2**changed)


def sign_flip(sums: ArrayLike, bootstrap: Bootstrap) -> float:
    """Two-sided p-value of differences summed per cluster [C], under random signs of the clusters.

    Exact where all sign patterns are tried, else (1 + as extreme) / (1 + flips) (Phipson and Smyth 2010).
    """
    gaps = np.asarray(sums, float)
    return float(_sign_flips(np.stack([gaps, np.zeros_like(gaps)]), bootstrap)[0, 1])


def pair_p_values(
    scores: ArrayLike,
    bootstrap: Bootstrap,
    *,
    clusters: ArrayLike | None = None,
    weights: ArrayLike | None = None,
) -> Array:
    """P-values [M, M] of 'no difference' between every two of M methods [M, S, N], by the test that `paired_difference` would take."""
    cube = np.asarray(scores, float)
    methods, seeds, _ = cube.shape
    shared = design(cube.shape[2], clusters, weights)
    if seeds > 1:
        return _t_tests(cube, shared)
    if not shared.plain:
        return _sign_flips(shared.sums(cube[:, 0]), bootstrap)
    zero_one = np.array([binary(matrix) for matrix in cube])
    found = np.ones((methods, methods)) if zero_one.all() else _sign_flips(shared.sums(cube[:, 0]), bootstrap)
    for i, j in zip(*np.triu_indices(methods, 1), strict=True):
        if zero_one[i] and zero_one[j]:
            gaps = cube[i, 0] - cube[j, 0]
            found[i, j] = found[j, i] = mcnemar(int((gaps > 0).sum()), int((gaps < 0).sum()))
    return found


def _sign_flips(sums: Array, bootstrap: Bootstrap) -> Array:
    """`sign_flip` of every two rows of [M, C]: the flipped sum of a difference is the difference of the flipped sums."""
    methods, groups = sums.shape
    tried, extreme = 0, np.zeros((methods, methods), dtype=np.int64)
    bound = np.empty((methods, methods))
    for i in range(methods):
        gaps = sums[i] - sums
        bound[i] = np.abs(gaps.sum(axis=1)) - 1e-9 * np.abs(gaps).sum(axis=1)  # rounding must not lose a tie
    for block in bootstrap.flipped(np.ascontiguousarray(sums.T)):
        tried += len(block)
        for i in range(methods - 1):
            seen = np.abs(block[:, i + 1 :] - block[:, i : i + 1]) >= bound[i, i + 1 :]
            extreme[i, i + 1 :] += seen.sum(axis=0)
    extreme += extreme.T
    found = extreme / tried if tried == 2**groups else (1 + extreme) / (1 + tried)
    return np.where(bound <= 0, 1.0, found)


def _t_test(found: Spread) -> float:
    """Two-sided p-value of a mean of zero."""
    if found.error == 0:
        return 1.0 if found.mean == 0 else 0.0
    return student_tail(found.freedom, found.mean / found.error)


def _t_tests(cube: Array, shared: Design) -> Array:
    """`_t_test` of every two methods of [M, S, N]: the variances that `spreads` takes, from products of all pairs at once."""
    methods, seeds, _ = cube.shape
    groups, total = shared.clusters, shared.total
    average = cube.mean(axis=1)
    seed_means = cube @ shared.weight / total  # [M, S]
    means = seed_means.mean(axis=1)
    rest = (cube - seed_means[:, :, None]) - (average - means[:, None])[:, None]
    items = _squared_gaps(shared.sums(average) - means[:, None] * shared.size) / total**2 * shared.inflation
    observed = _squared_gaps(seed_means - means[:, None]) / (seeds - 1) / seeds
    noise = _squared_gaps(shared.sums(rest).reshape(methods, -1)) / total**2 / (seeds - 1) / seeds * shared.inflation
    found = np.ones((methods, methods))
    for i, j in zip(*np.triu_indices(methods, 1), strict=True):
        parts = [(items[i, j], groups - 1), (observed[i, j], seeds - 1), (noise[i, j], (seeds - 1) * (groups - 1))]
        variance = max(0.0, float(observed[i, j] - noise[i, j])) + float(items[i, j])
        gap = float(means[i] - means[j])
        if variance > 0:
            freedom = satterthwaite(variance, parts)
            found[i, j] = found[j, i] = student_tail(freedom, gap / math.sqrt(variance))
        elif gap != 0:
            found[i, j] = found[j, i] = 0.0
    return found


def _squared_gaps(rows: Array) -> Array:
    """Squared distances [M, M] between rows [M, K]."""
    products = rows @ rows.T
    squares = np.diag(products)
    found = squares[:, None] + squares[None, :] - 2 * products
    return np.where(found < 1e-12 * (squares[:, None] + squares[None, :]), 0.0, found)

"""Intervals, paired tests and corrections for scores of items, over seeds.

Scores are a matrix `[S, N]` (seed, item), or `[N]` for one seed: all seeds answer the same items, so an item's difficulty is shared by the seeds
and more seeds don't average it away. Items that share a source (a passage, an author) share a cluster and are drawn together. A score is the
weighted mean of its items, with one weight per item (bytes, for bits per byte).

All randomness comes from the generator given to `Bootstrap`.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from statistics import NormalDist
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

Array = NDArray[np.float64]

LEVEL = 0.95
RESAMPLES = 2000  # a bound then wobbles by about 3 % of the half width between generators
FLIPS = 9999  # so the smallest p-value is 1e-4
_CELLS = 8_000_000  # numbers held at a time while resampling, 64 MB


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


class Difference(NamedTuple):
    """Mean of a paired difference with its interval and the two-sided p-value of 'no difference'."""

    mean: float
    low: float
    high: float
    p: float
    test: str
    """`mcnemar`, `sign-flip`, or `seeds` (t-test on the variance over seeds and items)."""
    items: int
    seeds: int


class Bootstrap:
    """Draws of clusters with replacement, made once per number of clusters and reused by every score that has as many.

    What is drawn for C clusters depends on the generator and C alone, not on what was asked before.
    """

    def __init__(self, rng: np.random.Generator, resamples: int = RESAMPLES, flips: int = FLIPS) -> None:
        self.resamples = resamples
        self.flips = flips
        self._entropy = int(rng.integers(2**63))
        self._counts: dict[int, list[Array]] = {}

    def means(self, sums: Array, weights: Array) -> Array:
        """Resampled weighted means [B], from each cluster's weighted sum of scores [C] and sum of weights [C]."""
        columns = np.stack([sums, weights], axis=1)
        drawn = np.concatenate([counts @ columns for counts in self._draws(len(sums))])
        return drawn[:, 0] / drawn[:, 1]

    def seed_means(self, effects: Array) -> Array:
        """Means [B] of seed effects [S] drawn with replacement."""
        picks = self._generator(1, len(effects)).integers(len(effects), size=(self.resamples, len(effects)))
        return effects[picks].mean(axis=1)

    def flipped(self, sums: Array) -> Iterator[Array]:
        """Sums under random signs, in blocks; all `2^C` sign patterns where these are fewer than the flips."""
        groups = len(sums)
        if 2**groups <= self.flips:
            patterns = np.arange(2**groups)[:, None] >> np.arange(groups)[None, :]
            yield sums.sum() - 2 * ((patterns & 1) @ sums)
            return
        rng = self._generator(2, groups)
        for rows in _blocks(self.flips, groups):
            bits = np.unpackbits(np.frombuffer(rng.bytes(rows * groups // 8 + 1), dtype=np.uint8), count=rows * groups)
            yield sums.sum() - 2 * (bits.reshape(rows, groups).astype(np.float64) @ sums)

    def _generator(self, use: int, groups: int) -> np.random.Generator:
        return np.random.default_rng([self._entropy, use, groups])

    def _draws(self, groups: int) -> Iterator[Array]:
        """How often each cluster is drawn, [rows, C] per block."""
        if groups not in self._counts:
            rng = self._generator(0, groups)
            blocks = (_draw_counts(rng, rows, groups) for rows in _blocks(self.resamples, groups))
            if self.resamples * groups > _CELLS:
                return blocks
            self._counts[groups] = list(blocks)
        return iter(self._counts[groups])


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
    matrix, found = _spread(scores, bootstrap, clusters, weights)
    low, high = _bounds(found, level)
    if _binary(matrix):
        low, high = max(0.0, low), min(1.0, high)
    if (matrix == matrix[0, 0]).all() and matrix[0, 0] in (0.0, 1.0):
        reach = ((1 - level) / 2) ** (1 / found.clusters)
        low, high = (reach, 1.0) if matrix[0, 0] == 1.0 else (0.0, 1 - reach)
    seeds, items = matrix.shape
    return Interval(found.mean, low, high, items, found.clusters, seeds, found.seed_variance, found.item_variance)


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
    gaps, found = _spread(first - second, bootstrap, clusters, weights)
    low, high = _bounds(found, level)
    binary = _binary(first) and _binary(second)
    if binary:
        low, high = max(-1.0, low), min(1.0, high)
    seeds, items = gaps.shape
    if seeds > 1:
        p, test = _t_test(found), "seeds"
    elif found.clusters == items and found.equal_weights and binary:
        p, test = mcnemar(int((gaps > 0).sum()), int((gaps < 0).sum())), "mcnemar"
    else:
        p, test = sign_flip(found.sums, bootstrap), "sign-flip"
    return Difference(found.mean, low, high, p, test, items, seeds)


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
    bound = abs(gaps.sum()) - 1e-9 * np.abs(gaps).sum()  # rounding must not lose a tie
    if bound <= 0:
        return 1.0
    tried = extreme = 0
    for block in bootstrap.flipped(gaps):
        tried += len(block)
        extreme += int((np.abs(block) >= bound).sum())
    exact = tried == 2 ** len(gaps)
    return extreme / tried if exact else (1 + extreme) / (1 + tried)


def holm(p_values: Sequence[float]) -> list[float]:
    """P-values corrected for their number by Holm's step-down rule (Holm 1979), in the order given."""
    corrected = [0.0] * len(p_values)
    largest = 0.0
    for rank, index in enumerate(sorted(range(len(p_values)), key=p_values.__getitem__)):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[index]))
        corrected[index] = largest
    return corrected


def rank_groups(means: Sequence[float], p_values: ArrayLike, alpha: float = 1 - LEVEL) -> list[int]:
    """Rank of each method: 1 + how many are better beyond doubt. Methods that cannot be told apart share a rank.

    `means`: higher is better. `p_values` [M, M]: corrected p-value of each pair.
    """
    table = np.asarray(p_values, float)
    values = np.asarray(means, float)
    beaten = (values[None, :] > values[:, None]) & (table < alpha)
    return [int(count) + 1 for count in beaten.sum(axis=1)]


class _Spread(NamedTuple):
    mean: float
    replicates: Array  # [B], resampled means
    seed_variance: float
    item_variance: float
    freedom: float  # degrees of freedom of the two variances' sum
    sums: Array  # [C], weighted sum of the seeds' mean scores in each cluster
    clusters: int
    equal_weights: bool


def _spread(
    scores: ArrayLike, bootstrap: Bootstrap, clusters: ArrayLike | None, weights: ArrayLike | None
) -> tuple[Array, _Spread]:
    """Resample clusters of the items' means over seeds, and add resampled effects of the seeds.

    The seeds' own means differ by training and by chance on these items. The second part is already in the items' resampling, so it is
    taken out of the effects before they are drawn (residuals reflated to their estimated variance: Carpenter, Goldstein and Rasbash 2003).
    Degrees of freedom after Satterthwaite (1946).
    """
    matrix = np.atleast_2d(np.asarray(scores, float))
    seeds, items = matrix.shape
    weight = np.ones(items) if weights is None else np.asarray(weights, float)
    members, groups = _members(clusters, items)

    def summed(values: Array) -> Array:
        return np.asarray(np.bincount(members, weight * values, groups), dtype=np.float64)

    size = summed(np.ones(items))
    total = float(size.sum())

    average = matrix.mean(axis=0)
    mean = float(weight @ average / total)
    sums = summed(average)
    drawn = bootstrap.means(sums, size)
    item_variance = float(drawn.var()) * groups / max(groups - 1, 1)
    observed = noise = 0.0
    if seeds > 1:
        seed_means = matrix @ weight / total
        observed = float(seed_means.var(ddof=1)) / seeds
        rest = (matrix - seed_means[:, None]) - (average - mean)
        noise = sum(float((summed(row) ** 2).sum()) for row in rest) / total**2 / (seeds - 1) / seeds
        noise *= groups / max(groups - 1, 1)
        seed_variance = max(0.0, observed - noise)
        if seed_variance > 0:
            drawn = drawn + bootstrap.seed_means((seed_means - mean) * math.sqrt(seed_variance / observed))
    else:
        seed_variance = 0.0
    parts = [(item_variance, groups - 1), (observed, seeds - 1), (noise, (seeds - 1) * (groups - 1))]
    freedom = _satterthwaite(seed_variance + item_variance, parts)
    equal = bool((weight == weight[0]).all())
    return matrix, _Spread(mean, drawn, seed_variance, item_variance, freedom, sums, groups, equal)


def _bounds(found: _Spread, level: float) -> tuple[float, float]:
    """Percentiles of the resampled means, stretched about the mean for few clusters or seeds.

    Resampling few things shows too little variance, and a normal tail is too short for them: the stretch is the ratio of the unbiased to the
    resampled standard error, times that of Student's quantile to the normal one (cf. Hesterberg 2015, section 5.3).
    """
    seen = float(found.replicates.std())
    if seen == 0:
        return found.mean, found.mean
    tail = (1 - level) / 2
    stretch = math.sqrt(found.seed_variance + found.item_variance) / seen
    stretch *= _student_quantile(found.freedom, 1 - tail) / NormalDist().inv_cdf(1 - tail)
    low, high = np.quantile(found.replicates, [tail, 1 - tail])
    return found.mean + stretch * (float(low) - found.mean), found.mean + stretch * (float(high) - found.mean)


def _t_test(found: _Spread) -> float:
    """Two-sided p-value of a mean of zero."""
    from scipy.special import stdtr

    error = math.sqrt(found.seed_variance + found.item_variance)
    if error == 0:
        return 1.0 if found.mean == 0 else 0.0
    return float(2 * stdtr(found.freedom, -abs(found.mean) / error))


def _student_quantile(freedom: float, level: float) -> float:
    """Quantile of Student's t; from 30 degrees of freedom by expansion in their inverse, good to 1e-6."""
    if freedom >= 30:  # spares the import of scipy.special, most of a second
        z = NormalDist().inv_cdf(level)
        first, second = (z**3 + z) / 4, (5 * z**5 + 16 * z**3 + 3 * z) / 96
        third = (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384
        fourth = (79 * z**9 + 776 * z**7 + 1482 * z**5 - 1920 * z**3 - 945 * z) / 92160
        # Abramowitz and Stegun 1964, 26.7.5
        return z + first / freedom + second / freedom**2 + third / freedom**3 + fourth / freedom**4
    from scipy.special import stdtrit  # scipy.stats takes three times as long to import

    return float(stdtrit(freedom, level))


def _satterthwaite(variance: float, parts: list[tuple[float, int]]) -> float:
    doubt = sum(part**2 / freedom for part, freedom in parts if freedom > 0)
    return max(1.0, variance**2 / doubt) if doubt > 0 else 1.0


def _members(clusters: ArrayLike | None, items: int) -> tuple[NDArray[np.intp], int]:
    """Cluster number of each item, and how many clusters there are."""
    if clusters is None:
        return np.arange(items), items
    names, members = np.unique(np.asarray(clusters), return_inverse=True)
    return members.reshape(-1), len(names)


def _binary(scores: Array) -> bool:
    return bool(((scores == 0) | (scores == 1)).all())


def _draw_counts(rng: np.random.Generator, rows: int, groups: int) -> Array:
    picks = rng.integers(groups, size=(rows, groups)) + np.arange(rows)[:, None] * groups
    return np.bincount(picks.ravel(), minlength=rows * groups).reshape(rows, groups).astype(np.float64)


def _blocks(rows: int, columns: int) -> Iterator[int]:
    """Split `rows` so that a block of them holds at most `_CELLS` numbers."""
    step = max(1, _CELLS // columns)
    for start in range(0, rows, step):
        yield min(step, rows - start)

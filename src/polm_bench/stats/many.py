"""Many comparisons at once: corrected p-values, and ranks that say only what is beyond doubt."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike

from polm_bench.stats.interval import LEVEL


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


def benjamini_hochberg(p_values: Sequence[float]) -> list[float]:
    """P-values corrected so that rejecting those below q leaves a share of at most q false ones (Benjamini and Hochberg 1995)."""
    count = len(p_values)
    corrected = [0.0] * count
    smallest = 1.0
    for rank, index in reversed(list(enumerate(sorted(range(count), key=p_values.__getitem__), 1))):
        smallest = min(smallest, p_values[index] * count / rank)
        corrected[index] = smallest
    return corrected


def rank_intervals(means: Sequence[float], p_values: ArrayLike, alpha: float = 1 - LEVEL) -> list[tuple[int, int]]:
    """Best and worst rank of each method that the pairs leave open.

    Mogstad, Romano, Shaikh and Wilhelm 2024 (Inference for ranks), section 3: from 1 + the number of methods that are better beyond doubt to
    M - the number that are worse. All intervals hold together with probability 1 - alpha where `p_values` [M, M] are corrected over all pairs.
    """
    table = np.asarray(p_values, float)
    values = np.asarray(means, float)
    better = ((values[None, :] > values[:, None]) & (table < alpha)).sum(axis=1)
    worse = ((values[None, :] < values[:, None]) & (table < alpha)).sum(axis=1)
    return [(int(above) + 1, len(values) - int(below)) for above, below in zip(better, worse, strict=True)]


def corrected_pairs(p_values: ArrayLike) -> np.ndarray[tuple[int, int], np.dtype[np.float64]]:
    """A symmetric table [M, M] of p-values, Holm-corrected over its pairs."""
    table = np.asarray(p_values, float)
    upper = np.triu_indices(len(table), 1)
    found = np.ones_like(table)
    found[upper] = holm([float(p) for p in table[upper]])
    return np.minimum(found, found.T)

"""Where the variance of a method's score comes from: the seed of its training, the item, chance in decoding."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from polm_bench.stats.design import design
from polm_bench.stats.planner import components, pulls


class Split(NamedTuple):
    """Variance of the score of one item at one training seed and one decoding, in the score's unit squared; None: not told apart from another."""

    seed: float | None  # between training seeds, over all items; None for one training seed
    item: float  # between clusters of items; of one training seed with `both`
    both: float | None  # of what one training gets right and another doesn't; at one decoding with `decoding`
    decoding: float | None  # between answers of one model to one item; None for one decoding


def split(scores: ArrayLike, *, clusters: ArrayLike | None = None, weights: ArrayLike | None = None) -> Split:
    """Split of the variance of scores [S, D, N] (training seed, decoding, item), whose D decodings are independent draws within seed and item.

    decoding = mean square within seed and cluster; the rest is the two-way layout of the means over decodings, of whose remainder and, at one
    seed, of whose variance between clusters, decoding / D is chance (Searle, Casella and McCulloch 1992, section 4.7). None is below zero.
    Raises ValueError for fewer than two clusters.
    """
    cube = np.asarray(scores, float)
    seeds, decodings, _ = cube.shape
    shared = design(cube.shape[2], clusters, weights)
    if shared.clusters < 2:
        raise ValueError(f"a split of variance needs two clusters or more, not {shared.clusters}")
    table = pulls(cube, shared)  # [S, D, C]
    decoding = float(table.var(axis=1, ddof=1).mean()) if decodings > 1 else None
    chance = (decoding or 0.0) / decodings
    if seeds == 1:
        between = float(table.mean(axis=(0, 1)).var(ddof=1))
        return Split(None, max(0.0, between - chance), None, decoding)
    found = components(cube.mean(axis=1), clusters=clusters, weights=weights)
    return Split(found.seed, found.item, max(0.0, found.rest - chance), decoding)

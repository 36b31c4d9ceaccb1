"""How sure it is which of several methods is best."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike

from polm_bench.stats.bootstrap import Bootstrap
from polm_bench.stats.design import design
from polm_bench.stats.interval import LEVEL, spreads, stretch


def chance_of_best(
    scores: Sequence[ArrayLike],
    bootstrap: Bootstrap,
    *,
    clusters: ArrayLike | None = None,
    weights: ArrayLike | None = None,
) -> list[float]:
    """Share of the resampled worlds in which each method has the highest mean; ties are shared, so the chances sum to 1.

    One matrix of scores [S, N] or [N] a method, on the same items; the number of seeds may differ. In each world all methods meet the same
    items and, where they have as many, the same seeds. What is hard or lucky for all of them alike says nothing of which is best, so it is taken
    out first; what is left is drawn apart as `bounds` draws it.
    """
    matrices = [np.atleast_2d(np.asarray(one, float)) for one in scores]
    shared = design(matrices[0].shape[1], clusters, weights)
    alike = len({len(matrix) for matrix in matrices}) == 1
    common = np.mean(matrices if alike else [matrix.mean(axis=0) for matrix in matrices], axis=0)
    worlds = []
    for matrix in (one - common for one in matrices):
        found = spreads(matrix[None], bootstrap, shared)[0]
        worlds.append(found.mean + stretch(found, LEVEL) * (found.replicates - found.mean))
    drawn = np.stack(worlds)  # [M, B]
    best = np.isclose(drawn, drawn.max(axis=0), rtol=0, atol=1e-12)
    return [float(chance) for chance in (best / best.sum(axis=0)).mean(axis=1)]

"""Many tasks in one figure, as rliable defines them: scores are a matrix [runs, tasks].

Agarwal et al. 2021 (Deep Reinforcement Learning at the Edge of the Statistical Precipice), sections 4.2 and 4.3. Both figures also take a stack
of matrices [..., runs, tasks] and then return one value each.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from polm_bench.stats.bootstrap import Array
from polm_bench.stats.interval import LEVEL

REPETITIONS = 2000


class Aggregate(NamedTuple):
    """A figure over tasks with its interval over runs; one run alone has none."""

    value: float
    low: float | None
    high: float | None


def iqm(scores: ArrayLike) -> Array:
    """Interquartile mean: of all runs of all tasks [R, T], the middle half. Scores of the tasks must share a scale.

    As scipy.stats.trim_mean does, floor(0.25 * R * T) scores are dropped at either end.
    """
    values = np.asarray(scores, float)
    flat = np.sort(values.reshape(*values.shape[:-2], -1), axis=-1)
    cut = int(0.25 * flat.shape[-1])
    return np.asarray(flat[..., cut : flat.shape[-1] - cut].mean(axis=-1))


def probability_of_improvement(scores: ArrayLike, against: ArrayLike) -> Array:
    """Chance that a run of the first [R, T] beats a run of the second [Q, T], averaged over tasks; ties count half.

    Per task it is the Mann-Whitney statistic over R * Q.
    """
    first, second = np.asarray(scores, float), np.asarray(against, float)
    gaps = first[..., :, None, :] - second[..., None, :, :]
    return np.asarray(((gaps > 0) + 0.5 * (gaps == 0)).mean(axis=(-3, -2, -1)))


def over_runs(
    statistic: Callable[..., Array],
    *scores: ArrayLike,
    rng: np.random.Generator,
    repetitions: int = REPETITIONS,
    level: float = LEVEL,
) -> Aggregate:
    """A statistic of one or two matrices [R, T] with its percentile interval: runs are drawn within each task (stratified bootstrap)."""
    matrices = [np.asarray(one, float) for one in scores]
    value = float(statistic(*matrices))
    if all(len(matrix) == 1 for matrix in matrices):
        return Aggregate(value, None, None)
    drawn = statistic(*(_redrawn(one, rng, repetitions) for one in matrices))
    low, high = np.quantile(drawn, [(1 - level) / 2, (1 + level) / 2])
    return Aggregate(value, float(low), float(high))


def _redrawn(scores: Array, rng: np.random.Generator, repetitions: int) -> Array:
    runs, tasks = scores.shape
    return np.asarray(scores[rng.integers(runs, size=(repetitions, runs, tasks)), np.arange(tasks)])

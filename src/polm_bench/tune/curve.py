"""How good the best of k trials is: what tuning buys."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple


class After(NamedTuple):
    """The best after k trials."""

    trials: int
    best: float | None  # of the first k as they came; None where all of them failed
    expected: float | None  # of k drawn at random from all
    spread: float | None  # standard deviation of that


def best_after(values: Sequence[float | None]) -> list[After]:
    """The curve over trials in order, higher is better; None is a trial that failed, which is worse than any other.

    Expected validation performance (Dodge et al. 2019, arXiv:1909.03004, Eq. 8): with the n scores sorted, v_1 <= ... <= v_n,
    E[best of k] = sum_i v_i ((i/n)^k - ((i-1)/n)^k), which takes trials as drawn independently: a sampler that learns does better than that.
    A failed trial counts as the worst score seen.
    """
    known = [value for value in values if value is not None]
    if not known:
        return [After(k, None, None, None) for k in range(1, len(values) + 1)]
    ordered = sorted(min(known) if value is None else value for value in values)
    count, made = len(ordered), []
    for k in range(1, count + 1):
        chances = [((i + 1) / count) ** k - (i / count) ** k for i in range(count)]
        mean = math.fsum(chance * value for chance, value in zip(chances, ordered, strict=True))
        square = math.fsum(chance * (value - mean) ** 2 for chance, value in zip(chances, ordered, strict=True))
        seen = [value for value in values[:k] if value is not None]
        made.append(After(k, max(seen) if seen else None, mean, math.sqrt(square)))
    return made

"""Equivalence: whether a difference is too small to matter, by two one-sided tests."""

from __future__ import annotations

import math
from typing import Literal, NamedTuple

from polm_bench.stats.student import student_tail

Verdict = Literal["same", "different", "cannot tell"]


class Equivalence(NamedTuple):
    """What two one-sided tests say of a difference."""

    verdict: Verdict
    p_same: float  # of 'the difference is at least the margin'
    p_different: float  # of 'no difference'


def equivalence(
    difference: float, error: float, margin: float, freedom: float = math.inf, alpha: float = 0.05
) -> Equivalence:
    """Whether a difference with this standard error lies within +-margin (Schuirmann 1987).

    `same`: both one-sided tests reject, which is to say that the 1 - 2 alpha interval lies inside the margin; a difference may then be seen
    beyond doubt and still be too small to matter. Otherwise `different` where a two-sided test at alpha sees one, else `cannot tell`.
    """
    if margin < 0 or error < 0:
        raise ValueError(f"a margin and a standard error are 0 or more, not {margin} and {error}")
    p_same = max(_above(difference + margin, error, freedom), _above(margin - difference, error, freedom))
    p_different = 2 * min(_above(difference, error, freedom), _above(-difference, error, freedom))
    if p_same < alpha:
        return Equivalence("same", p_same, min(1.0, p_different))
    return Equivalence("different" if p_different < alpha else "cannot tell", p_same, min(1.0, p_different))


def _above(value: float, error: float, freedom: float) -> float:
    """One-sided p-value of 'the true value is at most zero'."""
    if error == 0:
        return 0.0 if value > 0 else 1.0
    half = student_tail(freedom, value / error) / 2
    return half if value >= 0 else 1 - half

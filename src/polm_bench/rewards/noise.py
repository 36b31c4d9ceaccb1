"""How far a judge is to be trusted, and what that does to a rate that it measured."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from polm_bench.rewards.judge import BothOrders


class Trust(NamedTuple):
    """A judge against people's labels on N pairs."""

    agreement: list[float]
    """Per pair: 1 where it prefers what people prefer, 0 where not, 1/2 for a tie."""
    flips: list[float]
    """Per pair: 1 where its verdict depends on which answer is shown first, else 0."""
    shares: list[float]
    """Per pair: its share for what people prefer, the mean of both orders."""

    def rate(self) -> float:
        return sum(self.agreement) / len(self.agreement)


class Rate(NamedTuple):
    """A share and its standard error."""

    value: float
    stderr: float


def trust(orders: BothOrders, rows: Sequence[Mapping[str, Any]]) -> Trust:
    """The judge on rows of the role `preference`."""
    both = orders(rows, [row["chosen"] for row in rows], [row["rejected"] for row in rows])
    shares = [(there + back) / 2 for there, back in both]
    return Trust(
        [0.5 if share == 0.5 else float(share > 0.5) for share in shares],
        [float((there > 0.5) != (back > 0.5)) for there, back in both],
        shares,
    )


def corrected(won: Rate, agreement: float, labels: int) -> Rate | None:
    """The rate that people would have told, from the one that a judge told who agrees with them on a share of `labels` pairs.

    Rogan and Gladen 1978 (Am. J. Epidemiology 107), with one error for both verdicts: w = (w_judge + a - 1) / (2 a - 1). The standard error has the
    sampling of the answers and of the labels in it (delta method): var(w) = [var(w_judge) + (1 - 2 w)^2 * a (1 - a) / labels] / (2 a - 1)^2.
    None for a judge that is no better than a coin.
    """
    apart = 2 * agreement - 1
    if apart <= 0:
        return None
    value = (won.value + agreement - 1) / apart
    variance = won.stderr**2 + (1 - 2 * value) ** 2 * agreement * (1 - agreement) / labels
    return Rate(min(1.0, max(0.0, value)), math.sqrt(variance) / apart)

"""What moved along training, from the curves that records carry, and how often answers win against those of the start."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import NamedTuple

import numpy as np

from polm_bench.report import words
from polm_bench.report.items import Evaluation, align
from polm_bench.report.measure import bootstrap
from polm_bench.report.parts import Block, Row
from polm_bench.stats import LEVEL, mean_interval

Curve = Sequence[Mapping[str, float]]

CHANGES = {"logp_chosen": "log-prob of chosen, nats", "logp_rejected": "... of rejected"}
"""Values whose change from the first to the last point is told: of a batch of training pairs."""
ENDS = {
    "reward": "reward learned from",
    "gold": "gold reward",
    "kl": "nats from the reference",
    "answer_tokens": "tokens of an answer",
}
"""Values that are told at the first and at the last point: of the answers drawn for a step."""


class Ends(NamedTuple):
    """First and last value of a curve, means over the seeds that have it."""

    first: float
    last: float


class Wins(NamedTuple):
    """Share of a row's answers that are better than the start's to the same prompt, ties half, with its 95 % interval."""

    share: float
    low: float
    high: float


def ends(evaluations: Sequence[Evaluation], name: str) -> Ends | None:
    """Where the last curve with a value of this name begins and ends, in each record."""
    told = [curve for one in evaluations if (curve := _last(one, name))]
    if not told:
        return None
    first, last = (sum(curve[at][name] for curve in told) / len(told) for at in (0, -1))
    return Ends(first, last)


def _last(one: Evaluation, name: str) -> Curve | None:
    """The last stage's curve with such values; of a method in rounds, the last round's."""
    found = [curve["points"] for curve in one.record.data.get("curves", ())]
    return next((points for points in reversed(found) if points and all(name in point for point in points)), None)


@lru_cache(maxsize=256)
def wins(evaluations: tuple[Evaluation, ...], column: str, sign: int) -> Wins | None:
    """How often the item scores of a column are better than those of the model that a method starts from.

    None where there is no such model, or the two were not asked the same. Bootstrap over seeds, then clusters of items.
    """
    pairs = [(one, Evaluation(one.record, "start")) for one in evaluations]
    flat = [each.items(column) for pair in pairs if pair[1].key not in ("", pair[0].key) for each in pair]
    known = [items for items in flat if items is not None]
    if not known or len(known) < len(flat):
        return None
    side = align(known)
    if not side.scores.shape[1]:
        return None
    gaps = sign * (side.scores[0::2] - side.scores[1::2])
    found = mean_interval(
        (np.sign(gaps) + 1) / 2, bootstrap(), clusters=side.clusters, weights=side.weights, level=LEVEL
    )
    return Wins(found.mean, max(0.0, found.low), min(1.0, found.high))


def shown(rows: Sequence[Row]) -> list[str]:
    """Values that some row has."""
    return [name for name in CHANGES | ENDS if any(ends(row.evaluations, name) for row in rows if row.records)]


def head(names: Sequence[str], column: str | None) -> list[str]:
    """Heads of the values, and of the wins by a column's scores where they are asked for."""
    return [f"wins against the start ({column})"] * (column is not None) + [(CHANGES | ENDS)[name] for name in names]


def line(row: Row, block: Block, names: Sequence[str], column: str | None) -> list[str] | None:
    """A row's texts under `head`; None for a row that has nothing to tell."""
    if not row.records:
        return None
    texts = [_text(name, ends(row.evaluations, name)) for name in names]
    if column is not None:
        won = wins(row.evaluations, column, sign_of(block, column))
        texts.insert(0, f"{words.number(won.share)} {words.interval(won.low, won.high)}" if won else "")
    return texts if any(texts) else None


def figures(row: Row, block: Block, names: Sequence[str], column: str | None) -> dict[str, float]:
    """The same as numbers, for CSV."""
    found: dict[str, float] = {}
    for name in names if row.records else ():
        if told := ends(row.evaluations, name):
            found |= {f"{name}.first": told.first, f"{name}.last": told.last}
    if column is not None and row.records and (won := wins(row.evaluations, column, sign_of(block, column))):
        found |= {"wins": won.share, "wins.low": won.low, "wins.high": won.high}
    return found


def sign_of(block: Block, column: str) -> int:
    return next((one.sign for one in block.columns if one.name == column), 1)


def _text(name: str, found: Ends | None) -> str:
    if found is None:
        return ""
    if name in CHANGES:
        return words.number(found.last - found.first, True)
    return f"{words.number(found.first)} → {words.number(found.last)}"


LEGEND = (
    "Along training: of the last stage that trained. Log-probs: change of a batch's mean from the first to the last point, of the answers that are "
    "learned from; a falling one of chosen answers is displacement. Rewards, divergence and length: of the answers drawn for the first and the last "
    "step, the reward that is learned from beside the gold one where a run watched it. Means over seeds. "
    "Wins: share of items on which the method scores better than the model it starts from, ties half, with its 95 % interval by bootstrap over "
    "seeds and items; the judge is the task's own score, which has no noise of its own (`polm-bench table frontier` has a judge's)."
)

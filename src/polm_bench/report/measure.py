"""A score of one row with its interval, and its paired difference from another row."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from polm_bench.report.items import Evaluation, align
from polm_bench.stats import LEVEL, Bootstrap, Difference, mean_interval, paired_difference, seed_difference

NORMAL_QUANTILE = 1.959964  # of 0.975


class Figure(NamedTuple):
    """A score over its seeds. `low` and `high` are None where one seed stands alone and neither its items nor a standard error are known."""

    value: float
    low: float | None
    high: float | None
    items: int
    seeds: int


def bootstrap() -> Bootstrap:
    """Draws for one report; always the same ones, so that equal records give equal reports."""
    return Bootstrap(np.random.default_rng(0))


def figure(evaluations: Sequence[Evaluation], column: str, draws: Bootstrap) -> Figure | None:
    """Mean over seeds and items with its 95 % interval; None when no evaluation has the column.

    A figure of the whole set, which no item has, gets Student's interval over its seeds.
    """
    found = distinct([one for one in evaluations if column in one.scores])
    if not found:
        return None
    values = [one.scores[column]["value"] for one in found]
    items = [one.items(column) for one in found]
    if all(is_mean(one, column) for one in found):
        side = align([one for one in items if one is not None])
        if side.scores.shape[1]:
            known = mean_interval(side.scores, draws, clusters=side.clusters, weights=side.weights, level=LEVEL)
            return Figure(known.mean, known.low, known.high, known.items, known.seeds)
    count = int(found[0].scores[column].get("n") or 0)
    if over := seed_difference(values, LEVEL):
        return Figure(over.mean, over.low, over.high, count, len(found))
    stderr = found[0].scores[column].get("stderr")
    if stderr is None:
        return Figure(values[0], None, None, count, 1)
    reach = NORMAL_QUANTILE * stderr
    return Figure(values[0], values[0] - reach, values[0] + reach, count, 1)


class Gap(NamedTuple):
    """A paired difference, and what could not be paired."""

    found: Difference
    left_out: int  # items that only one of the two has
    other_prompts: int  # items whose prompts differ between the two


def gap(pairs: Sequence[tuple[Evaluation, Evaluation]], column: str, draws: Bootstrap) -> Gap | None:
    """Difference of each pair's first from its second, one pair a seed, by item; None where there is nothing to tell an error from.

    Seeds that compare the same two evaluations count once. Figures of the whole set, which no item has, are compared by their seeds alone, and
    that takes two of them.
    """
    seen = {(first.key, second.key): (first, second) for first, second in pairs}
    known = [pair for pair in seen.values() if all(column in one.scores for one in pair)]
    usable = [pair for pair in known if all(is_mean(one, column) for one in pair)]
    if not usable:
        found = seed_difference(
            [first.scores[column]["value"] - second.scores[column]["value"] for first, second in known]
        )
        return Gap(found, 0, 0) if found else None
    flat = [items for pair in usable for one in pair if (items := one.items(column)) is not None]
    side = align(flat)
    if not side.scores.shape[1]:
        return None
    first, second = side.scores[0::2], side.scores[1::2]
    difference = paired_difference(first, second, draws, clusters=side.clusters, weights=side.weights, level=LEVEL)
    return Gap(difference, side.left_out, side.other_prompts)


def distinct(evaluations: Sequence[Evaluation]) -> list[Evaluation]:
    """Evaluations with different keys: the base of three seeds is one model, evaluated once."""
    return list({one.key or id(one): one for one in evaluations}.values())


def is_mean(one: Evaluation, column: str) -> bool:
    """Whether the score is the weighted mean of its items, as resampling assumes; a perplexity is not."""
    items = one.items(column)
    if items is None or not len(items.ids):
        return False
    mean = float(np.average(items.scores, weights=items.weights))
    return math.isclose(mean, one.scores[column]["value"], rel_tol=1e-6, abs_tol=1e-9)

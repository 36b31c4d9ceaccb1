"""Rows beside each other: ranks, the Pareto front, and the correction for the number of comparisons."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from polm_bench.report.items import Evaluation, align
from polm_bench.report.measure import figure, gap, is_mean
from polm_bench.report.parts import Block, Column, Entry, Row
from polm_bench.stats import Bootstrap, benjamini_hochberg, corrected_pairs, holm, pair_p_values, rank_intervals

Ranks = dict[str, tuple[int, int]]


def ranks(entries: Sequence[Entry], column: Column, draws: Bootstrap) -> Ranks:
    """Best and worst rank of the entries that have the score; those whose every cell failed come after all of them.

    One entry beats another by a paired difference that is significant after Holm's correction over the column's pairs.
    """
    scored = {
        entry.name: (entry, found.value)
        for entry in entries
        if (found := figure(entry.evaluations, column.name, draws))
    }
    rivals = [entry for entry, _ in scored.values()]
    raw = _p_values(rivals, column.name, draws)
    if len(rivals) > 1 and np.isnan(raw[np.triu_indices(len(rivals), 1)]).all():
        return {}  # a figure of the whole set: nothing tells its rows apart
    table = corrected_pairs(np.where(np.isnan(raw), 1.0, raw))
    order = rank_intervals([column.sign * value for _, value in scored.values()], table) if scored else []
    failed = [entry.name for entry in entries if entry.records and not entry.evaluations]
    last = (len(scored) + 1, len(scored) + len(failed))
    return dict(zip(scored, order, strict=True)) | dict.fromkeys(failed, last)


def _p_values(
    rivals: Sequence[Entry], column: str, draws: Bootstrap
) -> np.ndarray[tuple[int, int], np.dtype[np.float64]]:
    """P-value of every two entries' difference, not a number where there is none to test.

    Entries that answered the same items at the same seeds are tested all at once, the others pair by pair.
    """
    found = np.full((len(rivals), len(rivals)), np.nan)
    usual = _usual_seeds(rivals)
    once = [place for place, entry in enumerate(rivals) if seedless(entry) and _has_items(entry, column)]
    often = [place for place, entry in enumerate(rivals) if _seeds(entry) == usual and _has_items(entry, column)]
    often = [place for place in often if place not in once]
    done = set()
    for group, seeds in ((once, 1), ([*once, *often], len(usual))) if often else ((once, 1),):
        side = (
            align([items for place in group for one in rivals[place].evaluations if (items := one.items(column))])
            if group
            else None
        )
        if side is None or side.left_out or len(group) < 2:
            continue
        matrices = _matrices([rivals[place] for place in group], column, seeds)
        part = pair_p_values(matrices, draws, clusters=side.clusters, weights=side.weights)
        for i, first in enumerate(group):
            for j, second in enumerate(group):
                if i != j and (first, second) not in done:
                    found[first, second] = part[i, j]
                    done.add((first, second))
    for i in range(len(rivals)):
        for j in range(i):
            if (i, j) not in done:
                p = _pair_p(rivals[i], rivals[j], column, draws)
                found[i, j] = found[j, i] = np.nan if p is None else p
    return found


def _matrices(
    entries: Sequence[Entry], column: str, seeds: int
) -> np.ndarray[tuple[int, int, int], np.dtype[np.float64]]:
    """Scores [M, S, N]; what no seed changes stands beside every seed."""
    rows = []
    for entry in entries:
        chosen = entry.evaluations[:1] if seedless(entry) else sorted(entry.evaluations, key=lambda one: one.seed)
        scores = np.stack([items.scores for one in chosen if (items := one.items(column))])
        rows.append(np.broadcast_to(scores, (seeds, scores.shape[1])))
    return np.stack(rows)


def _usual_seeds(rivals: Sequence[Entry]) -> tuple[int, ...]:
    """The seeds that most entries have."""
    known = [_seeds(entry) for entry in rivals if not seedless(entry)]
    return max(sorted(set(known)), key=known.count, default=())


def _seeds(entry: Entry) -> tuple[int, ...]:
    return tuple(sorted(one.seed for one in entry.evaluations))


def _has_items(entry: Entry, column: str) -> bool:
    return all(column in one.scores and is_mean(one, column) for one in entry.evaluations)


def _pair_p(first: Entry, second: Entry, column: str, draws: Bootstrap) -> float | None:
    """P-value of two entries' difference, seed by seed; a model that no seed changes stands beside every seed of the other."""
    left = {one.seed: one for one in first.evaluations}
    right = {one.seed: one for one in second.evaluations}
    if seedless(second):
        right = dict.fromkeys(left, second.evaluations[0])
    elif seedless(first):
        left = dict.fromkeys(right, first.evaluations[0])
    pairs: list[tuple[Evaluation, Evaluation]] = [
        (left[seed], right[seed]) for seed in sorted(left.keys() & right.keys())
    ]
    found = gap(pairs, column, draws)
    return found.found.p if found else None


def seedless(entry: Entry) -> bool:
    """Whether these are evaluations of one model that is the same for every seed, as the base is."""
    keys = {one.key for one in entry.evaluations}
    if len(keys) != 1:
        return False
    one = entry.evaluations[0]
    return len(entry.evaluations) > 1 or one.key == one.record.data["rows"].get("base")


def mark_front(rows: Sequence[Row], columns: Sequence[Column], against: str) -> None:
    """Mark, per column, the rows that no other row equals at a lower cost or beats at no higher one."""
    for column in columns:
        points = {
            row.name: (cost, column.sign * row.measures[column.name].value)
            for row in rows
            if column.name in row.measures and (cost := row.costs.get(against)) is not None
        }
        for row in rows:
            if row.name in points:
                row.measures[column.name] = replace(row.measures[column.name], front=_on_front(row.name, points))


def _on_front(name: str, points: dict[str, tuple[float, float]]) -> bool:
    cost, value = points[name]
    return not any(c <= cost and v >= value and (c, v) != (cost, value) for c, v in points.values())


def correct(blocks: Sequence[Block]) -> None:
    """Holm's and Benjamini and Hochberg's corrections over every difference from the base in the table."""
    rows = [row for block in blocks for row in block.rows]
    found = [
        (row, name, measure.difference.p)
        for row in rows
        for name, measure in row.measures.items()
        if measure.difference is not None
    ]
    raw = [p for *_, p in found]
    for (row, name, _), holms, share in zip(found, holm(raw), benjamini_hochberg(raw), strict=True):
        row.measures[name] = replace(row.measures[name], p_holm=holms, p_bh=share)

"""Rows beside each other: rank groups, the Pareto front, and the correction for the number of comparisons."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from polm_bench.report.measure import figure, gap
from polm_bench.report.parts import Block, Column, Entry, Row
from polm_bench.stats import Bootstrap, holm, rank_groups


def ranks(entries: Sequence[Entry], column: Column, draws: Bootstrap) -> dict[str, int]:
    """Rank groups of the entries that have the score; those whose every cell failed come after all of them.

    An entry's rank is 1 + how many beat it by a paired difference that is significant after Holm's correction over the column's pairs.
    """
    scored = {
        entry.name: (entry, found.value)
        for entry in entries
        if (found := figure(entry.evaluations, column.name, draws))
    }
    rivals = [entry for entry, _ in scored.values()]
    pairs = [(i, j) for i in range(len(rivals)) for j in range(i)]
    raw = [_pair_p(rivals[i], rivals[j], column.name, draws) for i, j in pairs]
    if pairs and all(p is None for p in raw):
        return {}  # a figure of the whole set: nothing tells its rows apart
    p_values = holm([1.0 if p is None else p for p in raw])
    table = [[1.0] * len(rivals) for _ in rivals]
    for (i, j), p in zip(pairs, p_values, strict=True):
        table[i][j] = table[j][i] = p
    order = rank_groups([column.sign * value for _, value in scored.values()], table) if scored else []
    failed = [entry.name for entry in entries if entry.records and not entry.evaluations]
    return dict(zip(scored, order, strict=True)) | dict.fromkeys(failed, len(scored) + 1)


def _pair_p(first: Entry, second: Entry, column: str, draws: Bootstrap) -> float | None:
    """P-value of two entries' difference, seed by seed; a model that no seed changes stands beside every seed of the other."""
    left = {one.seed: one for one in first.evaluations}
    right = {one.seed: one for one in second.evaluations}
    if _seedless(second):
        right = dict.fromkeys(left, second.evaluations[0])
    elif _seedless(first):
        left = dict.fromkeys(right, first.evaluations[0])
    found = gap([(left[seed], right[seed]) for seed in sorted(left.keys() & right.keys())], column, draws)
    return found.found.p if found else None


def _seedless(entry: Entry) -> bool:
    """Whether these are evaluations of the base model, which is the same for every seed."""
    return bool(entry.evaluations) and all(one.key == one.record.data["rows"].get("base") for one in entry.evaluations)


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
    """Holm's correction over every difference from the base in the table."""
    rows = [row for block in blocks for row in block.rows]
    found = [
        (row, name, measure.difference.p)
        for row in rows
        for name, measure in row.measures.items()
        if measure.difference is not None
    ]
    for (row, name, _), p in zip(found, holm([p for *_, p in found]), strict=True):
        row.measures[name] = replace(row.measures[name], p_holm=p)

"""Rows beside each other: rank groups, the Pareto front, and the correction for the number of comparisons."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from polm_bench.report.measure import figure, gap
from polm_bench.report.parts import Block, Column, Entry, Row
from polm_bench.stats import Bootstrap, holm, rank_groups


def ranks(entries: Sequence[Entry], column: Column, draws: Bootstrap) -> dict[str, int]:
    """Rank groups of the entries that have the score; those whose every cell failed come after all of them.

    Two entries share a rank unless their paired difference, Holm-corrected over the column's pairs, tells them apart.
    """
    scored = {
        entry.name: (entry, found.value)
        for entry in entries
        if (found := figure(entry.evaluations, column.name, draws))
    }
    rivals = [entry for entry, _ in scored.values()]
    pairs = [(i, j) for i in range(len(rivals)) for j in range(i)]
    p_values = holm([_pair_p(rivals[i], rivals[j], column.name, draws) for i, j in pairs])
    table = [[1.0] * len(rivals) for _ in rivals]
    for (i, j), p in zip(pairs, p_values, strict=True):
        table[i][j] = table[j][i] = p
    order = rank_groups([column.sign * value for _, value in scored.values()], table) if scored else []
    failed = [entry.name for entry in entries if entry.records and not entry.evaluations]
    return dict(zip(scored, order, strict=True)) | dict.fromkeys(failed, len(scored) + 1)


def _pair_p(first: Entry, second: Entry, column: str, draws: Bootstrap) -> float:
    """P-value of two entries' difference, seed by seed; a model that no seed changes stands beside every seed of the other."""
    left = {one.seed: one for one in first.evaluations}
    right = {one.seed: one for one in second.evaluations}
    if len({one.key for one in right.values()}) == 1:
        right = dict.fromkeys(left, next(iter(right.values())))
    elif len({one.key for one in left.values()}) == 1:
        left = dict.fromkeys(right, next(iter(left.values())))
    found = gap([(left[seed], right[seed]) for seed in sorted(left.keys() & right.keys())], column, draws)
    return found.found.p if found else 1.0


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

"""All tasks in one figure per method."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from polm_bench.report.items import Evaluation
from polm_bench.report.parts import Column, Entry
from polm_bench.stats import Aggregate, iqm, over_runs, probability_of_improvement


@dataclass(frozen=True)
class Overall:
    """A row over all of a block's tasks, with intervals over its seeds."""

    middle: Aggregate | None  # interquartile mean of the scores that are proportions
    improves: Aggregate | None  # chance to beat the base on a task


def overall(entries: Sequence[Entry], columns: Sequence[Column]) -> tuple[dict[str, Overall], list[str]]:
    """Figures of the entries that have every column, by name; and the columns that are proportions, which alone share a scale."""
    runs = {entry.name: found for entry in entries if (found := _runs(entry.evaluations, columns)) is not None}
    base = next((found for entry in entries if (found := _runs(_bases(entry), columns)) is not None), None)
    scored = [one for entry in entries if entry.name in runs for one in entry.evaluations]
    scale = [i for i, column in enumerate(columns) if column.higher_is_better and _proportion(scored, column.name)]
    figures: dict[str, Overall] = {}
    for name, scores in runs.items():
        rng = np.random.default_rng(0)
        middle = over_runs(iqm, scores[:, scale], rng=rng) if scale else None
        signed = scores * [column.sign for column in columns]
        improves = None
        if base is not None and not (len(scores) == 1 and np.array_equal(scores, base)):
            improves = over_runs(probability_of_improvement, signed, base * [c.sign for c in columns], rng=rng)
        figures[name] = Overall(middle, improves)
    return figures, [columns[i].name for i in scale]


def _runs(
    evaluations: Sequence[Evaluation], columns: Sequence[Column]
) -> np.ndarray[tuple[int, int], np.dtype[np.float64]] | None:
    """Scores [R, T], a run per model; None where one is missing."""
    distinct = {one.key: one.scores for one in evaluations}
    if not distinct or any(column.name not in scores for scores in distinct.values() for column in columns):
        return None
    return np.array([[scores[column.name]["value"] for column in columns] for scores in distinct.values()])


def _bases(entry: Entry) -> list[Evaluation]:
    return [Evaluation(one.record, "base") for one in entry.evaluations if "base" in one.record.data["rows"]]


def _proportion(evaluations: Sequence[Evaluation], column: str) -> bool:
    """Whether every item's score lies between 0 and 1; a mean reward may do so by chance."""
    items = [one.items(column) for one in evaluations]
    return bool(items) and all(one is not None and bool(((one.scores >= 0) & (one.scores <= 1)).all()) for one in items)

"""Scores of single items, by column of a table, and methods laid side by side item by item."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache, reduce
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from polm_bench.errors import StoreError
from polm_bench.report.records import Record
from polm_bench.report.slim import asked_of, read_own

PLAIN_FILTERS = ("none", "strict-match")
"""lm-eval filters that a column's name leaves out, as the items do."""

TEXTS = ("task", "item", "cluster", "prompt_hash", "metric")
_COLUMNS = (*TEXTS, "score", "weight")


def column_of(score: dict[str, Any]) -> str:
    """Name of a score's column: `task/metric`, and `,filter` where it is another than the plain one."""
    chosen = score.get("filter") or "none"
    return f"{score['task']}/{score['metric']}" + ("" if chosen in PLAIN_FILTERS else f",{chosen}")


class Items(NamedTuple):
    """Items of one column, in order of their ids; all arrays [N]."""

    ids: NDArray[np.object_]
    clusters: NDArray[np.object_]
    prompts: NDArray[np.object_]  # hash of the prompt
    scores: NDArray[np.float64]
    weights: NDArray[np.float64]
    lines: NDArray[np.intp]  # line of the table that was read, to look up the output


@dataclass(frozen=True)
class Evaluation:
    """A row of a record: one model's answers to the suite."""

    record: Record
    row: str

    @property
    def key(self) -> str:
        return self.record.data["rows"].get(self.row, "")

    @property
    def seed(self) -> int:
        return self.record.cell["seed"]

    @cached_property
    def scores(self) -> dict[str, dict[str, Any]]:
        """The record's scores of this row by column."""
        return {column_of(score): score for score in self.record.scores if score["row"] == self.row}

    def items(self, column: str) -> Items | None:
        """Items of a column; None for a score that has none (a figure of the whole set, such as distinct word pairs)."""
        path = self.record.items_path(self.row)
        return None if path is None else read_items(path).get(column)


class _Asked(NamedTuple):
    """One column's lines in a file, in order of their items' ids."""

    ids: NDArray[np.object_]
    clusters: NDArray[np.object_]
    prompts: NDArray[np.object_]
    weights: NDArray[np.float64]
    lines: NDArray[np.intp]


@lru_cache(maxsize=1024)
def read_items(path: Path) -> dict[str, Items]:
    """Items of a parquet file by column. Files are named by content, so one that was read needn't be read again."""
    own = read_own(path, _COLUMNS)
    asked = _layout(own, path) if (name := asked_of(own)) is None else _asked(path.parent / name)
    if "score" not in own.column_names:
        raise StoreError(f"the items {path} lack the column score. Run the cell again.")
    if own["score"].null_count:
        raise StoreError(f"the items {path} have empty cells in the column score. Run the cell again.")
    scores = _numbers(own["score"])
    if asked and max(int(one.lines.max()) for one in asked.values()) >= len(scores):
        raise StoreError(f"the items {path} have fewer lines than were asked. Run the cell again.")
    return {
        name: Items(one.ids, one.clusters, one.prompts, scores[one.lines], one.weights, one.lines)
        for name, one in asked.items()
    }


@lru_cache(maxsize=64)
def _asked(path: Path) -> dict[str, _Asked]:
    return _layout(read_own(path, _COLUMNS), path)


def _layout(table: Any, path: Path) -> dict[str, _Asked]:
    """Where each column's items stand in a table."""
    if missing := [name for name in TEXTS if name not in table.column_names]:
        raise StoreError(f"the items {path} lack the column {', '.join(missing)}. Run the cell again.")
    if gaps := [name for name in (*TEXTS, "weight") if name in table.column_names and table[name].null_count]:
        raise StoreError(f"the items {path} have empty cells in the column {', '.join(gaps)}. Run the cell again.")
    tasks, task_names = _codes(table["task"])
    metrics, metric_names = _codes(table["metric"])
    texts = [names[codes] for codes, names in map(_codes, (table["item"], table["cluster"], table["prompt_hash"]))]
    weights = _numbers(table["weight"]) if "weight" in table.column_names else np.ones(len(tasks))
    found = {}
    joint = tasks * len(metric_names) + metrics
    for code in np.unique(joint):
        lines = np.flatnonzero(joint == code)
        lines = lines[np.argsort(texts[0][lines], kind="stable")]
        ids = texts[0][lines]
        name = f"{task_names[code // len(metric_names)]}/{metric_names[code % len(metric_names)]}"
        if (ids[1:] == ids[:-1]).any():
            raise StoreError(
                f"the items {path} have an item of {name} twice, so they can't be paired. Run the cell again."
            )
        found[name] = _Asked(ids, texts[1][lines], texts[2][lines], weights[lines], lines)
    return found


def _codes(column: Any) -> tuple[NDArray[np.intp], NDArray[np.object_]]:
    """Codes of a text column's values, and the values: equal texts then are one object."""
    encoded = column.combine_chunks().dictionary_encode()
    values = np.array(encoded.dictionary.to_pylist(), dtype=object)  # Arrow's own to_numpy would import pandas
    return np.from_dlpack(encoded.indices).astype(np.intp), values


def _numbers(column: Any) -> NDArray[np.float64]:
    return np.from_dlpack(column.combine_chunks()).astype(np.float64)


class Aligned(NamedTuple):
    """Items that several evaluations share."""

    scores: NDArray[np.float64]  # [evaluation, item]
    clusters: NDArray[np.object_]
    weights: NDArray[np.float64]
    first: Items  # of the first evaluation, the shared ones
    left_out: int  # items that not all of them have
    other_prompts: int  # shared items whose prompts differ


def align(found: Sequence[Items]) -> Aligned:
    """Lay evaluations side by side by item id."""
    first = found[0]
    if all(np.array_equal(first.ids, other.ids) for other in found[1:]):
        shared = list(found)
    else:
        ids = reduce(np.intersect1d, [items.ids for items in found])
        shared = [_take(items, np.searchsorted(items.ids, ids)) for items in found]
    first = shared[0]
    differ = np.zeros(len(first.ids), dtype=bool)
    for other in shared[1:]:
        differ |= other.prompts != first.prompts
    left_out = max(len(items.ids) for items in found) - len(first.ids)
    scores = np.stack([items.scores for items in shared])
    return Aligned(scores, first.clusters, first.weights, first, left_out, int(differ.sum()))


def _take(items: Items, places: NDArray[np.intp]) -> Items:
    ids, clusters, prompts, scores, weights, lines = items
    return Items(ids[places], clusters[places], prompts[places], scores[places], weights[places], lines[places])

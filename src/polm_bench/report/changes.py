"""Which items a method gained and lost: each row's score on every item, and the answers that changed most."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from polm_bench.errors import StoreError
from polm_bench.report.items import Evaluation, Items
from polm_bench.report.parts import Column
from polm_bench.report.slim import read_own

STEPS = 60  # halves to sixths of the range are whole steps
LETTERS = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"[: STEPS + 1]
ABSENT = "-"
EXAMPLES = 2  # of items gained, and of items lost, for each row and score
LONGEST = 400  # characters of an answer that are shown

Own = Mapping[str, Sequence[Evaluation]]


def levels_of(own: Own, column: str) -> dict[str, Any] | None:
    """Every row's score on each item as a letter, 61 levels from the lowest score to the highest; None without items.

    Scores are means over seeds. A text of a few thousand letters a row is what a page can carry.
    """
    found = {name: _means(evaluations, column) for name, evaluations in own.items()}
    known = {name: one for name, one in found.items() if one is not None}
    if not known:
        return None
    ids = next(iter(known.values()))[0].ids
    values = np.concatenate([scores for _, scores in known.values()])
    low, high = float(values.min()), float(values.max())
    if high == low:
        high = low + 1
    texts = {name: _letters(ids, items.ids, scores, low, high) for name, (items, scores) in known.items()}
    return {"ids": [str(one) for one in ids], "low": low, "high": high, "rows": texts}


def _means(evaluations: Sequence[Evaluation], column: str) -> tuple[Items, NDArray[np.float64]] | None:
    """Items of a column with their mean scores over those evaluations that answered the same ones as the first."""
    items = [found for one in evaluations if (found := one.items(column)) is not None]
    same = [one for one in items if np.array_equal(one.ids, items[0].ids)]
    return (items[0], np.mean([one.scores for one in same], axis=0)) if same else None


def _letters(
    ids: NDArray[np.object_], own: NDArray[np.object_], scores: NDArray[np.float64], low: float, high: float
) -> str:
    letters = np.array(list(LETTERS))[np.rint((scores - low) / (high - low) * STEPS).astype(int)]
    if np.array_equal(ids, own):
        return "".join(letters)
    told = dict(zip(own, letters, strict=True))
    return "".join(told.get(one, ABSENT) for one in ids)


def examples_of(own: Own, columns: Sequence[Column]) -> dict[str, dict[str, list[dict[str, Any]]]]:
    """Row -> column -> the largest changes from the base of the row's first record, both answers beside each other."""
    found: dict[str, dict[str, list[dict[str, Any]]]] = {}
    answers: dict[Path, Any] = {}
    for name, evaluations in own.items():
        if not evaluations:
            continue
        first, base = evaluations[0], Evaluation(evaluations[0].record, "base")
        if first.key == base.key or "base" not in first.record.data["items"]:
            continue
        pair = tuple(_answers(one, answers) for one in (first, base))
        changed = {column.name: _examples(first, base, column, pair) for column in columns}
        found[name] = {column: known for column, known in changed.items() if known}
    return found


def _answers(one: Evaluation, known: dict[Path, Any]) -> Any:
    """The column of answers in an evaluation's file; that of the base is read once for all rows."""
    path = one.record.items_path(one.row)
    if path is None:
        raise StoreError(f"record {one.record.id} has no items of row '{one.row}'")
    if path not in known:
        own = read_own(path, ("output",))
        if "output" not in own.column_names:
            raise StoreError(f"the items {path} lack the column output. Run the cell again.")
        known[path] = own["output"].combine_chunks()
    return known[path]


def _examples(first: Evaluation, base: Evaluation, column: Column, answers: tuple[Any, ...]) -> list[dict[str, Any]]:
    mine, theirs = first.items(column.name), base.items(column.name)
    if mine is None or theirs is None or not np.array_equal(mine.ids, theirs.ids):
        return []
    change = column.sign * (mine.scores - theirs.scores)
    order = np.argsort(-change, kind="stable")
    chosen = [i for i in order[:EXAMPLES] if change[i] > 0] + [i for i in order[::-1][:EXAMPLES] if change[i] < 0]
    return [
        {
            "item": str(mine.ids[i]),
            "gained": bool(change[i] > 0),
            "scores": [float(theirs.scores[i]), float(mine.scores[i])],
            "base": _cut(answers[1][int(theirs.lines[i])].as_py()),
            "own": _cut(answers[0][int(mine.lines[i])].as_py()),
        }
        for i in chosen
    ]


def _cut(text: str | None) -> str:
    shown = text or ""
    return shown if len(shown) <= LONGEST else f"{shown[:LONGEST]}…"

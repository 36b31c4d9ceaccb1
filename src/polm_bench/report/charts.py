"""What the charts of a table are drawn from, as JSON values: figures of every row over seeds, items, trials and stages."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from polm_bench.report import words
from polm_bench.report.at_cost import making
from polm_bench.report.changes import examples_of, levels_of
from polm_bench.report.costs import COSTS, higher_is_better
from polm_bench.report.items import Evaluation
from polm_bench.report.measure import distinct
from polm_bench.report.parts import Block, Row, Table
from polm_bench.report.records import Record

SPENT = ("wall_seconds", "tokens_trained", "tokens_generated", "flops")
"""Costs of a stage that add up over the stages."""


def charts_of(table: Table) -> dict[str, Any]:
    """Charts of every block. Raises StoreError where the items of a record can't be read."""
    metas = {record.cell["recipe"]: record.data["recipe"] for record in table.records}
    return {
        "against": table.spec.against,
        "costs": {name: {"label": words.COST_NAMES[name], "up": higher_is_better(name)} for name in COSTS},
        "spent": {name: words.COST_NAMES[name] for name in SPENT},
        "paradigms": words.PARADIGMS,
        "blocks": [_block(block, metas) for block in table.blocks],
    }


def picks_of(places: Iterable[Sequence[dict[str, Any]]]) -> dict[str, Any]:
    """What a reader picks lines by, from each place's `facts_of`, on a page that draws nothing."""
    return {"paradigms": words.PARADIGMS, "blocks": [{"columns": [], "rows": list(rows)} for rows in places]}


def facts_of(name: str, title: str, meta: Mapping[str, Any]) -> dict[str, Any]:
    """What a reader picks rows by: paradigm, family and axes; where our label of an axis differs from the survey's, ours."""
    axes = meta.get("axes") or {}
    return {
        "name": name,
        "title": title,
        "paradigm": str(meta.get("paradigm") or ""),
        "family": str(meta.get("family") or ""),
        "axes": {
            axis: str(label) for axis, label in {**(axes.get("survey") or {}), **(axes.get("ours") or {})}.items()
        },
    }


def _block(block: Block, metas: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    names = [column.name for column in block.columns]
    own = {row.name: distinct(row.evaluations) for row in block.rows}
    return {
        "columns": [{"name": column.name, "up": column.higher_is_better} for column in block.columns],
        "rows": [
            facts_of(row.name, row.title, metas.get(row.name, {"paradigm": row.paradigm})) | _row(row, names)
            for row in block.rows
        ],
        "items": {name: found for name in names if (found := levels_of(own, name))},
        "changed": examples_of(own, block.columns),
    }


def _row(row: Row, columns: Sequence[str]) -> dict[str, Any]:
    gaps = {name: (one.difference, one.p_holm) for name, one in row.measures.items() if one.difference}
    ended = list({one.record.id: one.record for one in row.evaluations if one.row == "self"}.values())
    return {
        "scores": {name: [one.value, one.low, one.high, one.seeds] for name, one in row.measures.items()},
        "effects": {name: [found.mean, found.low, found.high, p] for name, (found, p) in gaps.items()},
        "seeds": {name: _by_seed(row.evaluations, name) for name in columns if name in row.measures},
        "costs": {name: value for name, value in row.costs.items() if value is not None},
        "stages": _stages(ended) if row.records else [],
        "trials": _trials(ended),
    }


def _by_seed(evaluations: Sequence[Evaluation], column: str) -> list[list[float]]:
    """Seed and score of each model; one that no seed changes stands once."""
    return [[one.seed, one.scores[column]["value"]] for one in distinct(evaluations) if column in one.scores]


def _stages(records: Sequence[Record]) -> list[dict[str, Any]]:
    """What each kind of stage spent, as means over the records; judging the model counts as one, its making as the others."""
    found: dict[str, dict[str, Any]] = {}
    for record in records:
        judge = record.data["rows"].get("self")
        told = [(stage["kind"], True, stage) for stage in making(record)]
        told += [("evaluation", False, stage) for stage in record.data["stages"] if stage["key"] == judge]
        for kind, makes, stage in told:
            one = found.setdefault(kind, {"kind": kind, "makes": makes, **dict.fromkeys(SPENT, 0.0)})
            for name in SPENT:
                one[name] += float(stage["ledger"].get(name) or 0) / len(records)
    return list(found.values())


def _trials(records: Iterable[Record]) -> list[list[float]]:
    """Trials, expected best validation score and its standard deviation, as means over the tuned records."""
    told: dict[int, list[tuple[float, float]]] = {}
    for record in records:
        for one in (record.data.get("tuning") or {}).get("best_after", ()):
            if one["expected"] is not None:
                told.setdefault(one["trials"], []).append((one["expected"], one["spread"]))
    return [
        [k, *(math.fsum(part) / len(part) for part in zip(*found, strict=True))] for k, found in sorted(told.items())
    ]

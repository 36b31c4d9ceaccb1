"""A block of a table as grids of texts, and how to read them."""

from __future__ import annotations

from collections.abc import Sequence

from polm_bench.report import words
from polm_bench.report.page import Sheet
from polm_bench.report.parts import Block, Row, Table


def sheets(table: Table, block: Block) -> list[Sheet]:
    """Scores, differences from the base, ranks, and cost."""
    marks = {note: _letter(number) for number, note in enumerate(table.notes())}
    names = [row.title + "".join(f" [{marks[note]}]" for note in row.notes) for row in block.rows]
    heads = [words.column_head(column, block.rows) for column in block.columns]
    columns = [column.name for column in block.columns]
    found = [
        Sheet(
            "Scores",
            ["method", "cells", *heads],
            [
                [name, words.counts(row.statuses), *(_score(row, column) for column in columns)]
                for name, row in zip(names, block.rows, strict=True)
            ],
        ),
        Sheet(
            "Difference from the base",
            ["method", *columns],
            [
                [
                    row.title,
                    *(words.difference(row.measures[column]) if column in row.measures else "" for column in columns),
                ]
                for row in block.rows
                if any(measure.difference for measure in row.measures.values())
            ],
        ),
        Sheet("Ranks", ["method", *columns], [[row.title, *_ranks(row, columns)] for row in block.rows]),
        _cost_sheet(block),
    ]
    return [sheet for sheet in found if sheet.lines and len(sheet.head) > 1]


def legend(table: Table) -> list[str]:
    """How to read the table, then the rows' notes and the missing cells."""
    against = words.COST_NAMES.get(table.spec.against, table.spec.against)
    lines = [
        "Scores: mean over seeds and items with its 95 % interval (bootstrap over seeds and clusters of items). "
        f"* no other row is as good at lower {against}.",
        "Differences: paired by item; p-values Holm-corrected over all differences of this table.",
        "Ranks: 1 + the number of methods that a paired test (Holm-corrected over the column's pairs) finds better.",
        "Cost: making the model, whatever it shares with other cells included; its evaluation not. Means over seeds.",
    ]
    lines += [f"[{_letter(number)}] {note}" for number, note in enumerate(table.notes())]
    if table.missing:
        lines.append(
            f"{len(table.missing)} cells have no record yet: `polm-bench table {table.spec.name} --run` runs them."
        )
    return lines


def place(table: Table, block: Block) -> str:
    return words.place_line(block.place, table.spec.seeds)


def _score(row: Row, column: str) -> str:
    measure = row.measures.get(column)
    return "" if measure is None else words.score(measure) + (" *" if measure.front else "")


def _ranks(row: Row, columns: Sequence[str]) -> list[str]:
    return [str(row.ranks.get(column, "")) for column in columns]


def _cost_sheet(block: Block) -> Sheet:
    """Costs that some row has; a cost of nothing everywhere says nothing."""
    shown = [name for name in words.COST_NAMES if any(row.costs.get(name) for row in block.rows)]
    lines = [
        [row.title, *(words.cost(name, row.costs.get(name)) for name in shown)] for row in block.rows if row.records
    ]
    return Sheet("Cost", ["method", *(words.COST_NAMES[name] for name in shown)], lines)


def _letter(number: int) -> str:
    """a, b, ..., z, aa, ab, ..."""
    return (_letter(number // 26 - 1) if number >= 26 else "") + chr(ord("a") + number % 26)

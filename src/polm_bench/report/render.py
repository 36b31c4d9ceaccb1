"""A table of scores as a page."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from polm_bench.report import curves, page, words
from polm_bench.report.page import Drawing, Page, Part
from polm_bench.report.parts import Block, Row, Table
from polm_bench.report.sheets import legend, place, sheets

if TYPE_CHECKING:
    from rich.console import Console


def page_of(table: Table) -> Page:
    """All that the table shows."""
    from polm_bench.report.charts import charts_of

    return Page(
        name=table.spec.name,
        title=table.spec.title,
        parts=tuple(Part(place(table, block), tuple(sheets(table, block))) for block in table.blocks),
        legend=tuple(legend(table)),
        rows=_flat_rows(table),
        content=_content(table),
        drawings=tuple(_drawings(table)),
        charts=lambda: charts_of(table),
        records=table.records,
    )


def _drawings(table: Table) -> Iterator[Drawing]:
    from polm_bench.report import gains_plot, plot

    yield Drawing("Quality against cost", lambda: plot.svg(table))
    if gains_plot.drawable(table):
        yield Drawing(
            "Differences from the base; those that are certain in full colour", lambda: gains_plot.svg(table), "-gains"
        )


def render(table: Table, format: str) -> str:  # noqa: A002 - the command's word for it
    """The table in one of `page.Format`. Raises UnknownName for another."""
    return page.render(page_of(table), format)


def print_table(table: Table, console: Console) -> None:
    """Print the table on a terminal."""
    page.print_page(page_of(table), console)


def _flat_rows(table: Table) -> list[dict[str, Any]]:
    rows = []
    for block in table.blocks:
        names = curves.shown(block.rows) if table.spec.along else []
        for row in block.rows:
            rows.append(_flat_row(block, row) | curves.figures(row, block, names, table.spec.wins))
    return rows


def _flat_row(block: Block, row: Row) -> dict[str, Any]:
    line: dict[str, Any] = {**block.place._asdict(), "recipe": row.name, "title": row.title, "paradigm": row.paradigm}
    line |= {"cells": words.counts(row.statuses)}
    for column in block.columns:
        figures = _figures(row, column.name)
        line |= {f"{column.name}{'.' if name else ''}{name}": value for name, value in figures.items()}
    for name, found in _overall(block, row).items():
        line |= {f"{name}{'.' if bound else ''}{bound}": value for bound, value in found.items()}
    return line | {f"cost.{name}": value for name, value in row.costs.items()} | {"notes": "; ".join(row.notes)}


def _figures(row: Row, column: str) -> dict[str, Any]:
    """All figures of a row in one column; the score itself has the empty name."""
    measure = row.measures.get(column)
    found = measure.difference if measure else None
    return {
        "": measure.value if measure else None,
        "low": measure.low if measure else None,
        "high": measure.high if measure else None,
        "n": measure.items if measure else None,
        "seeds": measure.seeds if measure else None,
        "difference": found.mean if found else None,
        "difference_low": found.low if found else None,
        "difference_high": found.high if found else None,
        "p": found.p if found else None,
        "p_holm": measure.p_holm if measure else None,
        "p_bh": measure.p_bh if measure else None,
        "test": found.test if found else None,
        "rank": row.ranks[column][0] if column in row.ranks else None,
        "rank_worst": row.ranks[column][1] if column in row.ranks else None,
        "front": measure.front if measure else None,
    }


def _overall(block: Block, row: Row) -> dict[str, dict[str, float | None]]:
    """Figures of a row over all tasks; the figure itself has the empty name."""
    found = block.overall.get(row.name)
    known = {"iqm": found.middle, "probability_of_improvement": found.improves} if found else {}
    return {name: {"": one.value, "low": one.low, "high": one.high} for name, one in known.items() if one}


def _content(table: Table) -> dict[str, Any]:
    blocks = [
        {
            **block.place._asdict(),
            "columns": {column.name: {"higher_is_better": column.higher_is_better} for column in block.columns},
            "rows": [
                {
                    "recipe": row.name,
                    "title": row.title,
                    "paradigm": row.paradigm,
                    "cells": row.statuses,
                    "scores": {
                        column.name: {name or "value": value for name, value in _figures(row, column.name).items()}
                        for column in block.columns
                    },
                    "overall": {
                        name: {bound or "value": value for bound, value in found.items()}
                        for name, found in _overall(block, row).items()
                    },
                    "costs": row.costs,
                    "notes": list(row.notes),
                    "records": list(row.records),
                }
                for row in block.rows
            ],
        }
        for block in table.blocks
    ]
    content = {"name": table.spec.name, "title": table.spec.title, "seeds": table.spec.every_seed(), "blocks": blocks}
    return content | {"missing": [list(cell) for cell in table.missing]}

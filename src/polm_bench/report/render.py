"""A table as Markdown, CSV, LaTeX, HTML, JSON, and on the terminal. Equal tables give equal bytes."""

from __future__ import annotations

import csv
import html
import io
import json
from typing import TYPE_CHECKING, Any, Literal, get_args

from polm_bench.errors import UnknownName
from polm_bench.report import words
from polm_bench.report.parts import Block, Row, Table
from polm_bench.report.sheets import Sheet, fitting, legend, place, sheets

if TYPE_CHECKING:
    from rich.console import Console

Format = Literal["md", "csv", "latex", "html", "json"]


def render(table: Table, format: str) -> str:  # noqa: A002 - the command's word for it
    """The table in one of `Format`. Raises UnknownName for another."""
    writers = {"md": _markdown, "csv": _csv, "latex": _latex, "html": _html, "json": _json}
    if format not in writers:
        raise UnknownName("format", format, get_args(Format))
    return writers[format](table)


def print_table(table: Table, console: Console) -> None:
    """Print the table; sheets too wide for the terminal are cut into several, each with the rows' names."""
    from rich import box
    from rich.table import Table as Grid

    console.print(f"[bold]{_markup(table.spec.title)}[/bold]")
    for block in table.blocks:
        console.print(f"\n{place(table, block)}")
        for sheet in sheets(table, block):
            for part in fitting(sheet, console.width):
                grid = Grid(box=box.SIMPLE_HEAD, title=sheet.title, title_justify="left", pad_edge=False)
                for number, head in enumerate(part.head):
                    grid.add_column(_markup(head), justify="left" if number == 0 else "right", overflow="fold")
                for cells in part.lines:
                    grid.add_row(*map(_markup, cells))
                console.print(grid)
    for line in legend(table):
        console.print(_markup(line), style="dim")


def _markdown(table: Table) -> str:
    parts = [f"# {table.spec.title}"]
    for block in table.blocks:
        parts.append(f"`{place(table, block)}`")
        for sheet in sheets(table, block):
            parts.append(f"**{sheet.title}**\n\n{_grid(sheet, 'github')}")
    parts.append("\n".join(f"- {line}" for line in legend(table)))
    return "\n\n".join(parts) + "\n"


def _latex(table: Table) -> str:
    parts = [f"% {table.spec.title}; needs booktabs"]
    for block in table.blocks:
        for sheet in sheets(table, block):
            parts.append(f"% {sheet.title}, {place(table, block)}\n{_grid(sheet, 'latex_booktabs')}")
    parts.append("\n".join(f"% {line}" for line in legend(table)))
    text = "\n\n".join(parts) + "\n"
    return text.replace("↑", r"$\uparrow$").replace("↓", r"$\downarrow$")


def _html(table: Table) -> str:
    from polm_bench.report.plot import svg

    parts = [f"<h1>{html.escape(table.spec.title)}</h1>"]
    for block in table.blocks:
        parts.append(f"<h2>{html.escape(place(table, block))}</h2>")
        for sheet in sheets(table, block):
            parts.append(f"<h3>{html.escape(sheet.title)}</h3>\n<div>{_grid(sheet, 'html')}</div>")
    drawing = svg(table)
    parts.append(drawing[drawing.index("<svg") :])
    parts.append("<ul>\n" + "\n".join(f"<li>{html.escape(line)}</li>" for line in legend(table)) + "\n</ul>")
    return _PAGE.format(title=html.escape(table.spec.title), body="\n".join(parts))


def _grid(sheet: Sheet, style: str) -> str:
    from tabulate import tabulate

    lines = [[cell.replace("|", "\\|") for cell in line] for line in sheet.lines] if style == "github" else sheet.lines
    align = ["left", *["right"] * (len(sheet.head) - 1)]
    return tabulate(lines, headers=sheet.head, tablefmt=style, colalign=align, disable_numparse=True)


def _csv(table: Table) -> str:
    """One line per row; columns of figures as numbers, empty where there are none."""
    lines = [_flat_row(block, row) for block in table.blocks for row in block.rows]
    names = list(dict.fromkeys(name for line in lines for name in line))
    out = io.StringIO()
    writer = csv.DictWriter(out, names, restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows(lines)
    return out.getvalue()


def _flat_row(block: Block, row: Row) -> dict[str, Any]:
    line: dict[str, Any] = {**block.place._asdict(), "recipe": row.name, "title": row.title, "paradigm": row.paradigm}
    line |= {"cells": words.statuses(row)}
    for column in block.columns:
        figures = _figures(row, column.name)
        line |= {f"{column.name}{'.' if name else ''}{name}": _cell(value) for name, value in figures.items()}
    return line | {f"cost.{name}": _cell(value) for name, value in row.costs.items()} | {"notes": "; ".join(row.notes)}


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
        "test": found.test if found else None,
        "rank": row.ranks.get(column),
        "front": measure.front if measure else None,
    }


def _json(table: Table) -> str:
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
                        column.name: {
                            name or "value": _rounded(value) for name, value in _figures(row, column.name).items()
                        }
                        for column in block.columns
                    },
                    "costs": {name: _rounded(value) for name, value in row.costs.items()},
                    "notes": list(row.notes),
                    "records": list(row.records),
                }
                for row in block.rows
            ],
        }
        for block in table.blocks
    ]
    content = {"name": table.spec.name, "title": table.spec.title, "seeds": list(table.spec.seeds), "blocks": blocks}
    return (
        json.dumps(content | {"missing": [list(cell) for cell in table.missing]}, indent=1, ensure_ascii=False) + "\n"
    )


def _rounded(value: Any) -> Any:
    """Six significant digits: what lies behind depends on the processor's order of summing."""
    if not isinstance(value, float):
        return value
    short = float(f"{value:.6g}")
    return int(short) if short.is_integer() and abs(short) >= 1000 else short


def _cell(value: Any) -> Any:
    found = _rounded(value)
    return "" if found is None else f"{found:.6g}" if isinstance(found, float) else found


def _markup(text: str) -> str:
    return text.replace("[", r"\[")


_PAGE = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<title>{title}</title>
<style>
body {{ font: 15px/1.5 system-ui, sans-serif; margin: 2em auto; max-width: 80em; padding: 0 1em; }}
div {{ overflow-x: auto; }}
table {{ border-collapse: collapse; font-variant-numeric: tabular-nums; white-space: nowrap; }}
th, td {{ padding: .2em .8em; border-bottom: 1px solid #ddd; }}
h2 {{ font-size: 1.1em; }} h3 {{ font-size: 1em; margin-bottom: .3em; }}
svg {{ max-width: 100%; height: auto; }}
</style>
</head>
<body>
{body}
</body>
</html>
"""

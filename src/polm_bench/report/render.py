"""A table as Markdown, CSV, LaTeX, HTML, JSON, and on the terminal. Equal tables give equal bytes."""

from __future__ import annotations

import csv
import html
import io
import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, get_args

from polm_bench.errors import UnknownName
from polm_bench.report import words
from polm_bench.report.parts import Block, Row, Table

if TYPE_CHECKING:
    from rich.console import Console

Format = Literal["md", "csv", "latex", "html", "json"]


class Sheet(NamedTuple):
    """A grid of texts: one aspect of a block."""

    title: str
    head: list[str]
    lines: list[list[str]]


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
        console.print(f"\n{_place(table, block)}")
        for sheet in sheets(table, block):
            for part in _fitting(sheet, console.width):
                grid = Grid(box=box.SIMPLE_HEAD, title=sheet.title, title_justify="left", pad_edge=False)
                for place, head in enumerate(part.head):
                    grid.add_column(_markup(head), justify="left" if place == 0 else "right", overflow="fold")
                for cells in part.lines:
                    grid.add_row(*map(_markup, cells))
                console.print(grid)
    for line in legend(table):
        console.print(_markup(line), style="dim")


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
                [name, words.statuses(row), *(_score(row, column) for column in columns)]
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


def _markdown(table: Table) -> str:
    parts = [f"# {table.spec.title}"]
    for block in table.blocks:
        parts.append(f"`{_place(table, block)}`")
        for sheet in sheets(table, block):
            parts.append(f"**{sheet.title}**\n\n{_grid(sheet, 'github')}")
    parts.append("\n".join(f"- {line}" for line in legend(table)))
    return "\n\n".join(parts) + "\n"


def _latex(table: Table) -> str:
    parts = [f"% {table.spec.title}; needs booktabs"]
    for block in table.blocks:
        for sheet in sheets(table, block):
            parts.append(f"% {sheet.title}, {_place(table, block)}\n{_grid(sheet, 'latex_booktabs')}")
    parts.append("\n".join(f"% {line}" for line in legend(table)))
    text = "\n\n".join(parts) + "\n"
    return text.replace("↑", r"$\uparrow$").replace("↓", r"$\downarrow$")


def _html(table: Table) -> str:
    from polm_bench.report.plot import svg

    parts = [f"<h1>{html.escape(table.spec.title)}</h1>"]
    for block in table.blocks:
        parts.append(f"<h2>{html.escape(_place(table, block))}</h2>")
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


def _fitting(sheet: Sheet, width: int) -> list[Sheet]:
    """Split a sheet's columns so that each part fits the width; every part begins with the rows' names."""
    widths = [max(len(line[i]) for line in [sheet.head, *sheet.lines]) + 3 for i in range(len(sheet.head))]
    parts: list[list[int]] = [[]]
    for i in range(1, len(widths)):
        if parts[-1] and widths[0] + sum(widths[j] for j in parts[-1]) + widths[i] > width:
            parts.append([])
        parts[-1].append(i)
    return [
        Sheet(
            sheet.title,
            [sheet.head[0], *(sheet.head[i] for i in part)],
            [[line[0], *(line[i] for i in part)] for line in sheet.lines],
        )
        for part in parts
    ]


def _place(table: Table, block: Block) -> str:
    seeds = ", ".join(map(str, table.spec.seeds))
    return " ".join(f"{group}={name}" for group, name in block.place._asdict().items()) + f", seeds {seeds}"


def _letter(number: int) -> str:
    """a, b, ..., z, aa, ab, ..."""
    return (_letter(number // 26 - 1) if number >= 26 else "") + chr(ord("a") + number % 26)


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

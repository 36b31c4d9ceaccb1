"""A page of grids, as Markdown, CSV, LaTeX, HTML, JSON, and on the terminal. Equal pages give equal bytes."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, get_args

from polm_bench.errors import UnknownName
from polm_bench.report import words

if TYPE_CHECKING:
    from rich.console import Console

    from polm_bench.report.records import Record

Format = Literal["md", "csv", "latex", "html", "json"]


class Sheet(NamedTuple):
    """A grid of texts; a line of one text is a heading of the lines below it."""

    title: str
    head: list[str]
    lines: list[list[str]]
    keys: tuple[str, ...] = ()  # what each line is of, "" for a heading: what a reader filters by


class Part(NamedTuple):
    """Sheets under one heading."""

    title: str
    sheets: tuple[Sheet, ...]


class Drawing(NamedTuple):
    """A picture of a page, in a file of its own beside it."""

    caption: str
    svg: Callable[[], str]
    suffix: str = ""  # of the file's name, where a page has several

    def file(self, name: str) -> str:
        """The file's name for a table's."""
        return f"{name}{self.suffix}.svg"


@dataclass(frozen=True)
class Page:
    """What a table shows, whatever it is written as."""

    name: str
    title: str
    parts: tuple[Part, ...]
    legend: tuple[str, ...]
    rows: Sequence[dict[str, Any]]  # for CSV: figures as numbers
    content: dict[str, Any]  # for JSON
    drawings: tuple[Drawing, ...] = ()
    charts: Callable[[], dict[str, Any]] | None = None  # what a browser draws from, and filters by
    records: Sequence[Record] = ()  # those it stands on


def render(page: Page, format: str) -> str:  # noqa: A002 - the command's word for it
    """The page in one of `Format`. Raises UnknownName for another."""
    from polm_bench.report.web import html

    writers = {"md": _markdown, "csv": _csv, "latex": _latex, "html": html, "json": _json}
    if format not in writers:
        raise UnknownName("format", format, get_args(Format))
    return writers[format](page)


def print_page(page: Page, console: Console) -> None:
    """Print the page; sheets too wide for the terminal are cut into several, each with the rows' names."""
    from rich import box
    from rich.table import Table as Grid

    console.print(f"[bold]{words.plain(page.title)}[/bold]")
    for part in page.parts:
        console.print(f"\n{words.plain(part.title)}")
        for sheet in part.sheets:
            for piece in fitting(sheet, console.width):
                grid = Grid(box=box.SIMPLE_HEAD, title=words.plain(sheet.title), title_justify="left", pad_edge=False)
                for number, head in enumerate(piece.head):
                    left = number == 0 or is_prose(piece, number)
                    grid.add_column(words.plain(head), justify="left" if left else "right", overflow="fold")
                for cells in piece.lines:
                    grid.add_row(*map(words.plain, cells), style="bold" if len(cells) == 1 else None)
                console.print(grid)
    for line in page.legend:
        console.print(words.plain(line), style="dim")


def fitting(sheet: Sheet, width: int) -> list[Sheet]:
    """Split a sheet's columns so that each part fits the width; every part begins with the rows' names."""
    texts = [sheet.head, *(line for line in sheet.lines if len(line) > 1)]
    widths = [min(width // 2, max(len(line[i]) for line in texts)) + 3 for i in range(len(sheet.head))]
    parts: list[list[int]] = [[]]
    for i in range(1, len(widths)):
        if parts[-1] and widths[0] + sum(widths[j] for j in parts[-1]) + widths[i] > width:
            parts.append([])
        parts[-1].append(i)
    return [
        Sheet(
            sheet.title,
            [sheet.head[0], *(sheet.head[i] for i in part)],
            [line if len(line) == 1 else [line[0], *(line[i] for i in part)] for line in sheet.lines],
        )
        for part in parts
    ]


def rounded(value: Any) -> Any:
    """Six significant digits: what lies behind depends on the processor's order of summing."""
    if isinstance(value, dict):
        return {name: rounded(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [rounded(item) for item in value]
    if not isinstance(value, float):
        return value
    short = float(f"{value:.6g}")
    return int(short) if short.is_integer() and abs(short) >= 1000 else short


def _markdown(page: Page) -> str:
    texts = [f"# {page.title}"]
    for part in page.parts:
        texts.append(f"`{part.title}`")
        for sheet in part.sheets:
            texts.append(f"**{sheet.title}**\n\n{_grid(sheet, 'github')}")
    texts.append("\n".join(f"- {line}" for line in page.legend))
    return "\n\n".join(texts) + "\n"


def _latex(page: Page) -> str:
    texts = [f"% {page.title}; needs booktabs"]
    for part in page.parts:
        for sheet in part.sheets:
            texts.append(f"% {sheet.title}, {part.title}\n{_grid(sheet, 'latex_booktabs')}")
    texts.append("\n".join(f"% {line}" for line in page.legend))
    text = "\n\n".join(texts) + "\n"
    return text.replace("↑", r"$\uparrow$").replace("↓", r"$\downarrow$")


def _grid(sheet: Sheet, style: str) -> str:
    from tabulate import tabulate

    empty = [""] * (len(sheet.head) - 1)
    lines = [[_heading(line[0], style), *empty] if len(line) == 1 else line for line in sheet.lines]
    if style == "github":
        lines = [[cell.replace("|", "\\|") for cell in line] for line in lines]
    align = ["left" if i == 0 or is_prose(sheet, i) else "right" for i in range(len(sheet.head))]
    return tabulate(lines, headers=sheet.head, tablefmt=style, colalign=align, disable_numparse=True)


def _heading(text: str, style: str) -> str:
    return f"**{text}**" if style == "github" else text


def is_prose(sheet: Sheet, column: int) -> bool:
    """Whether a column holds words and not figures, which stand to the right."""
    texts = [line[column] for line in sheet.lines if len(line) > 1]
    return any(len(text) > 48 for text in texts) or sheet.head[column] in (
        "claim",
        "verdict",
        "remark",
        "recipe",
        "ours",
        "figure",
        "validation",
        "chosen",
    )


def _csv(page: Page) -> str:
    """One line per row; columns of figures as numbers, empty where there are none."""
    names = list(dict.fromkeys(name for line in page.rows for name in line))
    out = io.StringIO()
    writer = csv.DictWriter(out, names, restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows({name: _cell(value) for name, value in line.items()} for line in page.rows)
    return out.getvalue()


def _json(page: Page) -> str:
    return json.dumps(rounded(page.content), indent=1, ensure_ascii=False) + "\n"


def _cell(value: Any) -> Any:
    found = rounded(value)
    return "" if found is None else f"{found:.6g}" if isinstance(found, float) else found

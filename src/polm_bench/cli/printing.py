"""Tables for people (rich on a terminal, plain text in a pipe), Markdown for documents, JSON for programs."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import zip_longest
from textwrap import wrap
from typing import TYPE_CHECKING, Any, TextIO

if TYPE_CHECKING:
    from rich.console import Console
    from rich.text import Text

PAGE_WIDTH = 120  # characters
NARROW = 12  # no column is made narrower
SHOWN = {code: f"\\x{code:02x}" for code in (*range(32), *range(127, 160)) if chr(code) not in "\t\n"}
Row = dict[str, Any]


def cell_text(value: Any) -> str:
    """One value as a person reads it in a table."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:,.0f}" if value == int(value) and abs(value) < 1e15 else f"{value:.4g}"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, dict):
        return ", ".join(f"{name} {cell_text(item)}" for name, item in value.items())
    if isinstance(value, list | tuple):
        return ", ".join(map(cell_text, value))
    return visible(str(value))


def visible(text: str) -> str:
    """Text whose control characters are shown, but for tabs and line breaks: what a model wrote could command a terminal."""
    return text.translate(SHOWN)


def gigabytes(count: float | None) -> str:
    """Bytes in a unit that suits."""
    if count is None:
        return ""
    return f"{count / 1e9:.1f} GB" if count >= 1e9 else f"{count / 1e6:.1f} MB"


def print_rows(rows: Sequence[Row], columns: Sequence[str], title: str = "", width: int | None = None) -> None:
    """A table on stdout; columns that are empty throughout are left out.

    On a terminal texts are wrapped to fit it; elsewhere to fit `width` characters, where that is given.
    """
    shown = [name for name in columns if any(cell_text(row.get(name)) for row in rows)]
    texts = [[cell_text(row.get(name)) for name in shown] for row in rows]
    if sys.stdout.isatty():
        _print_rich(title, shown, texts)
        return
    if title:
        print(title)
    if not rows:
        print("  (none)")
        return
    widths = [max(map(len, column)) for column in zip(shown, *texts, strict=True)]
    while width is not None and sum(widths) + 2 * (len(widths) - 1) > width and max(widths) > NARROW:
        widths[widths.index(max(widths))] -= 1
    for line in [shown, *texts]:
        wrapped = [[text] if len(text) <= size else wrap(text, size) for text, size in zip(line, widths, strict=True)]
        for parts in zip_longest(*wrapped, fillvalue=""):
            print("  ".join(part.ljust(size) for part, size in zip(parts, widths, strict=True)).rstrip())


def markdown(rows: Sequence[Row], columns: Sequence[str]) -> str:
    """A Markdown table that ends in a newline."""
    lines = ["| " + " | ".join(columns) + " |", "|" + " --- |" * len(columns)]
    for row in rows:
        lines.append("| " + " | ".join(cell_text(row.get(name)).replace("|", "\\|") for name in columns) + " |")
    return "\n".join(lines) + "\n"


def print_json(value: Any, to: TextIO | None = None) -> None:
    """JSON on stdout."""
    (to or sys.stdout).write(json.dumps(value, indent=2, ensure_ascii=False, default=str) + "\n")


def console() -> Console:
    """Rich's console on stdout; in a pipe or a file it is as wide as a page, not as the 80 columns that rich assumes."""
    from rich.console import Console

    class Careful(Console):
        def render_str(self, text: str, **how: Any) -> Text:
            return super().render_str(visible(text), **how)

    return Careful(width=None if sys.stdout.isatty() else PAGE_WIDTH)


@contextmanager
def only_ours_on_stdout(wanted: bool) -> Iterator[TextIO]:
    """While it lasts, whatever writes to stdout (libraries, child processes) reaches stderr; yields the real stdout."""
    if not wanted:
        yield sys.stdout
        return
    sys.stdout.flush()
    kept = os.dup(1)
    os.dup2(2, 1)
    try:
        with os.fdopen(os.dup(kept), "w", encoding="utf-8") as real:
            yield real
    finally:
        sys.stdout.flush()
        os.dup2(kept, 1)
        os.close(kept)


def _print_rich(title: str, columns: Sequence[str], texts: Sequence[Sequence[str]]) -> None:
    from rich import box
    from rich.table import Table
    from rich.text import Text

    table = Table(title=title or None, title_justify="left", box=box.SIMPLE_HEAD)
    for number, name in enumerate(columns):
        table.add_column(name, style="bold" if number == 0 else None, overflow="fold")
    for line in texts:
        table.add_row(*map(Text, line))
    console().print(table, markup=False)


def tell(line: str) -> None:
    """A line on stderr."""
    sys.stderr.write(f"{line}\n")
    sys.stderr.flush()

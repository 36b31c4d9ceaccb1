"""A page as one HTML file that loads nothing: its grids, and charts that a script in it draws."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from html import escape
from pathlib import Path
from typing import Any

from polm_bench.report.page import Page, Part, Sheet, is_prose, rounded
from polm_bench.report.web.origins import origins

FOLDER = Path(__file__).parent
SCRIPTS = ("grid.js", "chart.js", "cost.js", "effect.js", "items.js", "page.js")
_HEAD = re.compile(r"(?P<task>[^/\s]+)/(?P<metric>\S+)(?P<arrow> [↑↓])?(?: \(n = (?P<count>\d+)\))?")
_FIGURE = re.compile(r"(?P<value>\S+) (?P<bounds>\[[^\]]*\]|± \S+)(?:, (?P<p>p .+))?(?P<front> \*)?")
_NOTES = re.compile(r"(?: \[[a-z]{1,2}(?:, [a-z]{1,2})*\])+$")


def html(page: Page) -> str:
    """The page. Equal pages give equal bytes."""
    charts = page.charts() if page.charts else None
    script = "\n".join((FOLDER / name).read_text(encoding="utf-8") for name in SCRIPTS)
    parts = [_part(number, part, charts is not None) for number, part in enumerate(page.parts)]
    for drawing in [one.svg() for one in page.drawings] if charts is None else []:
        parts.append(f'<section class="drawing">{drawing[drawing.index("<svg") :]}</section>')
    return "\n".join(
        [
            "<!DOCTYPE html>",
            '<html lang="en">',
            "<head>",
            '<meta charset="utf-8">',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            f'<meta http-equiv="Content-Security-Policy" content="{_policy(script)}">',
            f"<title>{escape(page.title)}</title>",
            f"<style>\n{(FOLDER / 'page.css').read_text(encoding='utf-8')}</style>",
            "</head>",
            "<body>",
            f"<header><h1>{escape(page.title)}</h1>\n<p>{escape(_stands_on(page))}</p></header>",
            '<nav id="tools" hidden></nav>',
            "<main>",
            *parts,
            _reading(page),
            *([_origins(page)] if page.records else []),
            "</main>",
            f'<script type="application/json" id="charts">{_embedded(charts)}</script>',
            f"<script>{script}</script>",
            "</body>",
            "</html>\n",
        ]
    )


def _policy(script: str) -> str:
    """Nothing is loaded, and no script runs but the page's own: what a model wrote stays text."""
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    return f"default-src 'none'; style-src 'unsafe-inline'; script-src 'sha256-{digest}'"


def _embedded(value: Any) -> str:
    """JSON that can't end the element it stands in."""
    text = json.dumps(rounded(value), separators=(",", ":"), ensure_ascii=False)
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def _stands_on(page: Page) -> str:
    count = len(page.records)
    return f"Built from {count:,} record{'s' if count != 1 else ''} by polm-bench." if count else "Built by polm-bench."


def _part(number: int, part: Part, charts: bool) -> str:
    """The first grid, the charts, the other grids."""
    sheets = [_sheet(sheet, f"p{number}s{place}") for place, sheet in enumerate(part.sheets)]
    if charts:
        sheets.insert(1, f'<div class="charts" data-block="{number}"></div>')
    return f'<section class="part"><h2>{escape(part.title)}</h2>\n' + "\n".join(sheets) + "\n</section>"


def _sheet(sheet: Sheet, name: str) -> str:
    prose = [place == 0 or is_prose(sheet, place) for place in range(len(sheet.head))]
    heads = "".join(
        f'<th scope="col"{_score(text)}{_left(left)}>{_head(text)}</th>'
        for text, left in zip(sheet.head, prose, strict=True)
    )
    keys = sheet.keys or ("",) * len(sheet.lines)
    lines = [_line(line, key, prose) for line, key in zip(sheet.lines, keys, strict=True)]
    return (
        f'<figure class="grid" id="{name}"><figcaption>{escape(sheet.title)}</figcaption>\n'
        f'<div class="scroll"><table><thead><tr>{heads}</tr></thead>\n<tbody>\n' + "\n".join(lines) + "\n"
        "</tbody></table></div></figure>"
    )


def _line(line: list[str], key: str, prose: list[bool]) -> str:
    if len(line) == 1:
        return f'<tr class="group"><th scope="colgroup" colspan="{len(prose)}">{escape(line[0])}</th></tr>'
    cells = "".join(f"<td{_left(left)}>{_cell(text)}</td>" for text, left in zip(line[1:], prose[1:], strict=True))
    return f'<tr data-key="{escape(key)}"><th scope="row"{_left(True)}>{_named(line[0])}</th>{cells}</tr>'


def _left(left: bool) -> str:
    return ' class="left"' if left else ""


def _score(text: str) -> str:
    """Which score stands below a head, for the script."""
    found = _HEAD.fullmatch(text)
    return f' data-score="{escape(found["task"])}/{escape(found["metric"])}"' if found else ""


def _head(text: str) -> str:
    """A score's task above its metric."""
    found = _HEAD.fullmatch(text)
    if found is None:
        return escape(text)
    count = f", n = {found['count']}" if found["count"] else ""
    return f"{escape(found['task'])}<small>{escape(found['metric'])}{found['arrow'] or ''}{count}</small>"


def _cell(text: str) -> str:
    """A figure above its interval and its p-value."""
    found = _FIGURE.fullmatch(text)
    if found is None:
        return escape(text)
    front = '<abbr title="on the Pareto front">*</abbr>' if found["front"] else ""
    more = "".join(f"<small>{escape(text)}</small>" for text in (found["bounds"], found["p"]) if text)
    return f"{front}<b>{escape(found['value'])}</b>{more}"


def _named(text: str) -> str:
    found = _NOTES.search(text)
    if found is None:
        return escape(text)
    letters = re.findall("[a-z]+", found[0])
    return f"{escape(text[: found.start()])}<sup>{' '.join(letters)}</sup>"


def _reading(page: Page) -> str:
    lines = "\n".join(f"<li>{escape(line)}</li>" for line in page.legend)
    return f'<section class="reading" id="reading"><h2>How to read it</h2>\n<ul>\n{lines}\n</ul></section>'


def _origins(page: Page) -> str:
    sheets = [_sheet(sheet, f"origin{place}") for place, sheet in enumerate(origins(page.records))]
    return '<section class="part" id="provenance"><h2>Provenance</h2>\n' + "\n".join(sheets) + "\n</section>"

"""The survey's table of data sets as printed, each row beside the data configuration that reads it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from polm_bench.report.page import Page, Part, Sheet
from polm_bench.report.spec import TableSpec
from polm_bench.settings import read_yaml

NONE_YET = "no configuration yet"
OURS = ("configuration", "roles", "licence", "read from", "loading")


def data_page(spec: TableSpec, conf_dir: Path) -> Page:
    """The printed table with what conf/data says of each row; raises TypeError for a table that prints nothing."""
    printed = spec.printed
    if printed is None:
        raise TypeError(f"table {spec.name} holds no printed table")
    rows: list[dict[str, Any]] = [
        {name: row.get(name) for name in printed.columns}
        | {"doubts": " ".join(row.get("doubts") or ())}
        | dict(zip(OURS, _configuration(row.get("key"), conf_dir, printed.checked), strict=True))
        for row in printed.rows
    ]
    lines: list[list[str]] = [
        ["-" if row[name] is None else str(row[name]) for name in printed.columns] + [row[name] for name in OURS]
        for row in rows
    ]
    for line, row in zip(lines, rows, strict=True):
        line[0] += f" [{', '.join(row['doubts'].split())}]" if row["doubts"] else ""
    known = sum(row["configuration"] != NONE_YET for row in rows)
    legend = (
        f"Left columns as printed in {printed.source}, wrong values included; letters mark doubts. {known} of {len(rows)} rows have a configuration.",
        "loading: what was checked of it. Rows of its layout: a test reads a few rows that it writes with the data set's columns; the hub itself was not read.",
        *(f"[{letter}] {text}" for letter, text in printed.doubts.items()),
    )
    sheet = Sheet(f"Table {printed.number} as printed, and what reads it", [*printed.columns.values(), *OURS], lines)
    content = {
        "name": spec.name,
        "title": spec.title,
        "source": printed.source,
        "rows": rows,
        "doubts": dict(printed.doubts),
    }
    return Page(spec.name, spec.title, (Part("conf/data/", (sheet,)),), legend, rows, content)


def _configuration(name: Any, conf_dir: Path, checked: Mapping[str, str]) -> tuple[str, str, str, str, str]:
    path = Path(conf_dir) / "data" / f"{name}.yaml"
    if not name or not path.is_file():
        return NONE_YET, "", "", "", ""
    found: Mapping[str, Any] = read_yaml(path) or {}
    return (
        str(name),
        ", ".join(found.get("roles_from") or ()),
        str(found.get("license") or ""),
        str(found.get("path") or ""),
        checked.get(str(name), "not checked"),
    )

"""A published table: the folder `results/NAME/` with the records it stands on."""

from __future__ import annotations

import shlex
import shutil
from pathlib import Path

from polm_bench.report.parts import Table
from polm_bench.report.plot import svg
from polm_bench.report.render import render


def save(table: Table, folder: Path) -> Path:
    """Write a table's folder, such as `results/NAME`: records/, NAME.md, NAME.csv, NAME.svg, reproduce.sh. Returns it.

    Records and items that the table no longer stands on are removed from its `records/`.
    """
    name, target = table.spec.name, Path(folder)
    (target / "records" / "items").mkdir(parents=True, exist_ok=True)
    _copy_records(table, target / "records")
    tail = f"\n![Quality against cost]({name}.svg)\n\n"
    tail += f"Built from `records/` by `polm-bench table {name}`; `sh reproduce.sh` runs the cells again.\n"
    _write(target / f"{name}.md", render(table, "md") + tail)
    _write(target / f"{name}.csv", render(table, "csv"))
    _write(target / f"{name}.svg", svg(table))
    _write(target / "reproduce.sh", reproduce(table))
    return target


def reproduce(table: Table) -> str:
    """Shell commands that run every cell of the table again and build it from the new records."""
    spec = table.spec
    lines = [
        "#!/bin/sh",
        f"# Runs the cells of the table '{spec.name}' again and rebuilds it. What the store has is not run twice.",
    ]
    lines += ["set -eu", 'cd "$(dirname "$0")/../.."  # the root of the checkout']
    lines += [f"polm-bench run {shlex.join(cell)}" for cell in spec.cells()]
    lines.append(f'polm-bench table {spec.name} --records "${{POLM_HOME:-.polm}}/records" --save')
    return "\n".join(lines) + "\n"


def _copy_records(table: Table, target: Path) -> None:
    wanted: dict[Path, Path] = {}
    for record in table.records:
        wanted[target / record.path.name] = record.path
        for row in record.data["items"]:
            if source := record.items_path(row):
                wanted[target / "items" / source.name] = source
    for path, source in wanted.items():
        if not (path.exists() and path.samefile(source)):
            beside = path.with_name(f".{path.name}.new")
            shutil.copyfile(source, beside)
            beside.replace(path)
    for path in (*target.glob("*.json"), *target.glob("items/*.parquet")):
        if path not in wanted:
            path.unlink()


def _write(path: Path, text: str) -> None:
    """Write whole or not at all."""
    beside = path.with_name(f".{path.name}.new")
    beside.write_text(text, encoding="utf-8", newline="\n")
    beside.replace(path)

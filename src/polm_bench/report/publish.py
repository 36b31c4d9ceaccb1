"""A published table: the folder `results/NAME/` with the records it stands on."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from polm_bench.files import replacing
from polm_bench.report.page import Page, render
from polm_bench.report.records import Record, load
from polm_bench.report.slim import asked_by, copy_slim
from polm_bench.report.spec import TableSpec


def save(spec: TableSpec, page: Page, records: Iterable[Record], results: Path) -> Path:
    """Write `results/NAME/`: records/, NAME.md, NAME.csv, its pictures, reproduce.sh. Returns it.

    Older records of its cells are removed from its `records/`, and items that no record there names. A table that reads another's records keeps
    none of its own: what is missing there is added there, and nothing removed.
    """
    name, target = spec.name, Path(results) / spec.name
    target.mkdir(parents=True, exist_ok=True)
    owner = spec.records_of or name
    copy_records(records, Path(results) / owner / "records", spec.record_names() if owner == name else ())
    tail = "".join(f"\n![{one.caption}]({one.file(name)})\n" for one in page.drawings)
    tail += f"\n{_origin(spec)}\n"
    _write(target / f"{name}.md", render(page, "md") + tail)
    _write(target / f"{name}.csv", render(page, "csv"))
    for drawing in page.drawings:
        _write(target / drawing.file(name), drawing.svg())
    _write(target / "reproduce.sh", reproduce(spec))
    return target


def _origin(spec: TableSpec) -> str:
    """What the table is built from, and how again."""
    if spec.of_data:
        return (
            f"Built from `conf/data/`, and from what `conf/table/{spec.name}.yaml` holds as printed and as checked, by `polm-bench table {spec.name}`; "
            "no cell is run for it."
        )
    place = "records/" if spec.records_of in (None, spec.name) else f"../{spec.records_of}/records/"
    return f"Built from `{place}` by `polm-bench table {spec.name}`; `sh reproduce.sh` runs the cells again."


def reproduce(spec: TableSpec) -> str:
    """A shell script that runs every cell of the table again, in one process, and builds it from the new records."""
    lines = [
        "#!/bin/sh",
        "# Builds the table again. It stands on conf/ alone, so no cell is run."
        if spec.of_data
        else f"# Runs the {len(spec.cells())} cells of the table '{spec.name}' again and rebuilds it. What the store has is not run twice.",
        "set -eu",
        'cd "$(dirname "$0")/../.."  # the root of the checkout',
        'PATH="$PWD/.venv/bin:$PATH"  # where make installs it',
        f"polm-bench table {spec.name}{'' if spec.of_data else ' --run'} --save",
    ]
    return "\n".join(lines) + "\n"


def copy_records(records: Iterable[Record], target: Path, replaced: Sequence[str]) -> None:
    """Copy records and their items into a folder; others there whose names begin with one of `replaced` are removed."""
    (target / "items").mkdir(parents=True, exist_ok=True)
    kept: set[Path] = set()
    done: set[Path] = set()
    for record in records:
        for row in record.data["items"]:
            source = record.items_path(row)
            if source and source not in done:
                copy_slim(source, target / "items")
                done.add(source)
        path = target / record.path.name
        kept.add(path)
        if not (path.exists() and path.samefile(record.path)):
            _write(path, record.path.read_text(encoding="utf-8"))
    if replaced:
        _prune(target, kept, tuple(replaced))


def _prune(folder: Path, kept: set[Path], replaced: tuple[str, ...]) -> None:
    for path in set(folder.glob("*.json")) - kept:
        if path.name.startswith(replaced):
            path.unlink()
    left = load(folder)
    items = {own for record in left for row in record.data["items"] if (own := record.items_path(row))}
    shared = {folder / "items" / name for path in items if (name := asked_by(path))}
    for path in set(folder.glob("items/*.parquet")) - items - shared:
        path.unlink()


def _write(path: Path, text: str) -> None:
    """Write whole or not at all."""
    with replacing(path) as beside:
        beside.write_text(text, encoding="utf-8", newline="\n")

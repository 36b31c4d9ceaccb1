"""Which records a command reads: those it is told, those that were published, or the store's."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from polm_bench.errors import PolmError
from polm_bench.paths import home

if TYPE_CHECKING:
    from polm_bench.report.records import Record
    from polm_bench.report.spec import TableSpec

RESULTS = Path("results")


def check_source(run: bool, records: Path | None) -> None:
    """Raises PolmError for records that can't be read from where they were said to be."""
    if run and records is not None:
        raise PolmError("--run writes records under POLM_HOME, so it can't go with --records. Leave one of them out.")
    if records is not None and not records.is_dir():
        raise PolmError(f"no folder {records} to read records from.")


def folder_of(spec: TableSpec, run: bool, records: Path | None) -> Path:
    """Where a table's records lie."""
    from polm_bench.report.table import records_folder

    return home() / "records" if run else records_folder(spec, RESULTS, home(), records)


def records_of(given: Path | None) -> list[Record]:
    """The records of a folder, or of the store. Raises PolmError when there is none."""
    from polm_bench.report.records import load

    check_source(False, given)
    folder = given or home() / "records"
    found = load(folder)
    if not found:
        raise PolmError(
            f"there is no record in {folder} yet. Run a cell (polm-bench run +recipe=dpo), or name a folder of published ones: "
            "--records results/five_paradigms/records"
        )
    return found


def source(folder: Path) -> str:
    """Where the records of a table lie; of published ones, also how to see one's own instead."""
    published = RESULTS in folder.parents
    return f"Records: {folder}" + (f". For those of your own runs: --records {home() / 'records'}" if published else "")

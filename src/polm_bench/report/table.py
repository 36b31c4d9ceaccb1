"""A table from records alone: read its description, build it, publish it."""

from __future__ import annotations

from pathlib import Path

from polm_bench.report.publish import save
from polm_bench.report.rows import Table, build
from polm_bench.report.spec import TableSpec, load_spec

__all__ = ["Table", "TableSpec", "build", "load_spec", "records_folder", "save"]


def records_folder(name: str, results: Path, home: Path, given: Path | None = None) -> Path:
    """Where a table's records are read: where the user says, else beside the published table, else the store's."""
    if given is not None:
        return given
    published = Path(results) / name / "records"
    return published if published.is_dir() else Path(home) / "records"

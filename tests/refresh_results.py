"""Build every table of results/ again from the records beside it: python tests/refresh_results.py [NAME ...].

A table has its folder there when its records are published, its own or those of the table that it reads. What conf/ says of a recipe stands in
some of them, so a new recipe changes these.
"""

from __future__ import annotations

import sys
from pathlib import Path

from polm_bench.cli.tables import made
from polm_bench.paths import conf_dir
from polm_bench.report.spec import TableSpec, load_spec
from polm_bench.report.table import save

RESULTS = Path(__file__).resolve().parent.parent / "results"


def published() -> list[str]:
    """Names of the tables whose records are published."""
    names = sorted(path.stem for path in (conf_dir() / "table").glob("*.yaml"))
    return [name for name in names if records_of(load_spec(conf_dir(), name)).is_dir()]


def records_of(spec: TableSpec) -> Path:
    return RESULTS / (spec.records_of or spec.name) / "records"


def rebuild(name: str, results: Path) -> Path:
    """Publish a table in a folder from its committed records; returns the table's own."""
    spec = load_spec(conf_dir(), name)
    found = made(spec, records_of(spec))
    return save(spec, found.page, found.records, results)


if __name__ == "__main__":
    for table in sys.argv[1:] or published():
        print(rebuild(table, RESULTS))

"""`table` and `compare`."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

from polm_bench.cli.planning import forecast_table
from polm_bench.cli.printing import console, only_ours_on_stdout, print_json
from polm_bench.cli.sources import RESULTS, check_source, folder_of, records_of, source
from polm_bench.cli.sweep import Swept, sweep
from polm_bench.errors import PolmError
from polm_bench.paths import conf_dir

if TYPE_CHECKING:
    from polm_bench.report.page import Page
    from polm_bench.report.spec import TableSpec
    from polm_bench.report.table import Made

NOTHING = Swept([], [])


def table(arguments: Namespace) -> int:
    """Build a table from records; with `--run`, make the missing ones first. 1 when a cell that ran did not end well."""
    from polm_bench.report import table as tables

    if not arguments.run and (arguments.jobs > 1 or arguments.launch):
        raise PolmError("--jobs and --launch say how cells are run. Add --run, or leave them out.")
    if arguments.at is not None:
        from polm_bench.cli.at_cost import at

        return at(arguments)
    if arguments.against is not None:
        from polm_bench.cli.references import against

        return against(arguments)
    run, style = arguments.run, arguments.format
    spec = tables.load_spec(conf_dir(), arguments.name)
    check_source(run, arguments.records)
    with only_ours_on_stdout(style is not None) as out:
        swept = run_table(spec, arguments.jobs, arguments.launch) if run else NOTHING
        folder = folder_of(spec, run, arguments.records)
        found = made(spec, folder)
        if arguments.save:
            tables.save(spec, found.page, found.records, RESULTS)
        show(found.page, style, out, folder)
    return status_of(swept)


def made(spec: TableSpec, folder: Path) -> Made:
    """The table of a folder's records."""
    from polm_bench.report import table as tables

    return forecast_table(spec, folder) if spec.view == "forecast" else tables.read(spec, folder, conf_dir())


def run_table(spec: TableSpec, jobs: int, launch: Sequence[str] = ()) -> Swept:
    """Run the table's cells; where it asks for tuning, those whose recipe declares a search are tuned."""
    if spec.trials == 1:
        return sweep(spec.cells(), jobs, launch)
    if launch:
        raise PolmError("--launch: the cells of this table are tuned, which is done in this process. Leave it out.")
    from polm_bench.cli.tuning import tune_cells

    return tune_cells(spec.cells(), spec.trials, jobs)


def show(what: Page, style: str | None, out: TextIO, folder: Path) -> None:
    """Print a page on the terminal, with the folder of its records, or in the style that was asked for."""
    from polm_bench.report import page

    if style is not None:
        out.write(page.render(what, style))
    else:
        page.print_page(what, console())
        print(source(folder))


def status_of(swept: Swept) -> int:
    """1 when a cell could not be started or did not end well."""
    from polm_bench.report.records import read

    return 1 if swept.mistakes or any(read(path).status != "ok" for path in swept.records) else 0


def compare(arguments: Namespace) -> int:
    """Say why two records differ."""
    from polm_bench.report.compare import compare as compared
    from polm_bench.report.compare_console import print_comparison
    from polm_bench.report.records import find

    known = records_of(arguments.records)
    found = compared(find(known, arguments.first), find(known, arguments.second), arguments.items)
    if arguments.json:
        print_json(found.to_dict())
    else:
        print_comparison(found, console(), arguments.all, arguments.items)
    return 0

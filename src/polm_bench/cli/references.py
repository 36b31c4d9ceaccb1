"""`table --against`: figures of others beside those of our records."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import TYPE_CHECKING

from polm_bench.cli.printing import console, only_ours_on_stdout
from polm_bench.cli.sweep import Swept, sweep
from polm_bench.cli.tables import RESULTS
from polm_bench.errors import PolmError
from polm_bench.paths import conf_dir, home

if TYPE_CHECKING:
    from polm_bench.report.published import Reference


def against(arguments: argparse.Namespace, style: str | None) -> int:
    """Print published figures, ours, and a verdict by TOST; with `--run`, run the missing cells first."""
    from polm_bench.report import page
    from polm_bench.report.published import chosen
    from polm_bench.report.records import load, read
    from polm_bench.report.reproduced import reproduced_page
    from polm_bench.report.spec import load_spec
    from polm_bench.report.table import records_folder

    name, given = arguments.name, arguments.records
    if arguments.save:
        raise PolmError("--save writes the table itself, so it can't go with --against. Leave one of them out.")
    if arguments.run and given is not None:
        raise PolmError("--run writes records under POLM_HOME, so it can't go with --records. Leave one of them out.")
    if given is not None and not given.is_dir():
        raise PolmError(f"no folder {given} to read records from.")
    spec = load_spec(conf_dir(), name) if (conf_dir() / "table" / f"{name}.yaml").is_file() else None
    found = chosen(arguments.against, name, spec, conf_dir())
    with only_ours_on_stdout(style is not None) as out:
        swept = sweep(_cells(found), arguments.jobs) if arguments.run else Swept([], [])
        kept = home() / "records"
        folder = given or (kept if arguments.run or spec is None else records_folder(spec, RESULTS, home()))
        made = reproduced_page(name, found, load(folder))
        if style is not None:
            out.write(page.render(made, style))
        else:
            page.print_page(made, console())
    return 1 if swept.mistakes or any(read(path).status != "ok" for path in swept.records) else 0


def _cells(found: Sequence[Reference]) -> list[list[str]]:
    """Overrides of the cells that can be run and whose figures can be measured, each once, with the publication's seeds."""
    cells = [
        (*one.cell, f"seed={seed}")
        for one in found
        if one.cell is not None and one.quantity.metric is not None
        for seed in one.publication.seeds
    ]
    return [list(cell) for cell in dict.fromkeys(cells)]

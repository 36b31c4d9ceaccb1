"""`table --against`: figures of others beside those of our records."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import TYPE_CHECKING

from polm_bench.cli.printing import only_ours_on_stdout
from polm_bench.cli.sources import check_source, folder_of
from polm_bench.cli.sweep import sweep
from polm_bench.cli.tables import NOTHING, show, status_of
from polm_bench.errors import PolmError
from polm_bench.paths import conf_dir, home

if TYPE_CHECKING:
    from polm_bench.report.published import Reference


def against(arguments: argparse.Namespace) -> int:
    """Print published figures, ours, and a verdict by TOST; with `--run`, run the missing cells first."""
    from polm_bench.report.published import chosen
    from polm_bench.report.records import load
    from polm_bench.report.reproduced import reproduced_page
    from polm_bench.report.spec import load_spec

    name, given, style = arguments.name, arguments.records, arguments.format
    if arguments.save:
        raise PolmError("--save writes the table itself, so it can't go with --against. Leave one of them out.")
    check_source(arguments.run, given)
    spec = load_spec(conf_dir(), name) if (conf_dir() / "table" / f"{name}.yaml").is_file() else None
    found = chosen(arguments.against, name, spec, conf_dir())
    with only_ours_on_stdout(style is not None) as out:
        swept = sweep(_cells(found), arguments.jobs, arguments.launch) if arguments.run else NOTHING
        folder = (given or home() / "records") if spec is None else folder_of(spec, arguments.run, given)
        show(reproduced_page(name, found, load(folder)), style, out, folder)
    return status_of(swept)


def _cells(found: Sequence[Reference]) -> list[list[str]]:
    """Overrides of the cells that can be run and whose figures can be measured, each once, with the publication's seeds."""
    cells = [
        (*one.cell, f"seed={seed}")
        for one in found
        if one.cell is not None and one.quantity.metric is not None
        for seed in one.publication.seeds
    ]
    return [list(cell) for cell in dict.fromkeys(cells)]

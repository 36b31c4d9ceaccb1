"""`table --at`: the same records at one cost."""

from __future__ import annotations

import argparse

from polm_bench.cli.printing import only_ours_on_stdout
from polm_bench.cli.sources import check_source, folder_of
from polm_bench.cli.tables import NOTHING, run_table, show, status_of
from polm_bench.errors import PolmError
from polm_bench.paths import conf_dir


def at(arguments: argparse.Namespace) -> int:
    """Print a table at equal cost; with `--run`, run the missing cells first."""
    from polm_bench.report.at_cost import at_page, cost_of_words
    from polm_bench.report.facts import recipe_facts
    from polm_bench.report.records import load
    from polm_bench.report.spec import load_spec

    if arguments.save or arguments.against is not None:
        raise PolmError("--at shows a table at a cost and writes nothing: leave --save and --against out.")
    check_source(arguments.run, arguments.records)
    cost = cost_of_words(arguments.at)
    spec, style = load_spec(conf_dir(), arguments.name), arguments.format
    with only_ours_on_stdout(style is not None) as out:
        swept = run_table(spec, arguments.jobs, arguments.launch) if arguments.run else NOTHING
        folder = folder_of(spec, arguments.run, arguments.records)
        show(at_page(spec, load(folder, spec.record_names()), recipe_facts(conf_dir()), cost), style, out, folder)
    return status_of(swept)

"""`table --at`: the same records at one cost."""

from __future__ import annotations

import argparse

from polm_bench.cli.printing import console, only_ours_on_stdout
from polm_bench.cli.sweep import Swept, sweep
from polm_bench.cli.tables import RESULTS
from polm_bench.errors import PolmError
from polm_bench.paths import conf_dir, home


def at(arguments: argparse.Namespace, style: str | None) -> int:
    """Print a table at equal cost; with `--run`, run the missing cells first."""
    from polm_bench.report import page
    from polm_bench.report.at_cost import at_page, cost_of_words
    from polm_bench.report.facts import recipe_facts
    from polm_bench.report.records import load, read
    from polm_bench.report.spec import load_spec
    from polm_bench.report.table import records_folder

    given = arguments.records
    if arguments.save or arguments.against is not None:
        raise PolmError("--at shows a table at a cost and writes nothing: leave --save and --against out.")
    if arguments.run and given is not None:
        raise PolmError("--run writes records under POLM_HOME, so it can't go with --records. Leave one of them out.")
    if given is not None and not given.is_dir():
        raise PolmError(f"no folder {given} to read records from.")
    cost = cost_of_words(arguments.at)
    spec = load_spec(conf_dir(), arguments.name)
    with only_ours_on_stdout(style is not None) as out:
        swept = sweep(spec.cells(), arguments.jobs) if arguments.run else Swept([], [])
        folder = home() / "records" if arguments.run else records_folder(spec, RESULTS, home(), given)
        made = at_page(spec, load(folder, spec.record_names()), recipe_facts(conf_dir()), cost)
        if style is not None:
            out.write(page.render(made, style))
        else:
            page.print_page(made, console())
    return 1 if swept.mistakes or any(read(path).status != "ok" for path in swept.records) else 0

"""`power`: what it takes to see a difference. `variance`: what scores vary by. `table forecast`: what stages took beside what was expected of them."""

from __future__ import annotations

import math
from argparse import Namespace
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from polm_bench.cli.printing import console
from polm_bench.cli.sources import records_of
from polm_bench.errors import PolmError

if TYPE_CHECKING:
    from polm_bench.report.page import Page
    from polm_bench.report.records import Record
    from polm_bench.report.spec import TableSpec
    from polm_bench.report.table import Made
    from polm_bench.run.hindsight import Past


def power(arguments: Namespace) -> int:
    """Print how many items and seeds show a difference, from the variance in the records."""
    from polm_bench.report.power import forecasts, power_page

    effect, wanted = arguments.effect, arguments.power
    if not 0 < effect < math.inf:
        raise PolmError(
            f"--effect {effect}: a difference to be seen is above zero, in the score's own unit (0.02 is two points)."
        )
    if not 0.05 < wanted < 1:
        raise PolmError(f"--power {wanted}: a chance to see it lies between 0.05 and 1; 0.8 is usual.")
    known = records_of(arguments.records)
    found = forecasts(known, effect, wanted)
    if not found:
        raise PolmError(
            f"no method in {known[0].path.parent} has two seeds beside the base, so the variance is unknown. "
            "Run one with several: polm-bench run -m +recipe=dpo seed=0,1,2"
        )
    return _show(power_page(found, effect, wanted), arguments.format)


def variance(arguments: Namespace) -> int:
    """Print how much of each score's variance is the training seed's, the items' and decoding's."""
    from polm_bench.report.variance import splits, variance_page

    known = records_of(arguments.records)
    found = splits(known, arguments.recipe)
    if not found:
        asked = f"of {', '.join(arguments.recipe)} " if arguments.recipe else ""
        raise PolmError(
            f"no method {asked}in {known[0].path.parent} has two training seeds or two decodings, so nothing can be split. "
            "Run one with several: polm-bench run -m +recipe=dpo seed=0,1 suite.seed=1,2"
        )
    return _show(variance_page(found), arguments.format)


def _show(made: Page, form: str | None) -> int:
    from polm_bench.report import page

    if form:
        print(page.render(made, form), end="")
    else:
        page.print_page(made, console())
    return 0


def forecast_table(spec: TableSpec, folder: Path) -> Made:
    """What would have been expected of every stage in a folder of records, and what it took."""
    from polm_bench.report.forecast import Looked, forecast_page
    from polm_bench.report.records import load
    from polm_bench.report.table import Made
    from polm_bench.run.hindsight import hindsight

    records = load(folder)
    cells = list(_pasts(records))
    looks = [
        Looked(
            cell=look.cell,
            key=look.key,
            kind=look.kind,
            seconds=look.ledger["wall_seconds"],
            expected_seconds=look.expected.seconds,
            seconds_basis=look.expected.basis.get("seconds"),
            memory=look.ledger.get("peak_device_bytes") or look.ledger["peak_host_bytes"],
            expected_memory=None if basis == "at least" else look.expected.memory_bytes,
            memory_basis=basis,
        )
        for look in hindsight(cells)
        for basis in [look.expected.basis.get("memory_bytes")]
    ]
    page = forecast_page(spec, looks, len(records) - len(cells))
    return Made(spec, replace(page, records=records))


def _pasts(records: Sequence[Record]) -> Iterator[Past]:
    """Records with the stages of their plans; one whose configuration this version does not read is left out."""
    from polm_bench.config import again
    from polm_bench.run.hindsight import past

    for record in records:
        try:
            plan = again(record.cell)
        except PolmError:
            continue
        yield past(record.data, plan.stages(), plan.folders(), plan.launch)

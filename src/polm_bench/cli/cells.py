"""`run`."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from polm_bench.cli.beside import beside, launch_of
from polm_bench.cli.printing import console, only_ours_on_stdout, print_json
from polm_bench.cli.remaining import Remaining
from polm_bench.errors import PolmError
from polm_bench.paths import home
from polm_bench.settings import SWEEP

if TYPE_CHECKING:
    from polm_bench.cell import Plan
    from polm_bench.report.records import Record
    from polm_bench.run.elsewhere import Elsewhere
    from polm_bench.run.execute import Reporter


def run(overrides: Sequence[str], as_json: bool) -> int:
    """Run every cell that the overrides describe; 1 when one of them did not end well."""
    from polm_bench.report.records import read

    made: dict[int, Record] = {}
    with only_ours_on_stdout(as_json) as out:
        for number, path in _run_cells(overrides):
            made[number] = read(path)
            if not as_json:
                print_record(made[number])
        if as_json and made:
            from polm_bench.report.console import result_dict

            results = [result_dict(made[number]) for number in sorted(made)]
            print_json(results if set(SWEEP) & set(overrides) else results[0], out)
    return 1 if any(record.status != "ok" for record in made.values()) else 0


def _run_cells(overrides: Sequence[str]) -> Iterator[tuple[int, Path]]:
    """Number and record of each cell as it ends: in this process and in turn, or where `launch` says.

    Raises PolmError for the first that could not be started; elsewhere, after the others have ended.
    """
    from polm_bench.config import cells
    from polm_bench.run.cell import want

    place = home()
    # The libraries' own bars run into ours on a terminal, and fill a log file; they read this when they are imported.
    os.environ.setdefault("TQDM_DISABLE", "1")
    plans = cells(overrides)
    launch = launch_of(plans)
    want(place, plans)
    yield from _in_turn(plans, place) if launch is None else _elsewhere(plans, launch, place)


def _in_turn(plans: Sequence[Plan], place: Path) -> Iterator[tuple[int, Path]]:
    from polm_bench.run.progress import reporter

    for number, plan in enumerate(plans):
        shown = reporter()
        try:
            path = perform(plan, place, shown)
        finally:
            shown.close()
        yield number, path


def _elsewhere(plans: Sequence[Plan], launch: Elsewhere, place: Path) -> Iterator[tuple[int, Path]]:
    from polm_bench.run.cell import finished

    missing: list[int] = []
    for number, plan in enumerate(plans):
        if path := finished(plan, place):
            yield number, path
        else:
            missing.append(number)
    lacking = [plans[number] for number in missing]
    mistakes: list[str] = []
    for position, result in beside(lacking, launch, place, Remaining(lacking, place, launch.at_once())):
        if isinstance(result, Path):
            yield missing[position], result
        else:
            mistakes.append(f"{' '.join(lacking[position].overrides)}: {result}")
    if mistakes:
        raise PolmError(f"{len(mistakes)} of {len(plans)} cells have no record. {' '.join(mistakes)}")


def perform(plan: Plan, place: Path, shown: Reporter) -> Path:
    """Run one cell, write its record and mirror it."""
    from polm_bench.run.cell import run_cell
    from polm_bench.run.track import track

    path = run_cell(plan, place, shown)
    if plan.track == "mlflow":
        track(path, place)
    return path


def print_record(record: Record) -> None:
    """Scores beside the base row, intervals and cost."""
    from polm_bench.report.console import print_result

    print_result(record, console())

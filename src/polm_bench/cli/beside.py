"""Cells in processes that `launch` says: the parent plans, hands out, mirrors into MLflow and tells the progress."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from polm_bench.cli.remaining import Remaining
from polm_bench.errors import BadOverride, PolmError, StoreError

if TYPE_CHECKING:
    from polm_bench.cell import Plan
    from polm_bench.run.elsewhere import Elsewhere, Ended, Errand


def launch_of(plans: Sequence[Plan]) -> Elsewhere | None:
    """Who runs these cells; None: this process, in turn. Raises BadOverride where they don't agree."""
    from polm_bench.run.elsewhere import Elsewhere

    wanted = next((plan.launch for plan in plans if isinstance(plan.launch, Elsewhere)), None)
    if wanted is not None and any(plan.launch != wanted for plan in plans):
        raise BadOverride("launch: one sweep has one launch. Give the cells of another one a command of their own.")
    return wanted


def beside(plans: Sequence[Plan], launch: Elsewhere, place: Path, left: Remaining) -> Iterator[tuple[int, Path | str]]:
    """Number and record of each cell as it ends, or why it was not started.

    The workers write records; only this process mirrors them, so that a database has one writer. Raises StoreError when the store can't be written.
    """
    from polm_bench.run.elsewhere import Errand
    from polm_bench.run.track import track

    home, folder = str(place.resolve()), str(Path.cwd())
    errands = [Errand(number, plan.overrides, home, folder, launch.quiet) for number, plan in enumerate(plans)]
    for ended in launch.each(work, errands) if errands else ():
        plan = plans[ended.number]
        left.say(plan, " has ended")
        if ended.for_all:
            raise StoreError(str(ended.mistake))
        if ended.record is None:
            yield ended.number, str(ended.mistake)
            continue
        path = Path(ended.record)
        if plan.track == "mlflow":
            track(path, place)
        yield ended.number, path


def work(errand: Errand) -> Ended:
    """One cell in a worker."""
    from polm_bench.config import plan
    from polm_bench.run.cell import run_cell
    from polm_bench.run.elsewhere import Elsewhere, Ended
    from polm_bench.run.progress import PlainReporter, SilentReporter

    os.chdir(errand.folder)
    os.environ["POLM_HOME"] = errand.home
    try:
        planned = plan(errand.words)
        if isinstance(planned.launch, Elsewhere):
            planned = replace(planned, launch=planned.launch.inside())
        path = run_cell(planned, Path(errand.home), SilentReporter() if errand.quiet else PlainReporter())
    except PolmError as mistake:
        return Ended(errand.number, None, str(mistake), isinstance(mistake, StoreError))
    return Ended(errand.number, str(path))

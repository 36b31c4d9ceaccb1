"""All cells of a table: what is done is looked up, what fails is a row, and how long it may still take is told."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from polm_bench.cli.cells import perform
from polm_bench.errors import PolmError, StoreError
from polm_bench.paths import home

if TYPE_CHECKING:
    from concurrent.futures import Future

    from polm_bench.config import Plan
    from polm_bench.graph import Stage


class Swept(NamedTuple):
    """What became of a table's cells."""

    records: list[Path]
    mistakes: list[str]  # cells that could not be planned or started, and why


def sweep(cells: Sequence[Sequence[str]], jobs: int = 1) -> Swept:
    """Run the cells that the store lacks: in turn, or `jobs` at a time in processes of their own that divide the cores.

    A cell that ends badly has a record that says so, and is tried again the next time; one that can't be started is told at the end.
    Raises PolmError when none can be planned, and StoreError when the store can't be written.
    """
    from polm_bench.run.cell import finished

    place = home()
    os.environ.setdefault("TQDM_DISABLE", "1")  # the libraries' own bars run into ours; read when they are imported
    plans, mistakes = _planned(cells)
    known = [finished(plan, place) for plan in plans]
    missing = [plan for plan, path in zip(plans, known, strict=True) if path is None]
    work = Work(missing, place, jobs)
    results = iter(_beside(missing, work, place, jobs) if jobs > 1 else _in_turn(missing, work, place))
    made: list[Path] = []
    for plan, path in zip(plans, known, strict=True):
        result = path or next(results)
        if isinstance(result, Path):
            made.append(result)
        else:
            mistakes.append(f"{' '.join(plan.overrides)}: {result}")
    asked = [stage.key for plan in plans for stage in plan.stages()]
    tell(
        f"{len(cells)} cells: {len(made)} have records, {len(mistakes)} could not be started. They ask for {len(asked)} stages, "
        f"{len(set(asked))} different ones; this run made {work.done()} in {duration(work.seconds())}."
    )
    for line in mistakes:
        tell(f"not started: {line}")
    return Swept(made, mistakes)


def _in_turn(plans: Sequence[Plan], work: Work, place: Path) -> list[Path | str]:
    """The record of each cell, or why it was not started."""
    from polm_bench.run.progress import reporter

    results: list[Path | str] = []
    for plan in plans:
        work.say(plan)
        shown = reporter()
        try:
            results.append(perform(plan, place, shown))
        except StoreError:
            raise
        except PolmError as mistake:
            results.append(str(mistake))
        finally:
            shown.close()
    return results


def _beside(plans: Sequence[Plan], work: Work, place: Path, jobs: int) -> list[Path | str]:
    """The same by `jobs` processes, each of which keeps its imports from cell to cell; the store's locks keep shared stages single."""
    from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, wait
    from concurrent.futures.process import BrokenProcessPool
    from multiprocessing import get_context

    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // jobs)))
    waiting = list(enumerate(plans))
    running: dict[Future[Path | str], int] = {}
    results: dict[int, Path | str] = {}
    with ProcessPoolExecutor(jobs, get_context("spawn")) as pool:
        while waiting or running:
            while waiting and len(running) < jobs:
                number, plan = waiting.pop(0)
                work.say(plan)
                running[pool.submit(_work, list(plan.overrides), place)] = number
            for done in wait(running, return_when=FIRST_COMPLETED).done:
                try:
                    results[running.pop(done)] = done.result()
                except BrokenProcessPool as broken:
                    raise PolmError(
                        "a worker process died, perhaps killed for its memory. What is finished is kept; run again, with fewer --jobs."
                    ) from broken
    return [results[number] for number in range(len(plans))]


def _work(words: list[str], place: Path) -> Path | str:
    """One cell in a worker: its record, or why it was not started."""
    from polm_bench.config import plan
    from polm_bench.run.progress import SilentReporter

    try:
        return perform(plan(words), place, SilentReporter())
    except StoreError as broken:
        raise StoreError(str(broken)) from None  # of a form that can be sent to the parent
    except PolmError as mistake:
        return str(mistake)


class Work:
    """Cells still to run, and a forecast from what like stages took in this store."""

    def __init__(self, plans: Sequence[Plan], place: Path, jobs: int) -> None:
        from polm_bench.run.cell import store_of

        self.store = store_of(place)
        self.total, self.number, self.jobs = len(plans), 0, jobs
        self.started = time.monotonic()
        self.stages: dict[str, Stage] = {}
        for plan in plans:
            for goal in plan.goals():
                self._need(goal)

    def _need(self, stage: Stage) -> None:
        """Add a stage that the store lacks, and what it needs; what only finished stages need is not run again."""
        if stage.key not in self.stages and not self.store.has(stage):
            self.stages[stage.key] = stage
            for parent in stage.inputs:
                self._need(parent)

    def seconds(self) -> float:
        return time.monotonic() - self.started

    def done(self) -> int:
        """How many of the stages that were missing are there now."""
        return sum(self.store.has(stage) for stage in self.stages.values())

    def say(self, plan: Plan) -> None:
        """One line before a cell: which it is, what is done, how long the rest may take."""
        self.number += 1
        left = [stage for stage in self.stages.values() if not self.store.has(stage)]
        line = f"cell {self.number} of {self.total}: {plan.names['recipe']} seed {plan.seed}; "
        line += f"{len(self.stages) - len(left)} of {len(self.stages)} stages made, {duration(self.seconds())} gone"
        if (rest := self._rest(left)) is not None:
            line += f", about {duration(rest)} to go"
        tell(line)

    def _rest(self, left: Sequence[Stage]) -> float | None:
        """Seconds that these stages may take; a kind that this store has never run counts as the mean of the others."""
        from polm_bench.run.forecast import forecast

        told = [one.seconds for one in forecast(left, self.store).values()]
        known = [seconds for seconds in told if seconds is not None]
        return sum(known) / len(known) * len(told) / self.jobs if known else None


def duration(seconds: float) -> str:
    """`42 s`, `12 min`, `1 h 20 min`."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60} min"


def tell(line: str) -> None:
    """A line on stderr."""
    sys.stderr.write(f"{line}\n")
    sys.stderr.flush()


def _planned(cells: Sequence[Sequence[str]]) -> tuple[list[Plan], list[str]]:
    """The cells' plans, and what keeps the others from having one. Raises the first mistake when none can be planned."""
    from polm_bench.config import plan

    plans: list[Plan] = []
    mistakes: list[tuple[str, PolmError]] = []
    for number, words in enumerate(cells, 1):
        if number % 50 == 0:
            tell(f"planned {number} of {len(cells)} cells")
        try:
            plans.append(plan(words))
        except PolmError as mistake:
            mistakes.append((" ".join(words), mistake))
    if mistakes and not plans:
        raise mistakes[0][1]
    return plans, [f"{words}: {mistake}" for words, mistake in mistakes]

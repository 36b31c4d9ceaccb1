"""All cells of a table: what is done is looked up, what fails is a row, and how long it may still take is told."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from polm_bench.cli.beside import beside, launch_of
from polm_bench.cli.cells import perform
from polm_bench.cli.printing import tell
from polm_bench.cli.remaining import Remaining, duration
from polm_bench.errors import PolmError, StoreError
from polm_bench.paths import home

if TYPE_CHECKING:
    from polm_bench.cell import Plan


class Swept(NamedTuple):
    """What became of a table's cells."""

    records: list[Path]
    mistakes: list[str]  # cells that could not be planned or started, and why


def sweep(cells: Sequence[Sequence[str]], jobs: int = 1, launch: Sequence[str] = ()) -> Swept:
    """Run the cells that the store lacks: `jobs` at a time on this machine, or as the words of `launch` say (`slurm launch.gpus=1`).

    A cell that ends badly has a record that says so, and is tried again the next time; one that can't be started is told at the end.
    Raises PolmError when none can be planned or both are asked for, and StoreError when the store can't be written.
    """
    from polm_bench.run.cell import finished
    from polm_bench.run.elsewhere import Joblib

    place = home()
    os.environ.setdefault("TQDM_DISABLE", "1")  # the libraries' own bars run into ours; read when they are imported
    if jobs > 1 and launch:
        raise PolmError("--jobs runs cells on this machine and --launch elsewhere. Leave one of them out.")
    given = [word if "=" in word else f"launch={word}" for word in launch]
    plans, mistakes = _planned([[*words, *given] for words in cells])
    known = [finished(plan, place) for plan in plans]
    missing = [plan for plan, path in zip(plans, known, strict=True) if path is None]
    who = Joblib(name="joblib", jobs=jobs) if jobs > 1 else launch_of(missing)
    left = Remaining(missing, place, who.at_once() if who else 1)
    results = dict(beside(missing, who, place, left) if who else _in_turn(missing, place, left))
    in_order = iter(sorted(results.items()))
    made: list[Path] = []
    for plan, path in zip(plans, known, strict=True):
        result = path or next(in_order)[1]
        if isinstance(result, Path):
            made.append(result)
        else:
            mistakes.append(f"{' '.join(plan.overrides)}: {result}")
    asked = [stage.key for plan in plans for stage in plan.stages()]
    tell(
        f"{len(cells)} cells: {len(made)} have records, {len(mistakes)} could not be started. They ask for {len(asked)} stages, "
        f"{len(set(asked))} different ones; this run made {left.done()} in {duration(left.seconds())}."
    )
    for line in mistakes:
        tell(f"not started: {line}")
    return Swept(made, mistakes)


def _in_turn(plans: Sequence[Plan], place: Path, left: Remaining) -> Iterator[tuple[int, Path | str]]:
    """Number and record of each cell, or why it was not started."""
    from polm_bench.run.progress import reporter

    for number, plan in enumerate(plans):
        left.say(plan)
        shown = reporter()
        try:
            yield number, perform(plan, place, shown)
        except StoreError:
            raise
        except PolmError as mistake:
            yield number, str(mistake)
        finally:
            shown.close()


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

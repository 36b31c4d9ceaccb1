"""What is left of a sweep, and how long it may take."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from polm_bench.cli.printing import tell

if TYPE_CHECKING:
    from polm_bench.cell import Plan
    from polm_bench.graph import Stage
    from polm_bench.run.store import Store


class Remaining:
    """Cells still to run; their stages are forecast once, and weighed by that."""

    def __init__(self, plans: Sequence[Plan], place: Path, at_once: int | None = 1) -> None:
        from polm_bench.run.cell import store_of
        from polm_bench.run.forecast import forecast

        self.store = store_of(place)
        self.total, self.number, self.at_once = len(plans), 0, at_once
        self.started = time.monotonic()
        self.stages = lacking(plans, self.store)
        folders = {key: folder for plan in plans for key, folder in plan.folders().items()}
        told = {key: one.seconds for key, one in forecast([*self.stages.values()], self.store, folders=folders).items()}
        known = [seconds for seconds in told.values() if seconds is not None]
        usual = sum(known) / len(known) if known else 1.0
        self.weights = {key: usual if seconds is None else seconds for key, seconds in told.items()}
        self.foretold = bool(known)

    def seconds(self) -> float:
        return time.monotonic() - self.started

    def done(self) -> int:
        """How many of the stages that were missing are there now."""
        return sum(self.store.has(stage) for stage in self.stages.values())

    def say(self, plan: Plan, how: str = "") -> None:
        """One line for a cell: which it is, what is done, how long the rest may take."""
        self.number += 1
        left = [stage for stage in self.stages.values() if not self.store.has(stage)]
        line = f"cell {self.number} of {self.total}: {plan.names['recipe']} seed {plan.seed}{how}; "
        line += f"{len(self.stages) - len(left)} of {len(self.stages)} stages made, {duration(self.seconds())} gone"
        if (rest := self._rest(left)) is not None:
            line += f", about {duration(rest)} to go"
        tell(line)

    def _rest(self, left: Sequence[Stage]) -> float | None:
        """Seconds that these stages may take: at the pace of those that this run has made; before the first, as forecast."""
        ahead = sum(self.weights[stage.key] for stage in left)
        made = sum(self.weights.values()) - ahead
        if made > 0:
            return self.seconds() * ahead / made
        return ahead / min(self.at_once, self.total) if self.foretold and self.at_once else None


def lacking(plans: Sequence[Plan], store: Store) -> dict[str, Stage]:
    """Stages to run so that the store has what the cells are made of, by key; what only finished stages need is not run again."""
    found: dict[str, Stage] = {}

    def need(stage: Stage) -> None:
        if stage.key not in found and not store.has(stage):
            found[stage.key] = stage
            for parent in stage.inputs:
                need(parent)

    for plan in plans:
        for goal in plan.goals():
            need(goal)
    return found


def duration(seconds: float) -> str:
    """`42 s`, `12 min`, `1 h 20 min`."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60} min"

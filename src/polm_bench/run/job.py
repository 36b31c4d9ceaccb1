"""What a running stage sees of the outside."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path

from polm_bench.graph import Stage
from polm_bench.run.launch import Launch
from polm_bench.run.ledger import Ledger

Progress = Callable[[float, float, str], None]
"""Called with (done, total, what) as work goes on."""


def silent(done: float, total: float, what: str) -> None:
    """Progress nobody looks at."""


class Job:
    """One execution of one stage."""

    def __init__(
        self,
        out: Path,
        scratch: Path,
        inputs: Mapping[str, Path],
        launch: Launch,
        device: str,
        progress: Progress = silent,
    ) -> None:
        self.out = out
        self.scratch = scratch
        self.launch = launch
        self.device = device
        self.progress = progress
        self.ledger = Ledger()
        self.curve_points: list[dict[str, float]] = []
        self.stoppable = False  # inside training that can write a checkpoint and stop
        self.stop_asked = False  # it should
        self.rank, self.processes = 0, 1  # which one this is of the processes that share the stage's work
        self._inputs = inputs

    def path(self, stage: Stage) -> Path:
        """Output folder of an input stage."""
        return self._inputs[stage.key]

    def curve(self, step: int, **values: float) -> None:
        """Add a point to the stage's curves."""
        self.curve_points.append({"step": step, **values})

    def spent_before(self) -> float:
        """Wall seconds that earlier, killed attempts spent up to their last checkpoint."""
        spent = self.scratch / "spent.json"
        return float(json.loads(spent.read_text())["wall_seconds"]) if spent.exists() else 0.0

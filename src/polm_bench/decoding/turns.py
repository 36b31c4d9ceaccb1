"""Several processes that share one piece of work: each takes every n-th batch, and all of them know every result."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import Any, NamedTuple, TypeVar

from accelerate import PartialState
from accelerate.utils import broadcast_object_list, gather_object

from polm_bench.errors import StoreError

PATIENCE = timedelta(weeks=1)
"""For a process whose batches take longer; whoever started the processes ends them all when one of them is lost."""

Batch = TypeVar("Batch")
Result = TypeVar("Result")


class Turns(NamedTuple):
    """Which of how many processes this is."""

    rank: int = 0
    processes: int = 1

    @classmethod
    def of(cls, job: Any) -> Turns:
        """Those that share a job; they meet here. Raises StoreError where there are others than the job says."""
        if job.processes > 1:
            state = PartialState(cpu=job.device == "cpu", timeout=PATIENCE)
            recount(job, state.num_processes, state.process_index)
        return cls(job.rank, job.processes)

    def everyone(self, value: Result) -> list[Result]:
        """What each process says, in their order; all must ask."""
        return gather_object([value]) if self.processes > 1 else [value]

    def agreed(self, value: Result) -> Result:
        """What the first process says; all must ask."""
        return broadcast_object_list([value])[0] if self.processes > 1 else value

    def mine(self, batches: Sequence[Batch]) -> Sequence[Batch]:
        """The batches that this process takes."""
        return batches[self.rank :: self.processes]

    def over(self, batches: Sequence[Batch], work: Callable[[Batch], Result]) -> list[Result]:
        """The result of every batch, in their order."""
        parts = self.everyone([work(batch) for batch in self.mine(batches)])
        return [parts[i % self.processes][i // self.processes] for i in range(len(batches))]

    def size(self, rows: int, most: int) -> int:
        """Rows of a batch at which each process has one, where the results of a row do not depend on its batch but for rounding."""
        return most if self.processes == 1 else max(1, min(most, math.ceil(rows / self.processes)))


ALONE = Turns()


def recount(job: Any, processes: int, rank: int) -> None:
    """Some launchers quietly start one process, or several that know nothing of each other. Raises StoreError for those."""
    if (processes, rank) != (job.processes, job.rank):
        raise StoreError(
            f"{job.processes} processes were to share this stage, but Accelerate sees {processes}. Start polm-bench itself, with "
            "launch=multi_gpu launch.num_processes=N, and not through torchrun or accelerate launch."
        )

"""Cells in processes of their own: what a launch gives to whom, and several at a time on this machine.

The parent plans all cells and gives away those that the store lacks; the store's locks keep shared stages single wherever the cells run.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, NamedTuple

from pydantic import Field
from pydantic.dataclasses import dataclass

from polm_bench.errors import PolmError
from polm_bench.graph import FORBID
from polm_bench.run.launch import Launch

if TYPE_CHECKING:
    from filelock import FileLock

IDLE_SECONDS = 5  # that a worker waits for another cell


class Errand(NamedTuple):
    """One cell for a worker."""

    number: int
    words: tuple[str, ...]
    home: str
    folder: str  # where paths among the words start
    quiet: bool  # whether the worker writes to the parent's stderr


class Ended(NamedTuple):
    """What became of an errand: a record, or why there is none."""

    number: int
    record: str | None
    mistake: str | None = None
    for_all: bool = False  # the store can't be written: nobody else will do better


Work = Callable[[Errand], Ended]


@dataclass(frozen=True, config=FORBID)
class Elsewhere(Launch):
    """How stages run, and who runs the cells."""

    quiet: ClassVar[bool] = False

    def each(self, work: Work, errands: Sequence[Errand]) -> Iterator[Ended]:
        """How the errands end, as they end."""
        raise TypeError(f"{type(self).__name__} does not say who runs cells")

    def at_once(self) -> int | None:
        """How many cells run at a time, where that is known."""
        raise TypeError(f"{type(self).__name__} does not say how many cells it runs")

    def inside(self) -> Launch:
        """How the cell runs where it was given to."""
        return Launch(**{one.name: getattr(self, one.name) for one in fields(Launch)})


@dataclass(frozen=True, config=FORBID)
class Joblib(Elsewhere):
    """Several cells at a time on this machine; each has its share of the cores, or devices of its own."""

    quiet: ClassVar[bool] = True
    jobs: int | None = Field(default=None, ge=1)  # None: one per device, or per core where there is none

    def each(self, work: Work, errands: Sequence[Errand]) -> Iterator[Ended]:
        """Raises PolmError when a worker dies: what it was at is not known, and the others are ended."""
        from concurrent.futures.process import BrokenProcessPool
        from tempfile import TemporaryDirectory

        from joblib import Parallel, delayed

        jobs = min(self.at_once(), len(errands))
        with TemporaryDirectory(prefix="polm-places-") as folder:
            own = [device_of(place, self._devices(), self.num_processes) for place in range(jobs)]
            workers = {"initializer": _take_place, "initargs": (Path(folder), own), "idle_worker_timeout": IDLE_SECONDS}
            pool = Parallel(
                jobs, "loky", "generator_unordered", pre_dispatch=jobs, batch_size=1, **workers if jobs > 1 else {}
            )
            try:
                yield from pool(delayed(work)(errand) for errand in errands)
            except BrokenProcessPool as broken:
                raise PolmError(
                    "a worker process died, perhaps killed for its memory. What is finished is kept; run again, with fewer cells at a time."
                ) from broken

    def at_once(self) -> int:
        return self.jobs or len(self._devices()) // self.num_processes or os.cpu_count() or 1

    def _devices(self) -> list[str]:
        return visible_devices() if self.device == "auto" else []


def device_of(place: int, devices: Sequence[str], count: int = 1) -> dict[str, str]:
    """What of the environment gives the worker at a place `count` devices that no other has, as long as there are enough; else in turn."""
    if not devices:
        return {}
    groups = max(1, len(devices) // count)
    first = place % groups * count
    return {"CUDA_VISIBLE_DEVICES": ",".join(devices[first : first + count])}


def visible_devices() -> list[str]:
    """Names of the devices that this process may use."""
    given = os.environ.get("CUDA_VISIBLE_DEVICES")
    if given is not None:
        return [name for name in given.split(",") if name]
    import torch

    return [str(number) for number in range(torch.cuda.device_count())]


_places: list[FileLock] = []  # locks that this process keeps as long as it lives


def _take_place(folder: Path, own: Sequence[dict[str, str]]) -> None:
    """Take the first free place of a machine's workers, and the devices that belong to it."""
    from filelock import FileLock, Timeout

    for number, environment in enumerate(own):
        lock = FileLock(folder / str(number))
        try:
            lock.acquire(blocking=False)
        except Timeout:
            continue
        _places.append(lock)
        os.environ.update(environment)
        return

"""Cells in processes of their own: beside each other on this machine, on a Ray cluster, or as jobs of Slurm.

The parent plans all cells and gives away those that the store lacks; the store's locks keep shared stages single wherever the cells run.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import fields
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal, NamedTuple

from pydantic import Field
from pydantic.dataclasses import dataclass

from polm_bench.errors import BadOverride, MissingExtra, PolmError
from polm_bench.graph import FORBID
from polm_bench.run.launch import Launch

if TYPE_CHECKING:
    from filelock import FileLock
    from submitit import Job
    from submitit.helpers import DelayedSubmission

POLL_SECONDS = 1.0
IDLE_SECONDS = 5  # that a worker waits for another cell
RETRIES = 2  # of a cell whose machine went away; its stages go on from their checkpoints


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
        raise NotImplementedError

    def at_once(self) -> int | None:
        """How many cells run at a time, where that is known."""
        raise NotImplementedError

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


@dataclass(frozen=True, config=FORBID)
class Ray(Elsewhere):
    """Cells as tasks of a Ray cluster, or of one that is started here and ends with the command."""

    address: str | None = None  # "auto", or ray://host:port; None starts one on this machine
    cpus: float = Field(default=1, gt=0)  # of a cell
    gpus: float | None = Field(
        default=None, ge=0
    )  # of a cell; None: as many as it has processes, where the cluster has any

    def each(self, work: Work, errands: Sequence[Errand]) -> Iterator[Ended]:
        """Raises MissingExtra, BadOverride for more than this machine has, and PolmError when there is no cluster at the address."""
        _need("ray", "launch=ray")
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # it would tell its makers
        import ray
        from ray.exceptions import RayError

        here = {"include_dashboard": False} if self.address is None else {}
        try:
            ray.init(self.address, log_to_driver=False, logging_level="error", **here)
        except (OSError, RuntimeError) as error:
            raise PolmError(f"launch.address={self.address}: {error}") from error
        try:
            task = ray.remote(**self._resources(ray.cluster_resources()), max_retries=RETRIES)(work)
            running = {task.remote(errand): errand for errand in errands}
            while running:
                (first, *_), _ = ray.wait(list(running))
                errand = running.pop(first)
                try:
                    yield ray.get(first)
                except RayError as error:
                    yield Ended(errand.number, None, f"Ray lost it: {_line(error)}")
        finally:
            ray.shutdown()

    def at_once(self) -> int | None:
        return max(1, int((os.cpu_count() or 1) // self.cpus)) if self.address is None else None

    def _resources(self, has: dict[str, float]) -> dict[str, float]:
        """What a cell asks of the cluster, which gives it devices of its own. Raises BadOverride for what a cluster of one machine hasn't."""
        wanted = self.gpus
        if wanted is None:
            wanted = self.num_processes if has.get("GPU") and self.device == "auto" else 0
        for name, resource, count in (("cpus", "CPU", self.cpus), ("gpus", "GPU", wanted)):
            if self.address is None and count > has.get(resource, 0):
                raise BadOverride(
                    f"launch.{name}={count:g}: Ray sees {has.get(resource, 0):g} here, so no cell would start"
                )
        return {"num_cpus": self.cpus, "num_gpus": wanted}


@dataclass(frozen=True, config=FORBID)
class Slurm(Elsewhere):
    """Each cell as a job of Slurm; POLM_HOME has to lie where all nodes see it."""

    cluster: Literal["slurm", "local"] = "slurm"  # local: the same jobs as processes here, to try things out
    partition: str | None = None
    account: str | None = None
    minutes: int = Field(
        default=240, ge=1
    )  # of a job; one that runs out is put in the queue again and goes on from its checkpoints
    cpus: int = Field(default=4, ge=1)
    gpus: int = Field(default=0, ge=0)
    memory_gb: float | None = Field(default=None, gt=0)
    jobs: int = Field(default=32, ge=1)  # at a time
    options: dict[str, Any] = Field(default_factory=dict)  # other options of sbatch, by their long names

    def each(self, work: Work, errands: Sequence[Errand]) -> Iterator[Ended]:
        """Raises MissingExtra, and PolmError when Slurm takes no jobs."""
        _need("submitit", "launch=slurm", "slurm")
        import logging

        from submitit import AutoExecutor

        logging.getLogger("submitit").setLevel(logging.ERROR)  # it warns at every look where Slurm keeps no accounts

        try:
            executor = AutoExecutor(Path(errands[0].home) / "slurm", cluster=self.cluster)
            executor.update_parameters(**self._parameters())
            with executor.batch():
                jobs = [executor.submit(Resumed(work, errand)) for errand in errands]
        except (OSError, RuntimeError) as error:  # no sbatch, or what it says
            raise PolmError(f"launch=slurm: {_line(error)}") from error
        running = dict(zip((errand.number for errand in errands), jobs, strict=True))
        while running:
            for number, job in [(number, job) for number, job in running.items() if job.done()]:
                del running[number]
                yield _result(number, job)
            time.sleep(POLL_SECONDS if running else 0)

    def at_once(self) -> int | None:
        return self.jobs if self.cluster == "slurm" else None

    def _parameters(self) -> dict[str, Any]:
        own = {
            "slurm_job_name": "polm-bench",
            "slurm_partition": self.partition,
            "slurm_account": self.account,
            "slurm_array_parallelism": self.jobs,
            "slurm_additional_parameters": self.options,
            "timeout_min": self.minutes,
            "cpus_per_task": self.cpus,
            "gpus_per_node": self.gpus or None,
            "mem_gb": self.memory_gb,
        }
        return {name: value for name, value in own.items() if value is not None}


class Resumed:
    """An errand that goes back into the queue when Slurm takes its node away or its time is over."""

    def __init__(self, work: Work, errand: Errand) -> None:
        self.work, self.errand = work, errand

    def __call__(self) -> Ended:
        return self.work(self.errand)

    def checkpoint(self) -> DelayedSubmission:
        """Called by submitit; the cell's stages keep checkpoints of their own."""
        from submitit.helpers import DelayedSubmission

        return DelayedSubmission(self)


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


def _result(number: int, job: Job[Ended]) -> Ended:
    error = job.exception()
    if error is None:
        return job.result()
    return Ended(number, None, f"job {job.job_id} ended as {job.state}: {_line(error)} Its log is {job.paths.stderr}")


def _need(module: str, what: str, extra: str | None = None) -> None:
    if find_spec(module) is None:
        raise MissingExtra(what, extra or module)


def _line(error: BaseException) -> str:
    """The first line of what an error says."""
    return next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)

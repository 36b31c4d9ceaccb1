"""Cells on a Ray cluster, or as jobs of Slurm."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field
from pydantic.dataclasses import dataclass

from polm_bench.errors import BadOverride, MissingExtra, PolmError, first_line
from polm_bench.graph import FORBID
from polm_bench.run.elsewhere import Elsewhere, Ended, Errand, Work

if TYPE_CHECKING:
    from submitit import Job
    from submitit.helpers import DelayedSubmission
    from submitit.slurm.slurm import SlurmInfoWatcher

POLL_SECONDS = 1.0
RETRIES = 2  # of a cell whose machine went away; its stages go on from their checkpoints


@dataclass(frozen=True, config=FORBID)
class Ray(Elsewhere):
    """Cells as tasks of a Ray cluster, or of one that is started here and ends with the command."""

    address: str | None = None  # "auto", or ray://host:port; None starts one on this machine
    cpus: float = Field(default=1, gt=0)  # of a cell
    gpus: float | None = Field(default=None, ge=0)  # of a cell; None: one a process, where the cluster has any

    def each(self, work: Work, errands: Sequence[Errand]) -> Iterator[Ended]:
        """Raises MissingExtra, BadOverride for more than this machine has, and PolmError when there is no cluster at the address."""
        _need("ray", "launch=ray")
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # it would tell its makers
        os.environ.setdefault("RAY_worker_niceness", "0")  # it would run cells at 15, behind all else on the machine
        import ray
        from ray.exceptions import RayError

        here = {"include_dashboard": False} if self.address is None else {}
        try:
            ray.init(self.address, log_to_driver=False, logging_level="error", **here)
        except (OSError, RuntimeError) as error:
            raise PolmError(f"launch.address={self.address}: {error}") from error
        try:
            task = ray.remote(**self.resources(ray.cluster_resources()), max_retries=RETRIES)(work)
            running = {task.remote(errand): errand for errand in errands}
            while running:
                (first, *_), _ = ray.wait(list(running))
                errand = running.pop(first)
                try:
                    yield ray.get(first)
                except RayError as error:
                    yield Ended(errand.number, None, f"Ray lost it: {first_line(error)}")
        finally:
            ray.shutdown()

    def at_once(self) -> int | None:
        return max(1, int((os.cpu_count() or 1) // self.cpus)) if self.address is None else None

    def resources(self, has: dict[str, float]) -> dict[str, float]:
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
    minutes: int = Field(default=240, ge=1)  # of a job; one that runs out is queued again and goes on
    cpus: int = Field(default=4, ge=1)
    gpus: int = Field(default=0, ge=0)
    memory_gb: float | None = Field(default=None, gt=0)
    jobs: int = Field(default=32, ge=1)  # at a time
    options: dict[str, Any] = Field(default_factory=dict)  # other options of sbatch, by their long names

    def each(self, work: Work, errands: Sequence[Errand]) -> Iterator[Ended]:
        """Raises MissingExtra, and PolmError when Slurm takes no jobs."""
        _need("submitit", "launch=slurm", "slurm")
        import logging

        from submitit import AutoExecutor, SlurmJob

        logging.getLogger("submitit").setLevel(logging.ERROR)  # it warns at every look where Slurm keeps no accounts
        SlurmJob.watcher = _quiet_watcher()
        try:
            executor = AutoExecutor(Path(errands[0].home) / "slurm", cluster=self.cluster)
            executor.update_parameters(**self._parameters())
            with executor.batch():
                jobs = [executor.submit(Resumed(work, errand)) for errand in errands]
        except (OSError, RuntimeError) as error:  # no sbatch, or what it says
            raise PolmError(f"launch=slurm: {first_line(error)}") from error
        running = dict(zip((errand.number for errand in errands), jobs, strict=True))
        if self.cluster == "slurm":
            number = jobs[0].job_id.partition("_")[0]
            sys.stderr.write(f"Slurm's job {number}: `squeue --job {number}` says what it waits for\n")
        try:
            while running:
                for number, job in [(number, job) for number, job in running.items() if job.done()]:
                    del running[number]
                    yield _result(number, job)
                time.sleep(POLL_SECONDS if running else 0)
        finally:  # Ctrl-C, or a store that takes no more
            for job in running.values():
                job.cancel(check=False)

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


def _quiet_watcher() -> SlurmInfoWatcher:
    """submitit's, whose every look would show what sacct writes to stderr where Slurm keeps no accounts."""
    from submitit.slurm.slurm import SlurmInfoWatcher

    class Quiet(SlurmInfoWatcher):
        def _make_command(self) -> list[str] | None:
            command = super()._make_command()
            return command and ["sh", "-c", 'exec "$0" "$@" 2>/dev/null', *command]

    return Quiet(delay_s=600)


def _result(number: int, job: Job[Ended]) -> Ended:
    error = job.exception()
    if error is None:
        return job.result()
    return Ended(
        number, None, f"job {job.job_id} ended as {job.state}: {first_line(error)} Its log is {job.paths.stderr}"
    )


def _need(module: str, what: str, extra: str | None = None) -> None:
    if find_spec(module) is None:
        raise MissingExtra(what, extra or module)

"""Run the stages that a store lacks, each once, and say how each ended."""

from __future__ import annotations

import gc
import logging
import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, Protocol

from polm_bench.errors import Diverged, PolmError
from polm_bench.graph import Stage, identity, ordered
from polm_bench.probes.memory import peak_device_bytes, peak_host_bytes, reset_peaks
from polm_bench.run.interrupt import in_time, stoppable
from polm_bench.run.job import Job, Progress
from polm_bench.run.launch import Launch
from polm_bench.run.store import Store, refusal

Status = Literal["ok", "failed", "oom", "diverged", "timeout"]

log = logging.getLogger("polm_bench")


class Reporter(Protocol):
    """Who is told how the work goes."""

    def begin(self, stage: Stage, number: int, total: int) -> None: ...

    def waiting(self, stage: Stage) -> None: ...

    def progress(self, done: float, total: float, what: str) -> None: ...

    def damaged(self, stage: Stage, files: list[str]) -> None: ...

    def end(self, stage: Stage, seconds: float, status: str) -> None: ...

    def say(self, text: str) -> None: ...


@dataclass(frozen=True)
class Outcome:
    """How one stage ended; `shared` means that the store had it, made for another cell."""

    stage: Stage
    status: Status
    shared: bool
    ledger: dict[str, Any]
    curve: list[dict[str, float]] = field(default_factory=list)
    reason: str | None = None


def missing(goals: Sequence[Stage], store: Store, damaged: Callable[[Stage, list[str]], None]) -> list[Stage]:
    """Stages to run so that the store has the goals, in order; what only finished stages need is not run again.

    Finished stages that will be read are compared with their manifests; `damaged` is told of those that differ, and they run again.
    """
    wanted: dict[str, Stage] = {}

    def visit(stage: Stage) -> None:
        if stage.key in wanted or store.usable(stage, damaged):
            return
        wanted[stage.key] = stage
        for parent in stage.inputs:
            visit(parent)

    for goal in goals:
        visit(goal)
    return [stage for stage in ordered(*goals) if stage.key in wanted]


Work = Callable[[Stage, Job], None]
"""How a stage is run: in this process (`perform`) or in one of its own (`isolate.run_apart`)."""


def perform(stage: Stage, job: Job) -> None:
    """Run a stage in this process; peaks are those of the stage where the system lets them be reset."""
    gc.collect()  # models of the stage before
    gc.freeze()  # imports: every trainer asks for several collections, which would look through all of them again
    if job.launch.threads:
        import torch

        torch.set_num_threads(job.launch.threads)
    reset_peaks(job.device)
    try:
        stage.run(job)
    finally:
        job.ledger.peak(peak_host_bytes=peak_host_bytes(), peak_device_bytes=peak_device_bytes(job.device))


def execute(
    goals: Sequence[Stage], store: Store, launch: Launch, reporter: Reporter, owner: str, work: Work = perform
) -> list[Outcome]:
    """Outcomes of all stages of the graph in order, up to the first that fails.

    `owner` names the cell a stage is made for. Raises PolmError for the user's mistakes and a store that can't be written.
    """
    todo = {stage.key for stage in missing(goals, store, reporter.damaged)}
    if todo:
        store.prepare()
    outcomes: list[Outcome] = []
    number = 0
    deadline = time.monotonic() + launch.cell_timeout if launch.cell_timeout else None
    for stage in ordered(*goals):
        if stage.key in todo:
            number += 1
            reporter.begin(stage, number, len(todo))
            started = time.monotonic()
            outcome = _run_once(stage, store, launch, reporter, owner, deadline, work)
            reporter.end(stage, time.monotonic() - started, outcome.status)
            outcomes.append(outcome)
            if outcome.status != "ok":
                break
        elif store.has(stage):
            outcomes.append(_found(stage, store, owner))
    return outcomes


def _run_once(
    stage: Stage, store: Store, launch: Launch, reporter: Reporter, owner: str, deadline: float | None, work: Work
) -> Outcome:
    """Run under the stage's lock, unless another process has made it while we waited; once more with half the micro-batch where that is asked."""
    with store.lock(stage, lambda: reporter.waiting(stage)):
        if store.has(stage):
            return _found(stage, store, owner)
        with store.claimed(stage, owner) as tell:
            while True:
                failed = _attempt(stage, store, launch, reporter, owner, deadline, work, tell)
                if failed is None:
                    return _found(stage, store, owner)
                if failed.status != "oom" or launch.on_oom != "shrink" or launch.micro_batch == 1:
                    return failed
                launch = replace(launch, micro_batch=launch.micro_batch // 2)
                reporter.say(f"      out of memory; once more with launch.micro_batch={launch.micro_batch}")
                shutil.rmtree(store.scratch(stage), ignore_errors=True)  # its checkpoints count other micro-batches


def _attempt(
    stage: Stage,
    store: Store,
    launch: Launch,
    reporter: Reporter,
    owner: str,
    deadline: float | None,
    work: Work,
    tell: Callable[[float, float, str], None],
) -> Outcome | None:
    """Run the stage and commit it; the outcome where that failed."""
    scratch = store.scratch(stage)
    with store.writing(stage) as partial:
        scratch.mkdir(parents=True, exist_ok=True)

        def progress(done: float, total: float, what: str) -> None:
            reporter.progress(done, total, what)
            tell(done, total, what)

        job = _job(stage, store, launch, progress, partial, scratch)
        started = time.monotonic()
        try:
            with in_time(launch.stage_timeout, deadline), stoppable(job, reporter.say):
                work(stage, job)
        except PolmError:
            raise
        except Exception as error:  # every other failure is a result of the cell
            if refusal(error) is not None:
                raise  # the store's failure, which says nothing of the stage
            _spend(job, started)
            status = classify(error)
            log.debug("stage %s", stage.folder, exc_info=error)
            if status == "diverged":
                shutil.rmtree(scratch, ignore_errors=True)  # its checkpoints lead to the same end
            return Outcome(
                stage, status, False, job.ledger.to_dict(), job.curve_points, f"{type(error).__name__}: {error}"
            )
        _spend(job, started)
        store.commit(stage, partial, _manifest(stage, job, owner))
    return None


def _job(stage: Stage, store: Store, launch: Launch, progress: Progress, out: Path, scratch: Path) -> Job:
    paths = {parent.key: store.path(parent) for parent in stage.inputs}
    return Job(out, scratch, paths, launch, launch.resolved_device(), progress)


def _spend(job: Job, started: float) -> None:
    job.ledger.add(wall_seconds=time.monotonic() - started + job.spent_before())


def _manifest(stage: Stage, job: Job, owner: str) -> dict[str, Any]:
    return {
        "schema": 1,
        "key": stage.key,
        "kind": type(stage).__name__,
        "identity": identity(stage),
        "owner": owner,
        "ledger": job.ledger.to_dict(),
        "curve": job.curve_points,
    }


def _found(stage: Stage, store: Store, owner: str) -> Outcome:
    told = store.manifest(stage)
    return Outcome(stage, "ok", stage.given or told["owner"] != owner, told["ledger"], told["curve"])


OUT_OF_MEMORY = ("out of memory", "can't allocate memory", "not enough memory")


def classify(error: BaseException) -> Status:
    """Which of the record's statuses an exception of a stage means."""
    text = str(error).lower()
    if (
        isinstance(error, MemoryError)
        or type(error).__name__ == "OutOfMemoryError"
        or any(words in text for words in OUT_OF_MEMORY)
    ):
        return "oom"
    if isinstance(error, Diverged):
        return "diverged"
    if isinstance(error, TimeoutError):
        return "timeout"
    return "failed"

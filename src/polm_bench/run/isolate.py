"""A stage in a process of its own: its memory, its failures and what the kernel does to it stay apart from the rest.

The parent writes a job file and reads an events file; the worker plans the same cell again and finds its stage by key, so nothing is pickled.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from polm_bench.errors import Diverged, PolmError, StoreError
from polm_bench.graph import Stage
from polm_bench.run.job import Job
from polm_bench.run.launch import Launch
from polm_bench.run.store import write_json

POLL_SECONDS = 0.2
STDERR = 2  # the file descriptor: stdout is for results
GRACE_SECONDS = 10.0  # for a worker that was asked to end
PR_SET_PDEATHSIG = 1  # linux/prctl.h
OOM_COUNTER = Path("/sys/fs/cgroup/memory.events")

Json = dict[str, Any]


class WorkerFailed(RuntimeError):
    """A worker that ended without a result: killed from outside, or it could not start."""


class OutOfMemoryError(MemoryError):
    """A worker that the kernel killed because memory ran out."""


def run_apart(stage: Stage, job: Job, overrides: Sequence[str]) -> None:
    """Run the stage in a worker and take over its ledger, curve and progress.

    Raises what the worker raised (by kind), OutOfMemoryError where the kernel killed it for memory, WorkerFailed for any other end.
    """
    job_file, events, result = (job.scratch / f"worker-{name}.json" for name in ("job", "events", "result"))
    for left in (events, result):
        left.unlink(missing_ok=True)
    events.touch()
    inputs = {parent.key: str(job.path(parent)) for parent in stage.inputs}
    described = {
        "overrides": list(overrides),
        "key": stage.key,
        "out": str(job.out),
        "scratch": str(job.scratch),
        "inputs": inputs,
        "launch": asdict(job.launch),
        "device": job.device,
        "parent": os.getpid(),
    }
    write_json(job_file, described)
    kills = _kernel_kills()
    with _worker(job_file, job) as process, events.open() as told:
        passed_on = False
        while process.poll() is None:
            if job.stop_asked and not passed_on:
                process.send_signal(signal.SIGINT)
                passed_on = True
            _follow(told, job)
            time.sleep(POLL_SECONDS)
        _follow(told, job)
    if not result.exists():
        raise _ended(process.returncode, _kernel_kills() - kills)
    ended = json.loads(result.read_text())
    job.ledger.amounts.update(ended["amounts"])
    job.ledger.notes.update(ended["notes"])
    job.curve_points[:] = ended["curve"]
    for left in (job_file, events, result):
        left.unlink(missing_ok=True)
    if ended["error"]:
        raise _raised(ended["error"])


@contextlib.contextmanager
def _worker(job_file: Path, job: Job) -> Iterator[subprocess.Popen[bytes]]:
    """The worker's process. One Ctrl-C is passed on to it, a second one ends it."""
    command = [sys.executable, "-m", "polm_bench", "__stage", str(job_file)]
    process = subprocess.Popen(command, stdout=STDERR, start_new_session=True)  # Ctrl-C comes to it through us
    job.stoppable = True  # the worker knows whether there is a checkpoint to write
    try:
        yield process
    finally:
        job.stoppable = False
        if process.poll() is None:
            process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(GRACE_SECONDS)
            process.kill()
            process.wait()


def _follow(told: Any, job: Job) -> None:
    """Pass on the progress that is new; a line that is not whole yet waits."""
    while line := told.readline():
        if not line.endswith("\n"):
            told.seek(told.tell() - len(line))
            return
        job.progress(*json.loads(line))


def _ended(code: int, kernel_kills: int) -> Exception:
    if code == -signal.SIGKILL and kernel_kills > 0:
        return OutOfMemoryError("the kernel killed the stage's process: the memory it may use ran out")
    if code < 0:
        return WorkerFailed(f"the stage's process was killed by {signal.Signals(-code).name}")
    return WorkerFailed(f"the stage's process ended with status {code} and no result")


def _kernel_kills() -> int:
    """How often the kernel has killed in this control group because memory ran out; 0 where nobody counts."""
    with contextlib.suppress(OSError):
        for line in OOM_COUNTER.read_text().splitlines():
            name, _, count = line.partition(" ")
            if name == "oom_kill":
                return int(count)
    return 0


def _raised(error: Json) -> BaseException:
    """An exception of the kind that the worker saw."""
    kinds: dict[str, type[BaseException]] = {
        "mistake": PolmError,
        "store": StoreError,
        "oom": OutOfMemoryError,
        "diverged": Diverged,
        "timeout": TimeoutError,
        "interrupted": KeyboardInterrupt,
    }
    if error["kind"] == "failed":
        return WorkerFailed(error["text"])
    return kinds[error["kind"]](error["text"])


class Telling:
    """The worker's progress: lines of an events file, some a second."""

    def __init__(self, path: Path) -> None:
        self.handle = path.open("a", buffering=1)
        self.last = 0.0

    def __call__(self, done: float, total: float, what: str) -> None:
        if time.monotonic() - self.last >= POLL_SECONDS or done == total:
            self.last = time.monotonic()
            self.handle.write(json.dumps([done, total, what]) + "\n")


def die_with(parent: int) -> None:
    """End this process when its parent ends, so that no orphan writes into a stage that another process takes over."""
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        raise SystemExit(1)


def job_of(told: Json) -> Job:
    """The job that a parent described."""
    scratch = Path(told["scratch"])
    inputs = {key: Path(path) for key, path in told["inputs"].items()}
    telling = Telling(scratch / "worker-events.json")
    return Job(Path(told["out"]), scratch, inputs, Launch(**told["launch"]), told["device"], telling)


def write_result(job: Job, error: Json | None) -> None:
    """What the parent takes over; written whole or not at all."""
    ended = {"amounts": job.ledger.amounts, "notes": job.ledger.notes, "curve": job.curve_points, "error": error}
    write_json(job.scratch / "worker-result.json", ended)

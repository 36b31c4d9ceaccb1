"""A stage in a process of its own, or in several that share it: its memory, its failures and what the kernel does to it stay apart from the rest.

The parent writes a job file and reads an events file; the worker plans the same cell again and finds its stage by key, so nothing is pickled.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple

from polm_bench.errors import BadOverride, Diverged, PolmError, StoreError
from polm_bench.files import write_json
from polm_bench.graph import Stage
from polm_bench.run.job import Job
from polm_bench.run.launch import Launch
from polm_bench.run.ledger import PEAKS
from polm_bench.run.redact import scrubbed

POLL_SECONDS = 0.2
STDERR = 2  # the file descriptor: stdout is for results
GRACE_SECONDS = 10.0  # for a worker that was asked to end
PR_SET_PDEATHSIG = 1  # linux/prctl.h
OOM_COUNTER = Path("/proc/vmstat")  # of the whole machine: who was killed with SIGKILL meanwhile was killed for memory

Json = dict[str, Any]


class WorkerFailed(RuntimeError):
    """A worker that ended without a result: killed from outside, or it could not start."""


class OutOfMemoryError(MemoryError):
    """A worker that the kernel killed because memory ran out."""


class Files(NamedTuple):
    """How parent and one worker talk."""

    job: Path
    events: Path
    result: Path


def files_of(scratch: Path, rank: int) -> Files:
    return Files(*(scratch / f"worker-{name}-{rank}.json" for name in ("job", "events", "result")))


def run_apart(stage: Stage, job: Job, overrides: Sequence[str]) -> None:
    """Run the stage in a worker, or in the several that `launch` asks for where it can share its work; take over ledger, curve and progress.

    Raises what a worker raised (by kind), OutOfMemoryError where the kernel killed one for memory, WorkerFailed for any other end.
    """
    count = job.launch.num_processes if stage.parallel else 1
    devices = _devices(job, count)
    files = [files_of(job.scratch, rank) for rank in range(count)]
    described = {
        "overrides": list(overrides),
        "key": stage.key,
        "out": str(job.out),
        "scratch": str(job.scratch),
        "inputs": {parent.key: str(job.path(parent)) for parent in stage.inputs},
        "launch": asdict(job.launch),
        "parent": os.getpid(),
        "processes": count,
    }
    for rank, its in enumerate(files):
        its.result.unlink(missing_ok=True)
        its.events.write_text("")
        write_json(its.job, described | {"rank": rank, "device": devices[rank]})
    kills = _kernel_kills()
    with _workers(files, job) as processes, files[0].events.open() as told:
        passed_on = False
        while processes[0].poll() is None and not _fallen(processes[1:], files[1:]):
            if job.stop_asked and not passed_on:
                processes[0].send_signal(signal.SIGINT)
                passed_on = True
            _follow(told, job)
            time.sleep(POLL_SECONDS)
        _follow(told, job)
        codes = [process.poll() for process in processes]
    ended = [json.loads(its.result.read_text()) if its.result.exists() else None for its in files]
    _take_over(job, ended)
    if failure := _failure(codes, ended, _kernel_kills() - kills):
        raise failure
    for left in (left for its in files for left in its):
        left.unlink(missing_ok=True)


def _devices(job: Job, count: int) -> list[str]:
    """One for each worker. Raises BadOverride where there are fewer."""
    if count == 1 or job.device == "cpu":
        return [job.device] * count
    import torch

    if job.device != "cuda" or torch.cuda.device_count() < count:
        raise BadOverride(
            f"launch.num_processes={count} needs {count} devices; launch.device={job.launch.device} gives "
            f"{torch.cuda.device_count() if job.device == 'cuda' else 1}. Take fewer processes, and launch.device=auto."
        )
    return [f"cuda:{rank}" for rank in range(count)]


def _take_over(job: Job, ended: Sequence[Json | None]) -> None:
    """The first worker's ledger and curve, which tell what all of them did, and the largest peaks of all."""
    if (first := ended[0]) is not None:
        job.ledger.amounts.update(first["amounts"])
        job.ledger.notes.update(first["notes"])
        job.curve_points[:] = first["curve"]
    for one in ended:
        job.ledger.peak(**{name: one["amounts"][name] for name in PEAKS if one and name in one["amounts"]})


def _failure(codes: Sequence[int | None], ended: Sequence[Json | None], kernel_kills: int) -> BaseException | None:
    """Why the work failed, if it did. When one of several workers goes, the others fail in its wake, so what says most goes first."""
    for code, one in zip(codes, ended, strict=True):
        if one is None and code is not None and code < 0:
            return _ended(code, kernel_kills)
    errors = [one["error"] for one in ended if one and one["error"]]
    if errors:
        return _raised(next((error for error in errors if error["kind"] != "failed"), errors[0]))
    if ended[0] is None:
        return _ended(next((code for code in codes if code), 1), kernel_kills)
    return None


def _fallen(processes: Sequence[subprocess.Popen[bytes]], files: Sequence[Files]) -> bool:
    """Whether one of the others has ended badly, so that the first would wait for it for ever."""
    for process, its in zip(processes, files, strict=True):
        if process.poll() is not None and (
            not its.result.exists() or json.loads(its.result.read_text())["error"] is not None
        ):
            return True
    return False


@contextlib.contextmanager
def _workers(files: Sequence[Files], job: Job) -> Iterator[list[subprocess.Popen[bytes]]]:
    """The workers' processes. One Ctrl-C is passed on to the first of them, a second one ends them all."""
    processes: list[subprocess.Popen[bytes]] = []
    job.stoppable = True  # the worker knows whether there is a checkpoint to write
    meeting = _meeting(len(files)) if len(files) > 1 else {}
    try:
        for rank, its in enumerate(files):
            own = {"RANK": str(rank), "LOCAL_RANK": str(rank)} if meeting else {}
            # a session of its own: Ctrl-C comes to it through us
            started = subprocess.Popen(
                _command(its.job), stdout=STDERR, start_new_session=True, env=os.environ | meeting | own
            )
            processes.append(started)
        yield processes
    finally:
        job.stoppable = False
        left = [process for process in processes if process.poll() is None]
        for process in left:
            process.terminate()
        until = time.monotonic() + GRACE_SECONDS
        for process in left:
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(max(0.0, until - time.monotonic()))
            process.kill()
            process.wait()


def _command(job_file: Path) -> list[str]:
    return [sys.executable, "-m", "polm_bench", "__stage", str(job_file)]


def _meeting(count: int) -> dict[str, str]:
    """What PyTorch reads to let processes of one machine find each other; set variables of the user's stand."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    usual = {"OMP_NUM_THREADS": str(max(1, cores // count))} | (
        {"GLOO_SOCKET_IFNAME": "lo"} if sys.platform == "linux" else {}
    )
    found = {name: os.environ.get(name, value) for name, value in usual.items()}
    world = {"WORLD_SIZE": str(count), "LOCAL_WORLD_SIZE": str(count)}
    return found | world | {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}


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
    """How often the kernel has killed because memory ran out; 0 where nobody counts."""
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
    telling = Telling(files_of(scratch, told["rank"]).events)
    job = Job(Path(told["out"]), scratch, inputs, Launch(**told["launch"]), told["device"], telling)
    job.rank, job.processes = told["rank"], told["processes"]
    return job


def one_of(job: Job) -> None:
    """Raises StoreError where this worker is not the one of as many as the job says."""
    found = [int(os.environ.get(name, usual)) for name, usual in (("RANK", "0"), ("WORLD_SIZE", "1"))]
    if found != [job.rank, job.processes]:
        raise StoreError(
            f"this worker was to be number {job.rank} of {job.processes}, and its environment says number {found[0]} of {found[1]}"
        )


def write_result(job: Job, error: Json | None) -> None:
    """What the parent takes over; written whole or not at all."""
    ended = {"amounts": job.ledger.amounts, "notes": job.ledger.notes, "curve": job.curve_points, "error": error}
    write_json(files_of(job.scratch, job.rank).result, scrubbed(ended))

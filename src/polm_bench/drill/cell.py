"""Tiny cells in processes of their own, and what of a home must not depend on what happened to them."""

from __future__ import annotations

import ctypes
import json
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from multiprocessing import get_context
from multiprocessing.process import BaseProcess
from pathlib import Path
from types import MappingProxyType
from typing import Any, NoReturn, Protocol

from polm_bench.errors import PolmError
from polm_bench.graph import Stage
from polm_bench.run.cell import quiet, run_cell, want
from polm_bench.run.isolate import die_with
from polm_bench.run.job import Job
from polm_bench.run.progress import PlainReporter
from polm_bench.run.store import Store, damage
from polm_bench.run.upkeep import litter

Json = dict[str, Any]
NOTHING: Mapping[str, str] = MappingProxyType({})

TINY = (
    "model=nano",
    "data=nano",
    "budget=smoke",
    "suite=smoke",
    "track=none",
    "launch.device=cpu",
    "launch.threads=1",
    "launch.checkpoint_seconds=0.001",  # after every step, so that a kill finds checkpoints
)
COUNTED = (
    "tokens_trained",
    "tokens_generated",
    "tokens_scored",
    "flops",
    "trainable_params",
    "total_params",
    "served_bytes",
)
"""Amounts of a ledger that are counted, not timed."""

WHOLE = "what counts as finished is whole"
EXPLAINED = "gc explains what is left behind"
"""Promises that every drill looks at."""

CLONE_NEWNET = 0x40000000  # linux/sched.h


@dataclass
class Verdict:
    """What a drill found: figures, and for each promise how it was broken."""

    drill: str
    figures: Json = field(default_factory=dict)
    promises: dict[str, list[str]] = field(default_factory=dict)
    skipped: dict[str, str] = field(default_factory=dict)

    def see(self, promise: str, broken: Sequence[str]) -> None:
        """Note one look at a promise: how it was broken, if it was."""
        self.promises.setdefault(promise, []).extend(broken)

    @property
    def kept(self) -> bool:
        return not any(self.promises.values())


class Start(Protocol):
    """Starts a process that runs cells."""

    def __call__(
        self,
        words: Sequence[str],
        home: Path,
        apart: bool = False,
        log: Path | None = None,
        environment: Mapping[str, str] = NOTHING,
    ) -> BaseProcess: ...


def start(
    words: Sequence[str],
    home: Path,
    apart: bool = False,
    log: Path | None = None,
    environment: Mapping[str, str] = NOTHING,
) -> BaseProcess:
    """A process that runs the cells that the words describe; it is forked from one that has its imports done.

    `apart`: in a network namespace of its own, where the system allows it. What it says goes to `log`, else to the file beside the home;
    every stage that it really begins is a line of the journal beside the log.
    """
    context = get_context("forkserver")
    given = {word.partition("=")[0] for word in words}
    usual = [word for word in TINY if word.partition("=")[0] not in given]
    process = context.Process(target=_run, args=([*words, *usual], home, apart, log or log_of(home), dict(environment)))
    process.start()
    return process


def warm_up() -> None:
    """Pay for the imports that later processes are forked with."""
    quiet()
    context = get_context("forkserver")
    context.set_forkserver_preload(["polm_bench.drill.warm"])
    first = context.Process(target=os.getpid)
    first.start()
    first.join()


def log_of(home: Path) -> Path:
    return home.with_name(f"{home.name}.log")


def must_end_well(process: BaseProcess, home: Path) -> None:
    """Wait for a process that nobody disturbs. Raises PolmError, with what it said last, where it did not get through."""
    process.join()
    if process.exitcode != 0:
        said = log_of(home).read_text().strip().splitlines()[-1:] if log_of(home).exists() else []
        raise PolmError(f"a run of the drill ended with status {process.exitcode}: {''.join(said)}")


def journal_of(home: Path) -> Path:
    return log_of(home).with_suffix(".journal")


def _run(words: list[str], home: Path, apart: bool, log: Path, environment: dict[str, str]) -> None:
    die_with(os.getppid())
    os.environ["POLM_HOME"] = str(home)
    act(lambda: _cells(words, home, log.with_suffix(".journal")), apart, log, environment)


def act(work: Callable[[], int], apart: bool, log: Path, environment: Mapping[str, str]) -> NoReturn:
    """Be a process of a drill: do the work in this network and environment, tell it to the log, end with its status."""
    with log.open("a") as told:
        os.dup2(told.fileno(), 1)
        os.dup2(told.fileno(), 2)
    sys.stderr = os.fdopen(2, "w", buffering=1)  # whatever the process that this one was forked from has made of it
    if apart:
        leave_network()
    os.environ.update(environment)
    try:
        status = work()
    except PolmError as mistake:
        sys.stderr.write(f"error: {mistake}\n")
        status = 2
    sys.stderr.flush()
    os._exit(status)


def _cells(words: list[str], home: Path, journal: Path) -> int:
    from polm_bench.config import cells
    from polm_bench.run.execute import perform
    from polm_bench.run.track import track

    def work(stage: Stage, job: Job) -> None:
        with journal.open("a") as begun:
            begun.write(f"{stage.folder} {os.getpid()}\n")
        perform(stage, job)

    plans = cells(words)
    want(home, plans)
    paths = []
    for plan in plans:
        paths.append(run_cell(plan, home, PlainReporter(), work))
        if plan.track == "mlflow":
            track(paths[-1], home)
    return 0 if all(json.loads(path.read_text())["status"] == "ok" for path in paths) else 1


def leave_network() -> bool:
    """Move this process to a network namespace of its own; False where that is not allowed."""
    if sys.platform != "linux":
        return False
    return ctypes.CDLL(None, use_errno=True).unshare(CLONE_NEWNET) == 0


def essence(home: Path) -> Json:
    """Records, items and weights without what is timed: equal whatever happened on the way."""
    records = {path.name: essence_of(json.loads(path.read_text())) for path in (home / "records").glob("*.json")}
    items = {path.name: _digest(path) for path in (home / "records" / "items").glob("[!.]*")}
    weights = {
        f"{folder.name}/{path.name}": _digest(path)
        for folder in Store(home / "store").finished()
        for path in folder.glob("*.safetensors")
    }
    return {"records": records, "items": items, "weights": weights}


def essence_of(record: Json) -> Json:
    """A record without what is timed."""
    names = ("id", "cell", "recipe", "status", "reason", "rows", "scores", "items", "curves")
    stages = [
        [stage["key"], stage["kind"], stage["status"], *(stage["ledger"].get(name) for name in COUNTED)]
        for stage in record["stages"]
    ]
    cost = [record["cost"][name] for name in COUNTED]
    return {name: record[name] for name in names} | {"stages": stages, "cost": cost}


def differences(one: Json, other: Json, place: str = "") -> list[str]:
    """Where two essences differ, a few of the places."""
    found: list[str] = []
    for name in sorted({*one, *other}):
        here, there = one.get(name), other.get(name)
        if here == there:
            continue
        if isinstance(here, dict) and isinstance(there, dict):
            found += differences(here, there, f"{place}{name}: ")
        else:
            found.append(f"{place}{name}")
    return found[:5]


def half_made(home: Path) -> list[str]:
    """Folders that count as finished stages, or lie where those lie, and are not whole."""
    folders = [path for path in sorted((home / "store").glob("[!.]*")) if path.is_dir()]
    return [f"{folder.name}: {', '.join(wrong[:3])}" for folder in folders if (wrong := damage(folder))]


def finished(home: Path) -> dict[str, tuple[int, int]]:
    """The manifest of each finished stage, by what changes when it is made again."""
    states = {folder.name: (folder / "manifest.json").stat() for folder in Store(home / "store").finished()}
    return {name: (state.st_ino, state.st_mtime_ns) for name, state in states.items()}


def unexplained(home: Path) -> list[str]:
    """Files of a home where nobody is at work that are neither part of its layout nor on the list of `polm-bench gc`."""
    known = {one.path for one in litter(home)}
    found = []
    for path in sorted(home.rglob("*")):
        inside = path.relative_to(home).parts
        laid_out = (
            inside[0] in ("sweeps", "wanted", "overlap")
            or (inside[0] == "records" and not path.name.startswith("."))
            or inside[:2] == ("store", ".locks")
            or (inside[0] == "store" and len(inside) > 2 and (home / "store" / inside[1] / "manifest.json").exists())
        ) and not path.name.startswith(".")
        if path.is_file() and not laid_out and known.isdisjoint({path, *path.parents}):
            found.append(str(path.relative_to(home)))
    return found


def _digest(path: Path) -> str:
    return sha256(path.read_bytes()).hexdigest()

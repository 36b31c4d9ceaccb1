"""Stages without models, for tests of the store and the runner; importable by the processes that the tests start."""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path

from pydantic.dataclasses import dataclass

from polm_bench.errors import Diverged
from polm_bench.graph import FORBID, Stage
from polm_bench.run.execute import execute
from polm_bench.run.launch import Launch
from polm_bench.run.store import Store


@dataclass(frozen=True, config=FORBID)
class Note(Stage):
    """Writes its text and those of its inputs; `log` in the environment gets a line for every time it really runs."""

    text: str
    after: tuple[Stage, ...] = ()

    def run(self, job) -> None:
        with Path(os.environ["TOY_LOG"]).open("a") as log:
            log.write(f"{self.text}\n")
        if self.text in os.environ.get("TOY_HANG", "").split(","):
            (job.out / "half").write_text("half")
            print("hanging", flush=True)
            time.sleep(600)
        before = "".join((job.path(stage) / "note.txt").read_text() for stage in self.after)
        (job.out / "note.txt").write_text(f"{before}{self.text}\n")
        job.ledger.add(tokens_trained=len(self.text))
        job.curve(1, loss=0.5)


@dataclass(frozen=True, config=FORBID)
class Fail(Stage):
    """Raises what its name says."""

    how: str
    after: tuple[Stage, ...] = ()

    def run(self, job) -> None:
        (job.out / "half").write_text("half")
        job.ledger.add(tokens_trained=7)
        raise {
            "oom": MemoryError("no memory"),
            "oom_device": RuntimeError("CUDA out of memory. Tried to allocate 2 GiB"),
            "nan": Diverged("loss is nan at step 3"),
            "timeout": TimeoutError("600 s"),
            "bug": KeyError("surprise"),
        }[self.how]


@dataclass(frozen=True, config=FORBID)
class Greedy(Stage):
    """Runs out of memory with more than `fits` rows at once."""

    fits: int

    def run(self, job) -> None:
        if job.launch.micro_batch > self.fits:
            raise MemoryError("no memory")
        (job.out / "note.txt").write_text(str(job.launch.micro_batch))


class Silent:
    """A reporter that keeps what it is told."""

    def __init__(self) -> None:
        self.told: list[tuple[str, str]] = []

    def begin(self, stage, number, total) -> None:
        self.told.append(("begin", stage.key))

    def waiting(self, stage) -> None:
        self.told.append(("waiting", stage.key))

    def progress(self, done, total, what) -> None:
        self.told.append(("progress", what))

    def damaged(self, stage, files) -> None:
        self.told.append(("damaged", ",".join(files)))

    def say(self, text) -> None:
        self.told.append(("say", text))

    def end(self, stage, seconds, status) -> None:
        self.told.append((status, stage.key))


LAUNCH = Launch(name="test", device="cpu")


def run(goals, store, owner="me", reporter=None, launch=LAUNCH):
    return execute(goals, store, launch, reporter or Silent(), owner)


def graph() -> Note:
    """a -> b -> c"""
    return Note("c", (Note("b", (Note("a"),)),))


if __name__ == "__main__":
    print(
        json.dumps([outcome.status for outcome in run([graph()], Store(Path(sys.argv[1])), owner=sys.argv[2])]),
        flush=True,
    )

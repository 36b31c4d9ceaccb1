"""Progress on stderr: a bar on a terminal, a plain line now and then otherwise."""

from __future__ import annotations

import sys
import time
from typing import Any

from polm_bench.graph import Stage

PLAIN_SECONDS = 15  # between two plain lines of one stage


def label(stage: Stage) -> str:
    """Name of a stage as a person reads it."""
    return f"{type(stage).__name__} {stage.key}"


def damage_line(stage: Stage, files: list[str]) -> str:
    """What is said of a finished stage whose files are no longer what they were."""
    return f"{label(stage)} is damaged ({', '.join(files[:3])}{' and more' if len(files) > 3 else ''}): put aside, made again"


def counted(done: float, total: float, what: str) -> str:
    """How far a stage is: `20 of 74 steps`, or of a share, whose total is 1, `38 % of the budget`."""
    if total == 1:
        return f"{done:.0%} {what}".replace("%", " %")
    return f"{done:,.0f}{f' of {total:,.0f}' if total else ''} {what}"


class PlainReporter:
    """Lines for logs."""

    def __init__(self) -> None:
        self.last = 0.0
        self.name = ""

    def say(self, text: str) -> None:
        sys.stderr.write(text + "\n")
        sys.stderr.flush()

    def begin(self, stage: Stage, number: int, total: int) -> None:
        self.name, self.last = label(stage), time.monotonic()
        self.say(f"[{number}/{total}] {self.name} ...")

    def waiting(self, stage: Stage) -> None:
        self.say(f"      {label(stage)}: another process is at it; waiting for it")

    def progress(self, done: float, total: float, what: str) -> None:
        if time.monotonic() - self.last >= PLAIN_SECONDS:
            self.last = time.monotonic()
            self.say(f"      {self.name}: {counted(done, total, what)}")

    def damaged(self, stage: Stage, files: list[str]) -> None:
        self.say(damage_line(stage, files))

    def end(self, stage: Stage, seconds: float, status: str) -> None:
        self.say(f"      {label(stage)}: {'done' if status == 'ok' else status} in {seconds:.1f} s")

    def close(self) -> None:
        """Nothing to put away."""


class BarReporter:
    """A bar for the running stage, a line for each finished one."""

    def __init__(self) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

        self.bars = Progress(
            SpinnerColumn(),
            TextColumn("{task.description}"),
            BarColumn(),
            TextColumn("{task.fields[count]}"),
            TimeElapsedColumn(),
            console=Console(stderr=True),
        )
        self.bars.start()
        self.task: Any = None

    def begin(self, stage: Stage, number: int, total: int) -> None:
        self.task = self.bars.add_task(f"[{number}/{total}] {label(stage)}", total=None, count="")

    def waiting(self, stage: Stage) -> None:
        self.bars.update(self.task, count="another process is at it; waiting")

    def progress(self, done: float, total: float, what: str) -> None:
        self.bars.update(self.task, completed=done, total=total or None, count=counted(done, total, what))

    def damaged(self, stage: Stage, files: list[str]) -> None:
        self.say(f"  {damage_line(stage, files)}")

    def say(self, text: str) -> None:
        self.bars.console.print(text, highlight=False, markup=False)

    def end(self, stage: Stage, seconds: float, status: str) -> None:
        self.bars.remove_task(self.task)
        mark = "[green]done[/]" if status == "ok" else f"[red]{status}[/]"
        self.bars.console.print(f"  {mark} {label(stage)} in {seconds:.1f} s", highlight=False)

    def close(self) -> None:
        self.bars.stop()


class SilentReporter(PlainReporter):
    """Says nothing but what must be known: of several processes at once, their parent tells the progress."""

    def begin(self, stage: Stage, number: int, total: int) -> None:
        """Not told."""

    def waiting(self, stage: Stage) -> None:
        """Not told."""

    def progress(self, done: float, total: float, what: str) -> None:
        """Not told."""

    def end(self, stage: Stage, seconds: float, status: str) -> None:
        if status != "ok":
            self.say(f"      {label(stage)}: {status} in {seconds:.1f} s")


def reporter() -> PlainReporter | BarReporter:
    """The one that suits where stderr goes."""
    return BarReporter() if sys.stderr.isatty() else PlainReporter()

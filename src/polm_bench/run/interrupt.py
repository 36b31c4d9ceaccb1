"""What ends a stage from outside: a time limit, and Ctrl-C."""

from __future__ import annotations

import contextlib
import signal
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

from polm_bench.run.job import Job


@contextlib.contextmanager
def in_time(seconds: float | None, deadline: float | None) -> Iterator[None]:
    """Raise TimeoutError inside the block after `seconds`, or at `deadline` (of the monotonic clock), whichever comes first."""
    limits = [(seconds, "launch.stage_timeout")] if seconds else []
    if deadline is not None:
        limits.append((max(deadline - time.monotonic(), 1e-3), "launch.cell_timeout"))
    if not limits or threading.current_thread() is not threading.main_thread():
        yield
        return
    left, name = min(limits)

    def late(_number: int, _frame: Any) -> None:
        raise TimeoutError(
            f"it took longer than {name} allows; its last checkpoint is kept, so that more time goes on from there"
        )

    before = signal.signal(signal.SIGALRM, late)
    signal.setitimer(signal.ITIMER_REAL, left)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


@contextlib.contextmanager
def stoppable(job: Job, say: Callable[[str], None]) -> Iterator[None]:
    """Ctrl-C once: training writes its checkpoint and stops. Twice, or where there is no checkpoint to write: stop now."""
    if threading.current_thread() is not threading.main_thread() or signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        yield
        return

    def asked(_number: int, _frame: Any) -> None:
        if job.stop_asked or not job.stoppable:
            raise KeyboardInterrupt
        job.stop_asked = True
        say("      stopping at the next checkpoint; Ctrl-C again stops now")

    before = signal.signal(signal.SIGINT, asked)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)

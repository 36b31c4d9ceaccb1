"""Many processes on one store with overlapping graphs, one of them killed while the others wait for it."""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Callable, Sequence
from multiprocessing.process import BaseProcess
from pathlib import Path

from polm_bench.drill.cell import (
    EXPLAINED,
    WHOLE,
    Start,
    Verdict,
    differences,
    essence,
    half_made,
    journal_of,
    leave_network,
    log_of,
    must_end_well,
    start,
    unexplained,
)
from polm_bench.errors import PolmError
from polm_bench.run.store import Store
from polm_bench.run.upkeep import running

RECIPES = ("ipo", "simpo", "cdpo", "robust_dpo")  # one SFT for all, one set of reference log-probs for three of them
KILLED_AT = "TrainSFT"
SECONDS = 5.0  # within which somebody takes over from a killed owner
POLL = 0.01
ONCE = "each stage is made once"
TAKEN_OVER = f"a killed owner blocks nobody for more than {SECONDS:.0f} seconds"
EQUAL = "records, items and weights are those of cells that run alone"


def drill(processes: int, folder: Path, say: Callable[[str], None], start: Start = start) -> Verdict:
    """Start them at once, half of them in network namespaces of their own; kill the first that trains the shared stage."""
    verdict = Verdict("crowd")
    home, alone = folder / "crowd", folder / "alone"
    recipes = [RECIPES[number % len(RECIPES)] for number in range(processes)]
    apart = _allowed()
    if not apart:
        verdict.skipped["two network namespaces"] = "this system lets no process have one of its own"
    started = time.monotonic()
    crowd = [start([f"+recipe={recipe}"], home, apart and number % 2 == 1) for number, recipe in enumerate(recipes)]
    say(f"{processes} processes on one store")
    killed, seconds = _kill_owner(home, crowd)
    crowd[killed].join()
    for process in (process for number, process in enumerate(crowd) if number != killed):
        must_end_well(process, home)
    must_end_well(start([f"+recipe={recipes[killed]}"], home), home)
    took = time.monotonic() - started
    say(f"done in {took:.1f} s; now the same cells alone, in turn")
    must_end_well(start(["-m", f"+recipe={','.join(dict.fromkeys(recipes))}"], alone), alone)
    _judge(verdict, home, alone, crowd[killed].pid, seconds)
    verdict.figures = {
        "processes": processes,
        "in network namespaces of their own": processes // 2 if apart else 0,
        "cells": len(set(recipes)),
        "stages": len(Store(home / "store").finished()),
        "taken over after": f"{seconds:.2f} s",
        "seconds": round(took, 1),
    }
    return verdict


def _kill_owner(home: Path, crowd: Sequence[BaseProcess]) -> tuple[int, float]:
    """Number of the process that was killed while it trained the shared stage, and seconds until another was at that stage."""
    pids = [process.pid for process in crowd]
    owner = _owner(home, crowd, [])
    crowd[pids.index(owner)].kill()
    started = time.monotonic()
    _owner(home, crowd, [owner])
    return pids.index(owner), time.monotonic() - started


def _owner(home: Path, crowd: Sequence[BaseProcess], passed: Sequence[int]) -> int:
    """Who is at the shared stage, as soon as that is somebody else than those passed over."""
    while any(process.is_alive() for process in crowd):
        for stage in running(Store(home / "store")):
            if stage["kind"] == KILLED_AT and stage["pid"] not in passed:
                return int(stage["pid"])
        time.sleep(POLL)
    raise PolmError(f"nobody was seen at {KILLED_AT}: {log_of(home)} says why")


def _judge(verdict: Verdict, home: Path, alone: Path, killed: int | None, seconds: float) -> None:
    begun = Counter(
        line.split()[0] for line in journal_of(home).read_text().splitlines() if line.split()[1] != str(killed)
    )
    verdict.see(ONCE, [f"{folder}: {count} times" for folder, count in begun.items() if count > 1])
    verdict.see(TAKEN_OVER, [f"{seconds:.1f} s"] if seconds > SECONDS else [])
    verdict.see(EQUAL, differences(essence(alone), essence(home)))
    verdict.see(WHOLE, half_made(home))
    verdict.see(EXPLAINED, unexplained(home))


def _allowed() -> bool:
    """Whether a process may have a network namespace of its own; tried by a child, as there is no way back."""
    child = os.fork()
    if child == 0:
        os._exit(0 if leave_network() else 1)
    return os.waitpid(child, 0)[1] == 0

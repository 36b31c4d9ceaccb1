"""SIGKILL at random moments of a cell and of a matrix, and the same command again until it is done."""

from __future__ import annotations

import random
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from polm_bench.drill.cell import (
    EXPLAINED,
    WHOLE,
    Json,
    Start,
    Verdict,
    differences,
    essence,
    finished,
    half_made,
    journal_of,
    must_end_well,
    start,
    unexplained,
)

COMMANDS = {"matrix": ("-m", "+recipe=ipo,simpo"), "cell": ("+recipe=ipo",)}
OFTEN = 4  # kills come within this part of the undisturbed time, so that a run is killed several times before it gets through
PATIENCE = 1.5  # how much later the next one may come where no stage was finished since the last: a stage without checkpoints needs its time
ONCE = "no finished stage is made again"
EQUAL = "records, items and weights are those of an undisturbed run"


def drill(times: int, seed: int, folder: Path, say: Callable[[str], None], start: Start = start) -> Verdict:
    """Kill `times` times: cell and matrix in turn, each in a home of its own that is killed until the command gets through."""
    verdict = Verdict("kill")
    moments = random.Random(seed)
    wanted, seconds = _undisturbed(start, folder / "undisturbed")
    say(f"the matrix undisturbed in {seconds:.1f} s")
    started, kills, homes = time.monotonic(), 0, 0
    at: Counter[str] = Counter()
    resumable = begun = 0
    while kills < times:
        name = tuple(COMMANDS)[homes % 2]
        home = folder / f"killed-{homes}"
        homes += 1
        whole: dict[str, tuple[int, int]] = {}
        latest = seconds / OFTEN
        while True:
            process = start(COMMANDS[name], home)
            process.join(moments.uniform(0, latest) if kills < times else None)
            if not process.is_alive():
                break
            process.kill()
            process.join()
            kills += 1
            at[_was_at(home)] += 1
            resumable += bool(list(home.glob("store/.scratch/*/checkpoint-*/complete.json")))
            now = _look(verdict, home, whole)
            latest = seconds / OFTEN if len(now) > len(whole) else latest * PATIENCE
            whole = now
        must_end_well(process, home)
        _look(verdict, home, whole)
        expected = wanted if name == "matrix" else _part(wanted, "ipo")
        verdict.see(EQUAL, [f"{name} {homes}: {place}" for place in differences(expected, essence(home))])
        begun += len(journal_of(home).read_text().splitlines())
        say(f"{kills} of {times} kills; the {name} of home {homes} got through")
    verdict.figures = {
        "kills": kills,
        "at": dict(at.most_common()),
        "with a checkpoint to go on from": resumable,
        "homes": homes,
        "stages begun": begun,
        "seconds": round(time.monotonic() - started, 1),
    }
    return verdict


def _undisturbed(start: Start, home: Path) -> tuple[Json, float]:
    """How the matrix ends when nobody disturbs it, and seconds that it takes."""
    started = time.monotonic()
    must_end_well(start(COMMANDS["matrix"], home), home)
    return essence(home), time.monotonic() - started


def _part(whole: Json, recipe: str) -> Json:
    """What of a matrix belongs to the cell of one recipe."""
    records = {name: record for name, record in whole["records"].items() if name.startswith(f"{recipe}-")}
    items = {Path(name).name for record in records.values() for name in record["items"].values()}
    stages = {f"{kind}-{key}" for record in records.values() for key, kind, *_ in record["stages"]}
    return {
        "records": records,
        "items": {name: digest for name, digest in whole["items"].items() if name in items},
        "weights": {name: digest for name, digest in whole["weights"].items() if name.partition("/")[0] in stages},
    }


def _was_at(home: Path) -> str:
    """Kind of the stage that the killed process was at: its notice is still there."""
    notices = list((home / "store" / ".locks").glob("[!.]*.json"))
    return notices[0].name.partition("-")[0] if notices else "between stages"


def _look(verdict: Verdict, home: Path, before: dict[str, tuple[int, int]]) -> dict[str, tuple[int, int]]:
    """See whether a home where nobody is at work keeps the promises; gives its finished stages."""
    now = finished(home)
    verdict.see(WHOLE, half_made(home))
    verdict.see(ONCE, [name for name, state in before.items() if now.get(name) != state])
    verdict.see(EXPLAINED, unexplained(home))
    return now

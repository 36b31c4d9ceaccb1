"""A disk that is full at every stage of a cell, a store made read-only, and files that are not what they were."""

from __future__ import annotations

import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from polm_bench.drill.cell import (
    EXPLAINED,
    WHOLE,
    Json,
    Start,
    Verdict,
    differences,
    essence,
    half_made,
    log_of,
    must_end_well,
    start,
    unexplained,
)
from polm_bench.errors import PolmError

CELL = ("+recipe=ipo",)
FIRST, GROWTH = 6.0, 1.5  # megabytes of the first disk, and how much larger each next one is
NAMED = "a disk that takes no more is named, with exit status 2"
EQUAL = "with room again, the run goes on to the record of an undisturbed one"
DAMAGED = "a damaged file is named, put aside and made again"


def drill(folder: Path, say: Callable[[str], None], start: Start = start, first: float = FIRST) -> Verdict:
    """All three on one tiny cell; what needs to mount a small disk, of `first` megabytes, is skipped, and said to be, where that is not allowed."""
    verdict = Verdict("disk")
    home = folder / "undisturbed"
    must_end_well(start(CELL, home), home)
    wanted = essence(home)
    started = time.monotonic()
    _damage(verdict, start, home, wanted, say)
    with _small_disk(folder / "disk", first) as disk:
        if disk is None:
            for case in ("full disk", "read-only store"):
                verdict.skipped[case] = "mounting a small disk needs root"
        else:
            _fill(verdict, start, disk, first, wanted, say)
            _read_only(verdict, start, disk, say)
    verdict.figures["seconds"] = round(time.monotonic() - started, 1)
    return verdict


def _fill(verdict: Verdict, start: Start, disk: Path, size: float, wanted: Json, say: Callable[[str], None]) -> None:
    """Run on a disk that is too small, and on ever larger ones, until the cell gets through."""
    home = disk / "home"
    log = disk.with_name("full.log")
    failures = checkpoints = 0
    while True:
        process = start(CELL, home, log=log)
        process.join()
        if process.exitcode == 0:
            break
        failures += 1
        said = log.read_text().splitlines()[-1:]
        right = process.exitcode == 2 and "the disk is full" in "".join(said)
        verdict.see(NAMED, [] if right else [f"{size:.0f} MB: status {process.exitcode}, {said}"])
        verdict.see(WHOLE, half_made(home))
        checkpoints += any(not (path / "complete.json").exists() for path in home.glob("store/.scratch/*/checkpoint-*"))
        if not right:
            return
        size *= GROWTH
        _remount(disk, f"size={size * 1e6:.0f}")
        say(f"full {failures} times; now {size:.0f} MB")
    verdict.see(EQUAL, differences(wanted, essence(home)))
    verdict.see(EXPLAINED, unexplained(home))
    verdict.figures |= {
        "full disks": failures,
        "of them in a checkpoint": checkpoints,
        "room that was enough": f"{size:.0f} MB",
    }


def _read_only(verdict: Verdict, start: Start, disk: Path, say: Callable[[str], None]) -> None:
    """A finished cell is still shown, another one is refused, and with writing allowed it runs."""
    log = disk.with_name("readonly.log")
    _remount(disk, "ro")
    done, other = start(CELL, disk / "home", log=log), start((*CELL, "seed=1"), disk / "home", log=log)
    done.join()
    other.join()
    named = other.exitcode == 2 and "Read-only file system" in log.read_text()
    verdict.see(NAMED, [] if named else [f"read-only: status {other.exitcode}"])
    verdict.see(
        "a finished cell is found in a store that can't be written", [] if done.exitcode == 0 else [log.read_text()]
    )
    _remount(disk, "rw,size=500m")
    say("read-only: refused")


def _damage(verdict: Verdict, start: Start, home: Path, wanted: Json, say: Callable[[str], None]) -> None:
    """Flip a bit and cut a file, each time with the record gone, so that the cell reads what was damaged."""
    harms: dict[str, Callable[[Path], None]] = {"flipped bit": _flip, "cut file": _cut, "missing file": Path.unlink}
    (record,) = wanted["records"].values()
    (weights,) = home.glob("store/TrainPairs-*/model.safetensors")
    for name, harm in harms.items():
        shutil.rmtree(home / "records")
        shutil.rmtree(home / "store" / f"Evaluate-{record['rows']['self']}")  # else nobody would read the weights
        harm(weights)
        log_of(home).write_text("")
        process = start(CELL, home)
        process.join()
        status = process.exitcode
        named = "is damaged (model.safetensors): put aside" in log_of(home).read_text()
        verdict.see(DAMAGED, [] if status == 0 and named else [f"{name}: status {status}, named: {named}"])
        verdict.see(DAMAGED, [f"{name}: {place}" for place in differences(wanted, essence(home))])
        verdict.see(EXPLAINED, unexplained(home))
        say(f"{name}: {'named and made again' if status == 0 and named else 'not as promised'}")
    verdict.figures["damaged files"] = len(harms)


def _flip(path: Path) -> None:
    with path.open("r+b") as handle:
        handle.seek(path.stat().st_size // 2)
        byte = handle.read(1)[0]
        handle.seek(-1, 1)
        handle.write(bytes([byte ^ 1]))


def _cut(path: Path) -> None:
    with path.open("r+b") as handle:
        handle.truncate(path.stat().st_size // 2)


@contextmanager
def _small_disk(place: Path, megabytes: float) -> Iterator[Path | None]:
    """A disk in memory of that size, or None where it can't be mounted."""
    place.mkdir()
    size = f"size={megabytes * 1e6:.0f}"
    if not shutil.which("mount") or not _succeeds(["mount", "-t", "tmpfs", "-o", size, "polm-drill", str(place)]):
        yield None
        return
    try:
        yield place
    finally:
        _succeeds(["umount", "--lazy", str(place)])


def _remount(place: Path, options: str) -> None:
    if not _succeeds(["mount", "-o", f"remount,{options}", str(place)]):
        raise PolmError(f"the drill's disk {place} can't be mounted with {options}")


def _succeeds(command: list[str]) -> bool:
    return subprocess.run(command, capture_output=True, check=False).returncode == 0

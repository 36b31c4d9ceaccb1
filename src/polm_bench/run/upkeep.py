"""What a home holds: who is at work, what failed, what is damaged, and what no record needs."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import shutil
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from polm_bench.errors import StoreError
from polm_bench.files import write_json
from polm_bench.run import glance
from polm_bench.run.redact import scrub
from polm_bench.run.store import MANIFEST, Store, damage

Json = dict[str, Any]


def want(home: Path, cells: Mapping[str, str]) -> None:
    """Note cells that somebody asked for: record id -> command. `status` lists those without a record as wanted."""
    folder = home / "wanted"
    folder.mkdir(parents=True, exist_ok=True)
    for record_id, command in cells.items():
        write_json(folder / f"{record_id}.json", {"command": scrub(command), "at": time.time()})


def got(home: Path, record_id: str) -> None:
    """The cell has its record: it is no longer wanted."""
    (home / "wanted" / f"{record_id}.json").unlink(missing_ok=True)


def running(store: Store) -> list[Json]:
    """Stages that a living process is at: kind, key, owner, pid, host, seconds, and how far it is."""
    found = []
    for notice in sorted((store.root / ".locks").glob("*.json")):
        told = _read(notice)
        if told is None or not is_held(notice.with_suffix("")):
            continue
        kind, _, key = notice.stem.rpartition("-")
        seconds = time.time() - told["since"]
        share = told["done"] / told["total"] if told.get("total") else None
        left = (told["at"] - told["since"]) * (1 - share) / share if share else None
        found.append({"kind": kind, "key": key, **told, "seconds": round(seconds, 1), "left": left and round(left, 1)})
    return found


def is_held(lock: Path) -> bool:
    """Whether a living process holds the lock; it goes with its owner, so no clock is asked."""
    try:
        with lock.open("r+b") as handle:  # not "a", which would make a file that isn't there
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False
    return False


def status(home: Path) -> Json:
    """Cells by how they stand (wanted, running, ok, and the ways to fail), with what is known of each."""
    at_work = running(Store(home / "store"))
    busy = {stage["owner"] for stage in at_work}
    cells: dict[str, Json] = {}
    for path in (home / "records").glob("*.json"):
        ended = _ending(path)
        if ended is not None:
            cells[path.stem] = ended
    for path in (home / "wanted").glob("*.json"):
        told = _read(path)
        if told is not None and cells.get(path.stem, {}).get("status") != "ok":
            cells[path.stem] = cells.get(path.stem, {}) | {"status": "wanted", "command": told["command"]}
    for owner in busy & set(cells):
        cells[owner]["status"] = "running"
    return {"cells": [{"id": name, **cell} for name, cell in sorted(cells.items())], "running": at_work}


def _ending(path: Path) -> Json | None:
    """Status and reason of a record."""
    try:
        text = path.read_bytes()
        state = glance.part(text, "status")
        if not isinstance(state, str):
            return None
        return {"status": state} if state == "ok" else {"status": state, "reason": glance.part(text, "reason")}
    except (OSError, ValueError):
        return None


class Litter(NamedTuple):
    """Something in the store that no record needs."""

    path: Path
    what: str
    bytes: int


def litter(home: Path) -> list[Litter]:
    """What could go: stages no record names, what killed writers left, checkpoints, damaged folders; never what a process is at."""
    store = Store(home / "store")
    needed = set(_needed(home))
    found: list[Litter] = []
    for folder in store.finished():
        if folder.name not in needed:
            found.append(Litter(folder, "a stage that no record names", _size(folder)))
    for name, what in ((".partial", "left by a killed writer"), (".scratch", "checkpoints of an unfinished stage")):
        for folder in sorted((store.root / name).glob("*")):
            stage = folder.name.rsplit("-", 1)[0] if name == ".partial" else folder.name
            if not is_held(store.root / ".locks" / stage):
                found.append(Litter(folder, what, _size(folder)))
    found += [
        Litter(folder, "damaged, put aside", _size(folder)) for folder in sorted((store.root / ".damaged").glob("*"))
    ]
    return found + [Litter(path, "left by a killed writer", _size(path)) for path in _unfinished(home)]


def _unfinished(home: Path) -> Iterator[Path]:
    """Files that a killed writer had not yet put in their place, and notices of stages that nobody is at."""
    locks = home / "store" / ".locks"
    for folder in (locks, home / "wanted", home / "overlap", home / "records", home / "records" / "items"):
        yield from (path for path in sorted(folder.glob(".*")) if path.is_file() and not is_held(path))
    yield from (notice for notice in sorted(locks.glob("[!.]*.json")) if not is_held(notice.with_suffix("")))


def remove(found: list[Litter]) -> int:
    """Delete them; returns the bytes that this freed. A finished stage loses its manifest first, so that it is whole or absent."""
    freed = 0
    for one in found:
        with contextlib.suppress(NotADirectoryError):
            (one.path / MANIFEST).unlink(missing_ok=True)
        if one.path.is_dir():
            shutil.rmtree(one.path, ignore_errors=True)
        else:
            one.path.unlink(missing_ok=True)
        freed += 0 if one.path.exists() else one.bytes
    return freed


def damaged(store: Store) -> Iterator[tuple[Path, list[str]]]:
    """Every finished stage with the files that are not what its manifest says (none: an empty list)."""
    for folder in store.finished():
        yield folder, damage(folder)


def _needed(home: Path) -> Iterator[str]:
    for path in (home / "records").glob("*.json"):
        told = _read(path)
        try:
            yield from [f"{stage['kind']}-{stage['key']}" for stage in (told or {})["stages"]]
        except (KeyError, TypeError) as error:
            raise StoreError(
                f"the record {path} can't be read, so what it needs is not known. Remove it and run the cell again."
            ) from error


def _read(path: Path) -> Json | None:
    try:
        return json.loads(path.read_text())
    except (OSError, ValueError):
        return None


def _size(folder: Path) -> int:
    if not folder.is_dir():
        return folder.lstat().st_size
    return sum(os.lstat(Path(place) / name).st_size for place, _, names in os.walk(folder) for name in names)

"""Stages on disk: one folder a stage, addressed by its key; whole or absent.

A stage is written to `.partial/`, its manifest last, and renamed into place. A folder without a manifest does not exist for the store.
Locks are `flock`s on files of `.locks/`: the kernel lets them go when their owner dies, and no clock is involved.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import json
import os
import shutil
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from polm_bench.errors import StoreError
from polm_bench.graph import Stage

MANIFEST = "manifest.json"


class Store:
    """Folders of finished stages under `root`."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def prepare(self) -> None:
        """Make the folders; raises StoreError where they can't be written."""
        try:
            for name in (".partial", ".scratch", ".locks"):
                (self.root / name).mkdir(parents=True, exist_ok=True)
            probe = self.root / ".partial" / f"probe-{uuid.uuid4().hex}"
            probe.write_bytes(b"\0" * 4096)
            probe.unlink()
        except OSError as error:
            raise StoreError(_unwritable(self.root, error)) from error

    def path(self, stage: Stage) -> Path:
        return self.root / stage.folder

    def scratch(self, stage: Stage) -> Path:
        return self.root / ".scratch" / stage.folder

    def has(self, stage: Stage) -> bool:
        return (self.path(stage) / MANIFEST).exists()

    def manifest(self, stage: Stage) -> dict[str, Any]:
        """What a finished stage says of itself: identity, ledger, curves, files with SHA-256."""
        path = self.path(stage) / MANIFEST
        try:
            return json.loads(path.read_text())
        except (OSError, ValueError) as error:
            raise StoreError(
                f"{path} can't be read ({error}). Remove the folder {path.parent} and run again."
            ) from error

    @contextlib.contextmanager
    def lock(self, stage: Stage, waiting: Callable[[], None]) -> Iterator[None]:
        """Hold the stage; calls `waiting` once if another process holds it, then waits for it to finish or die."""
        (self.root / ".locks").mkdir(parents=True, exist_ok=True)
        with (self.root / ".locks" / stage.folder).open("w") as handle:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                waiting()
                fcntl.flock(handle, fcntl.LOCK_EX)
            yield

    @contextlib.contextmanager
    def writing(self, stage: Stage) -> Iterator[Path]:
        """An empty folder to fill; gone again if the block raises. Call `commit` inside the block, under the lock."""
        partial = self.root / ".partial" / f"{stage.folder}-{uuid.uuid4().hex[:8]}"
        for stale in (self.root / ".partial").glob(f"{stage.folder}-*"):
            shutil.rmtree(stale, ignore_errors=True)  # we hold the lock, so its writer is dead
        try:
            partial.mkdir(parents=True)
            yield partial
        except OSError as error:
            if error.errno in (errno.ENOSPC, errno.EROFS, errno.EDQUOT):
                raise StoreError(_unwritable(self.root, error)) from error
            raise
        finally:
            shutil.rmtree(partial, ignore_errors=True)

    def commit(self, stage: Stage, partial: Path, manifest: dict[str, Any]) -> None:
        """Write the manifest last, make everything durable, rename into place, drop the stage's scratch."""
        files = {
            str(path.relative_to(partial)): describe_file(path) for path in sorted(partial.rglob("*")) if path.is_file()
        }
        write_json(partial / MANIFEST, manifest | {"files": files})
        target = self.path(stage)
        if target.exists():  # no manifest in it, or we would not be here
            shutil.rmtree(target)
        partial.rename(target)
        _sync(self.root)
        shutil.rmtree(self.scratch(stage), ignore_errors=True)

    def discard(self, stage: Stage) -> None:
        """Forget a stage."""
        shutil.rmtree(self.path(stage), ignore_errors=True)

    def damaged(self, stage: Stage) -> list[str]:
        """Files of a finished stage that are missing or not what its manifest says."""
        folder = self.path(stage)
        return [
            name
            for name, told in self.manifest(stage)["files"].items()
            if not (folder / name).exists() or describe_file(folder / name) != told
        ]


def describe_file(path: Path) -> dict[str, Any]:
    """Bytes and SHA-256 of a file; of a link, where it leads (what it leads to has its own identity)."""
    if path.is_symlink():
        return {"link": str(path.readlink())}
    with path.open("rb") as handle:
        digest = hashlib.file_digest(handle, "sha256").hexdigest()
        os.fsync(handle.fileno())
    return {"bytes": path.stat().st_size, "sha256": digest}


def write_json(path: Path, value: Any) -> None:
    """Write JSON whole or not at all: beside its place, flushed to disk, then renamed."""
    beside = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}")
    try:
        with beside.open("w") as handle:
            json.dump(value, handle, indent=1, ensure_ascii=False, allow_nan=False)
            handle.write("\n")
            handle.flush()
            os.fsync(handle.fileno())
        beside.replace(path)
    finally:
        beside.unlink(missing_ok=True)


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _unwritable(root: Path, error: OSError) -> str:
    reason = "the disk is full" if error.errno in (errno.ENOSPC, errno.EDQUOT) else (error.strerror or str(error))
    return f"the store {root} can't be written: {reason}. Free some space or set POLM_HOME to a folder that can be written."

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
import socket
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from polm_bench.errors import StoreError
from polm_bench.files import write_json
from polm_bench.graph import Stage
from polm_bench.run.redact import scrubbed

MANIFEST = "manifest.json"
NOTICE_SECONDS = 2.0  # between two notices of how far a stage is


class Store:
    """Folders of finished stages under `root`."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._intact: set[str] = set()  # folders whose files this process has compared with their manifests

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
        with (self.root / ".locks" / stage.folder).open("a") as handle:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                waiting()
                fcntl.flock(handle, fcntl.LOCK_EX)
            yield

    @contextlib.contextmanager
    def claimed(self, stage: Stage, owner: str) -> Iterator[Callable[[float, float, str], None]]:
        """Say beside the lock who is at the stage, for `polm-bench status`; gives a function that tells how far it is.

        It is only a notice: whether somebody really is at it is known by the lock.
        """
        notice = self.root / ".locks" / f"{stage.folder}.json"
        told = {"owner": owner, "pid": os.getpid(), "host": socket.gethostname(), "since": time.time()}
        last = 0.0

        def tell(done: float, total: float, what: str) -> None:
            nonlocal last
            if time.monotonic() - last >= NOTICE_SECONDS:
                last = time.monotonic()
                with contextlib.suppress(OSError):
                    write_json(notice, told | {"done": done, "total": total, "what": what, "at": time.time()})

        with contextlib.suppress(OSError):  # the stage itself will say that the disk is full
            write_json(notice, told)
        try:
            yield tell
        finally:
            notice.unlink(missing_ok=True)

    @contextlib.contextmanager
    def writing(self, stage: Stage) -> Iterator[Path]:
        """An empty folder to fill; gone again if the block raises. Call `commit` inside the block, under the lock."""
        partial = self.root / ".partial" / f"{stage.folder}-{uuid.uuid4().hex[:8]}"
        for stale in (self.root / ".partial").glob(f"{stage.folder}-*"):
            shutil.rmtree(stale, ignore_errors=True)  # we hold the lock, so its writer is dead
        try:
            with writable(self.root):
                partial.mkdir(parents=True)
                yield partial
        finally:
            shutil.rmtree(partial, ignore_errors=True)

    def commit(self, stage: Stage, partial: Path, manifest: dict[str, Any]) -> None:
        """Write the manifest last, let all read what may read it, make everything durable, rename into place, drop the stage's scratch."""
        files = {
            str(path.relative_to(partial)): describe_file(path) for path in sorted(partial.rglob("*")) if path.is_file()
        }
        write_json(partial / MANIFEST, scrubbed(manifest) | {"files": files})
        for path in (partial / name for name, told in files.items() if "link" not in told):
            if path.stat().st_nlink == 1:  # not another stage's too
                path.chmod((partial / MANIFEST).stat().st_mode)  # safetensors leaves 0600: others could not use it
        target = self.path(stage)
        if target.exists():  # no manifest in it, or we would not be here
            shutil.rmtree(target)
        partial.rename(target)
        _sync(self.root)
        shutil.rmtree(self.scratch(stage), ignore_errors=True)

    def usable(self, stage: Stage, damaged: Callable[[Stage, list[str]], None]) -> bool:
        """Whether the stage is finished and its files are what its manifest says; compared once a process.

        A damaged one is told and isolated, so that it is made again and never served.
        """
        if not self.has(stage):
            return False
        if stage.folder not in self._intact:
            if wrong := damage(self.path(stage)):
                damaged(stage, wrong)
                self.isolate(stage.folder)
                return False
            self._intact.add(stage.folder)
        return True

    def isolate(self, folder: str) -> Path:
        """Move a stage's folder out of the way, to be looked at; `polm-bench gc` removes it."""
        place = self.root / ".damaged" / f"{folder}-{uuid.uuid4().hex[:8]}"
        place.parent.mkdir(exist_ok=True)
        with contextlib.suppress(FileNotFoundError):  # another process was faster
            (self.root / folder).rename(place)
        return place

    def finished(self) -> list[Path]:
        """Folders of all finished stages."""
        return sorted(path.parent for path in self.root.glob(f"[!.]*/{MANIFEST}"))


def damage(folder: Path) -> list[str]:
    """Files of a finished stage that are missing or not what its manifest says; the manifest itself where it can't be read."""
    try:
        files = json.loads((folder / MANIFEST).read_text())["files"]
    except (OSError, ValueError, KeyError):
        return [MANIFEST]
    return [name for name, told in files.items() if not os.path.lexists(folder / name) or _differs(folder / name, told)]


def _differs(path: Path, told: dict[str, Any]) -> bool:
    if "bytes" in told and (not path.is_file() or path.stat().st_size != told["bytes"]):
        return True  # no need to read it
    return describe_file(path) != told


def describe_file(path: Path) -> dict[str, Any]:
    """Bytes and SHA-256 of a file; of a link, where it leads (what it leads to has its own identity)."""
    if path.is_symlink():
        return {"link": str(path.readlink())}
    with path.open("rb") as handle:
        digest = hashlib.file_digest(handle, "sha256").hexdigest()
        os.fsync(handle.fileno())
    return {"bytes": path.stat().st_size, "sha256": digest}


FULL = ("no space left on device", "os error 28", "file write failed", "pytorchstreamwriter failed writing")
"""What Python, safetensors and torch's archive writer say of a full disk; the last two raise no OSError."""

TOO_LARGE = ("file too large", "os error 27")
"""What Python and safetensors say of a file that outgrows a limit (ulimit -f, a quota, FAT)."""

REFUSED = (errno.ENOSPC, errno.EROFS, errno.EDQUOT, errno.EFBIG)


@contextlib.contextmanager
def writable(root: Path) -> Iterator[None]:
    """Raises StoreError where the block fails because the file system takes no more."""
    try:
        yield
    except Exception as error:
        refused = refusal(error)
        if refused is None:
            raise
        raise StoreError(_unwritable(root, refused)) from error


def refusal(error: BaseException) -> OSError | None:
    """What the file system refused a writer, where that is why it failed: no room, no quota, no file as large, or no writing at all."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, OSError) and cause.errno in REFUSED:
            return cause
        for number, said in ((errno.ENOSPC, FULL), (errno.EFBIG, TOO_LARGE)):
            if any(words in str(cause).lower() for words in said):
                return OSError(number, os.strerror(number))
        cause = cause.__cause__ or cause.__context__
    return None


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _unwritable(root: Path, error: OSError) -> str:
    reason = "the disk is full" if error.errno in (errno.ENOSPC, errno.EDQUOT) else (error.strerror or str(error))
    return f"the store {root} can't be written: {reason}. Free some space (`polm-bench gc` lists what no record needs) or set POLM_HOME to a folder that can be written."

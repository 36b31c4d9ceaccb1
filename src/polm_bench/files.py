"""Files that are whole or absent, whatever becomes of their writer."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A file beside `path` to write to, which takes its place when the block ends well, flushed to disk.

    It is locked meanwhile, so that what a killed writer left can be told from what a living one writes.
    """
    beside = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}")
    try:
        with beside.open("ab") as held:
            fcntl.flock(held, fcntl.LOCK_EX)
            yield beside
            os.fsync(held.fileno())
            beside.replace(path)
    finally:
        beside.unlink(missing_ok=True)


def write_json(path: Path, value: Any) -> None:
    """Write JSON whole or not at all: beside its place, flushed to disk, then renamed."""
    with replacing(path) as beside, beside.open("w") as handle:
        json.dump(value, handle, indent=1, ensure_ascii=False, allow_nan=False)
        handle.write("\n")

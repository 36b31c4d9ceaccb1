"""What the stages of a plan may take, judged by what like stages took in this store."""

from __future__ import annotations

import json
import statistics
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from polm_bench.graph import Stage, identity
from polm_bench.run.store import MANIFEST, Store


class Forecast(NamedTuple):
    """What one stage took if it is done, else the median of the most similar stages here; None where none is known."""

    done: bool
    seconds: float | None
    memory_bytes: float | None
    disk_bytes: float | None
    host_bytes: float | None = None  # memory of the machine, also where the work is done on a device


def shortage(expected: Mapping[str, Forecast], disk_free: float, memory: float) -> str | None:
    """What of this can't fit on a machine with so many bytes, and what would; None where nothing is known to be too large."""
    missing = [one for one in expected.values() if not one.done]
    disk = sum(one.disk_bytes or 0 for one in missing)
    if disk > disk_free:
        return (
            f"the stages to run leave about {disk / 1e9:.1f} GB on disk, as like stages did here, and {disk_free / 1e9:.1f} GB are free. "
            "Free some (`polm-bench gc` lists what no record needs) or set POLM_HOME to a larger disk."
        )
    peak = max((one.host_bytes or 0 for one in missing), default=0)
    if peak > memory:
        return (
            f"a stage to run takes about {peak / 1e9:.1f} GB of memory, as like stages did here, and this machine has {memory / 1e9:.1f} GB. "
            "A smaller launch.micro_batch, launch.dtype=bfloat16 or a smaller model would fit."
        )
    return None


def forecast(stages: Sequence[Stage], store: Store) -> dict[str, Forecast]:
    """Per stage key. Reads manifests only."""
    seen = list(_manifests(store.root))
    return {stage.key: _one(stage, store, seen) for stage in stages}


def _one(stage: Stage, store: Store, seen: list[dict[str, Any]]) -> Forecast:
    if store.has(stage):
        return Forecast(True, *_spent([store.manifest(stage)]))
    like = [manifest for manifest in seen if manifest.get("kind") == type(stage).__name__]
    wanted = identity(stage)
    shared = [_agreement(wanted, manifest.get("identity")) for manifest in like]
    nearest = [manifest for manifest, count in zip(like, shared, strict=True) if count == max(shared)]
    return Forecast(False, *_spent(nearest))


def _spent(manifests: list[dict[str, Any]]) -> tuple[float | None, float | None, float | None, float | None]:
    ledgers = [manifest.get("ledger", {}) for manifest in manifests]
    disk = [sum(file.get("bytes", 0) for file in manifest.get("files", {}).values()) for manifest in manifests]
    return (
        _median([ledger.get("wall_seconds") for ledger in ledgers]),
        _median([ledger.get("peak_device_bytes") or ledger.get("peak_host_bytes") for ledger in ledgers]),
        _median(disk),
        _median([ledger.get("peak_host_bytes") for ledger in ledgers]),
    )


def _agreement(wanted: dict[str, Any], other: Any) -> int:
    return sum(other.get(name) == value for name, value in wanted.items()) if isinstance(other, dict) else 0


def _median(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return statistics.median(known) if known else None


def _manifests(root: Path) -> Iterator[dict[str, Any]]:
    for path in root.glob(f"*/{MANIFEST}"):
        try:
            yield json.loads(path.read_bytes())
        except (OSError, ValueError):
            continue  # being written or removed by another process

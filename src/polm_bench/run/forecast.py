"""What the stages of a plan may take, and what that stands on.

A stage like others that ran on this machine takes what they took beside their work (imports, loading) and, as many times as it has their work, what
that took. One of a kind that never ran here takes the operations that its identity pays for, at the speed that like work (training, generation,
scoring) had here. Memory is what the size of the model says, and what the process took beside it in those stages. What nothing says is None.
"""

from __future__ import annotations

import json
import statistics
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal, NamedTuple

from polm_bench.graph import Stage, identity
from polm_bench.run import work
from polm_bench.run.launch import Launch
from polm_bench.run.store import MANIFEST, Store
from polm_bench.run.work import Json, Memory, Sketch

Basis = Literal["measured here", "like stages", "counted", "at least"]
"""The stage itself; stages of its kind; the size of the model, its spend, and what other kinds took; the size of the model alone."""

INLINE = Launch(name="inline")

NEAR = 0.95  # how like it a stage must be to be read, as a part of how like it the most like one is


class Forecast(NamedTuple):
    """What one stage took if it is done, else what it may take; None where that is not known."""

    done: bool
    seconds: float | None
    memory_bytes: float | None  # of the device, or of the machine where there is none
    disk_bytes: float | None
    host_bytes: float | None = None  # of the machine's memory, also where the work is done on a device
    basis: Mapping[str, Basis] = {}  # figure -> what it stands on


class Done(NamedTuple):
    """A stage that ran here."""

    sketch: Sketch
    ledger: Json
    disk_bytes: float | None = None
    asked: Mapping[str, int] = {}  # of an evaluation: task -> items

    @property
    def busy(self) -> float:
        """Seconds of its work, where they were counted."""
        return float(self.ledger.get("device_seconds", 0))

    @property
    def beside(self) -> float:
        """Seconds of all else."""
        return max(0.0, self.ledger["wall_seconds"] - self.busy)


class History:
    """Stages that ran here, and what they say of others."""

    def __init__(self) -> None:
        self.like: dict[str, dict[frozenset[tuple[str, str]], list[Done]]] = defaultdict(lambda: defaultdict(list))
        self.sizes: dict[str, int] = {}  # task -> the most items that an evaluation asked of it

    def add(self, stage: Done) -> None:
        self.like[stage.sketch.kind][stage.sketch.traits].append(stage)
        for task, size in stage.asked.items():
            self.sizes[task] = max(size, self.sizes.get(task, 0))

    def expect(self, sketch: Sketch, launch: Launch) -> Forecast:
        """What a stage that has not run may take."""
        near = self._nearest(sketch)
        told = _by_like(sketch, near, launch) if near else self._counted(sketch, launch)
        basis: dict[str, Basis] = dict.fromkeys(told, "like stages" if near else "counted")
        if not self.like:
            basis["memory_bytes"] = "at least"  # what a process takes beside is not known
        return Forecast(False, **told, basis={name: basis[name] for name, value in told.items() if value is not None})

    def _nearest(self, sketch: Sketch) -> list[tuple[Done, float]]:
        """The stages of its kind that are most like it, each with how many times their work this one is."""
        groups = [(work.likeness(sketch, group[0].sketch), group) for group in self.like.get(sketch.kind, {}).values()]
        found: list[tuple[Done, float]] = []
        best = 0.0
        for likeness, group in sorted(groups, key=lambda one: one[0], reverse=True):
            if likeness < NEAR * best:
                break
            times = [work.ratio(sketch, one.sketch, one.ledger, one.asked, self.sizes) for one in group]
            found += [(one, share) for one, share in zip(group, times, strict=True) if share is not None]
            best = best or (likeness if found else 0.0)
        return found

    def _counted(self, sketch: Sketch, launch: Launch) -> dict[str, float | None]:
        memory = work.memory(sketch, launch)
        process = _median(_process(one, launch) for one in self._all()) or 0.0
        return {
            "seconds": self._counted_seconds(sketch),
            "memory_bytes": memory.all + process if memory else None,
            "disk_bytes": work.disk(sketch, launch),
            "host_bytes": memory.least if memory and work.on_host(launch) else None,
        }

    def _counted_seconds(self, sketch: Sketch) -> float | None:
        """Operations over the speed of like work, and what that took beside; a spend in seconds says itself how long it lasts."""
        wanted = work.kind_of_work(sketch.identity)
        like = [one for one in self._all() if wanted and work.kind_of_work(one.sketch.identity) == wanted]
        speed = _median(one.ledger["flops"] / one.busy for one in like if one.ledger.get("flops") and one.busy)
        operations = work.operations(sketch)
        beside = _median(one.beside for one in like) or 0.0
        if wanted and sketch.identity["spend"]["unit"] == "seconds":
            return beside + sketch.identity["spend"]["amount"]
        return beside + operations / speed if operations and speed else None

    def _all(self) -> Iterator[Done]:
        return (one for groups in self.like.values() for group in groups.values() for one in group)


def forecast(
    stages: Sequence[Stage], store: Store, launch: Launch = INLINE, folders: Mapping[str, Path] = MappingProxyType({})
) -> dict[str, Forecast]:
    """Per stage key, from the manifests in the store.

    `folders` are those of models that the store lacks but whose files lie on this machine, by the key of the stage that fetches them.
    """
    seen = {told["key"]: told for told in _manifests(store.root)}
    wanted = {stage.key: identity(stage) for stage in stages}
    fetched = {key: store.root / f"FetchModel-{key}" for key, told in seen.items() if told["kind"] == "FetchModel"}
    known = work.sketches({key: told["identity"] for key, told in seen.items()} | wanted, {**folders, **fetched})
    history = History()
    for key, told in seen.items():
        history.add(Done(known[key], told["ledger"], _size(told), _asked(store.root / f"{told['kind']}-{key}")))
    return {key: _measured(seen[key]) if key in seen else history.expect(known[key], launch) for key in wanted}


def least(stages: Sequence[Stage], store: Store, launch: Launch, folders: Mapping[str, Path]) -> dict[str, Forecast]:
    """What the size of the model alone says of the stages that the store lacks; reads no manifests."""
    places = {stage.key: store.path(stage) for stage in stages if store.has(stage)}
    known = work.sketches({stage.key: identity(stage) for stage in stages}, {**folders, **places})
    return {key: History().expect(sketch, launch) for key, sketch in known.items() if key not in places}


def shortage(expected: Mapping[str, Forecast], disk_free: float, memory: float) -> str | None:
    """What of this can't fit on a machine with so many bytes, and what would; None where nothing is known to be too large."""
    missing = [one for one in expected.values() if not one.done]
    disk = sum(one.disk_bytes or 0 for one in missing)
    if disk > disk_free:
        return (
            f"the stages to run leave about {disk / 1e9:.1f} GB on disk, {_standing(missing, 'disk_bytes')}, and {disk_free / 1e9:.1f} GB are free. "
            "Free some (`polm-bench gc` lists what no record needs) or set POLM_HOME to a larger disk."
        )
    largest = max(missing, key=lambda one: one.host_bytes or 0, default=None)
    if largest is None or largest.host_bytes is None or largest.host_bytes <= memory:
        return None
    smaller = "launch.dtype=bfloat16, an adapter (+recipe=lora) or a smaller model takes less."
    if largest.basis.get("host_bytes") != "counted":
        smaller = "A smaller launch.micro_batch, launch.dtype=bfloat16 or a smaller model would fit."
    return (
        f"a stage to run takes about {largest.host_bytes / 1e9:.1f} GB of memory, {_standing([largest], 'host_bytes')}, and this machine has "
        f"{memory / 1e9:.1f} GB. {smaller}"
    )


def _standing(stages: Sequence[Forecast], figure: str) -> str:
    told = {one.basis.get(figure) for one in stages}
    return "counted by the size of the model" if "counted" in told else "as like stages did here"


def _by_like(sketch: Sketch, near: Sequence[tuple[Done, float]], launch: Launch) -> dict[str, float | None]:
    """Medians over stages like it, each brought to its amount of work and to the size of its model."""
    memory = work.memory(sketch, launch)
    return {
        "seconds": _median(one.beside + one.busy * times for one, times in near),
        "memory_bytes": _median(_peak(one, launch, memory, lambda told: told.all) for one, _ in near),
        "disk_bytes": _median(one.disk_bytes and one.disk_bytes * work.models(sketch, one.sketch) for one, _ in near),
        "host_bytes": _median(_peak(one, launch, memory, lambda told: told.least, host=True) for one, _ in near),
    }


def _peak(
    one: Done, launch: Launch, wanted: Memory | None, part: Callable[[Memory], float], host: bool = False
) -> float | None:
    """A stage's peak with the counted part of its memory replaced by that of another."""
    device = None if host else one.ledger.get("peak_device_bytes")
    peak = device or one.ledger.get("peak_host_bytes")
    counted = work.memory(one.sketch, launch)
    if peak is None or wanted is None or counted is None:
        return peak
    return max(0.0, float(peak) - part(counted) + part(wanted))


def _process(one: Done, launch: Launch) -> float | None:
    """What a process took beside what is counted."""
    return _peak(one, launch, Memory(0.0, 0.0), lambda told: told.all) if work.memory(one.sketch, launch) else None


def _measured(told: Json) -> Forecast:
    ledger = told["ledger"]
    memory = ledger.get("peak_device_bytes") or ledger.get("peak_host_bytes")
    figures = (ledger.get("wall_seconds"), memory, _size(told), ledger.get("peak_host_bytes"))
    return Forecast(True, *figures, basis=dict.fromkeys(Forecast._fields[1:5], "measured here"))


def _size(told: Json) -> float:
    return float(sum(file.get("bytes", 0) for file in told.get("files", {}).values()))


def _asked(folder: Path) -> dict[str, int]:
    """Task -> items of a finished evaluation; nothing for another stage."""
    if not folder.name.startswith("Evaluate-"):
        return {}
    try:
        return {score["task"]: score["n"] for score in json.loads((folder / "scores.json").read_bytes())}
    except (OSError, ValueError, KeyError, TypeError):
        return {}


def _median(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return statistics.median(known) if known else None


def _manifests(root: Path) -> Iterator[dict[str, Any]]:
    for path in root.glob(f"[!.]*/{MANIFEST}"):
        try:
            told = json.loads(path.read_bytes())
        except (OSError, ValueError):
            continue  # being written or removed by another process
        if isinstance(told, dict) and {"key", "kind", "identity", "ledger"} <= told.keys():
            yield told

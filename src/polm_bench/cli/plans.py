"""`plan`: the stages of a cell, or of a matrix of cells, before anything runs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from polm_bench.cli.beside import launch_of
from polm_bench.cli.printing import gigabytes, print_json, print_rows
from polm_bench.cli.remaining import duration, lacking
from polm_bench.errors import PolmError, TooLarge
from polm_bench.paths import home
from polm_bench.settings import SWEEP

if TYPE_CHECKING:
    from polm_bench.cell import Plan
    from polm_bench.graph import Stage
    from polm_bench.run.forecast import Forecast

Json = dict[str, Any]


def plan(overrides: Sequence[str], as_json: bool) -> int:
    """Print the graph of one cell (keys, what is done, what the rest may take), or with -m the stages of all cells by kind.

    Raises TooLarge for what can't fit on this machine, and PolmError for another option of Hydra's.
    """
    if option := next((word for word in overrides if word.startswith("-") and word not in SWEEP), None):
        raise PolmError(f"{option}: plan runs nothing and takes overrides, -m and --json alone. Leave it out.")
    from polm_bench import config

    place = home()
    if set(SWEEP) & set(overrides):
        told = matrix_dict(config.cells(overrides), place)
        shown = print_matrix
    else:
        told = plan_dict(config.plan(overrides), place)
        shown = print_plan
    if as_json:
        print_json(told)
    else:
        shown(told)
    return 0


def plan_dict(found: Plan, place: Path) -> Json:
    """The plan with what is done and what is to be expected, per stage and in all."""
    told = found.to_dict()
    return told | _expected([found], [found], told["stages"], place)


def matrix_dict(plans: Sequence[Plan], place: Path) -> Json:
    """Cells with their records and stages; each different stage once, with how many cells ask for it; what is to be expected, as in a plan."""
    from polm_bench.run.cell import finished

    launch_of(plans)  # several launches are a mistake here as when they run
    records = [finished(plan, place) for plan in plans]
    dicts = [plan.to_dict() for plan in plans]
    asked = Counter(stage["key"] for told in dicts for stage in told["stages"])
    stages = {stage["key"]: stage | {"cells": asked[stage["key"]]} for told in dicts for stage in told["stages"]}
    cells = [
        {"id": told["id"], "cell": told["cell"], "record": record, "stages": [stage["key"] for stage in told["stages"]]}
        for told, record in zip(dicts, records, strict=True)
    ]
    unfinished = [plan for plan, record in zip(plans, records, strict=True) if record is None]
    return {"cells": cells, "stages": [*stages.values()]} | _expected(plans, unfinished, [*stages.values()], place)


def _expected(plans: Sequence[Plan], unfinished: Sequence[Plan], told: Iterable[Json], place: Path) -> Json:
    """Complete what is told of each stage, and sum up those that the unfinished cells lack. Raises TooLarge where these can't fit."""
    from shutil import disk_usage

    import psutil

    from polm_bench.run.cell import store_of
    from polm_bench.run.forecast import forecast, shortage

    store, launch = store_of(place), plans[0].launch
    stages: dict[str, Stage] = {stage.key: stage for plan in plans for stage in plan.stages()}
    folders = {key: folder for plan in plans for key, folder in plan.folders().items()}
    expected = forecast([*stages.values()], store, launch, folders)
    missing = {key: expected[key] for key in lacking(unfinished, store)}
    existing = next(path for path in (place, *place.parents) if path.exists())
    if short := shortage(missing, disk_usage(existing).free, psutil.virtual_memory().total):
        raise TooLarge(short)
    for stage in told:
        stage |= expected[stage["key"]]._asdict() | {"missing": stage["key"] in missing}
    return {"missing": len(missing), "lacks": launch.lacks()} | _sums([*missing.values()])


def _sums(missing: Sequence[Forecast]) -> Json:
    return {
        "seconds": _sum([one.seconds for one in missing]),
        "disk_bytes": _sum([one.disk_bytes for one in missing]),
        "memory_bytes": max((one.memory_bytes for one in missing if one.memory_bytes is not None), default=None),
    }


def print_plan(told: Json) -> None:
    """The plan for people: one line a stage, inputs by number."""
    number = {stage["key"]: position for position, stage in enumerate(told["stages"], 1)}
    rows_of = {key: [row for row, stage in told["rows"].items() if stage == key] for key in number}
    rows = [
        {
            "#": str(number[stage["key"]]),
            "stage": stage["kind"],
            "key": stage["key"],
            "reads": " ".join(str(number[key]) for key in stage["inputs"]),
            "row": " ".join(rows_of[stage["key"]]),
            "state": "done" if stage["done"] else "missing" if stage["missing"] else "not needed",
            "seconds": _seconds(stage),
            "memory": _memory(stage),
            "disk": gigabytes(stage["disk_bytes"]),
            "by": _basis(stage["basis"]),
        }
        for stage in told["stages"]
    ]
    print_rows(rows, list(rows[0]), title=told["id"])
    _print_rest(told, "`polm-bench run` only reads it.")


def print_matrix(told: Json) -> None:
    """The matrix for people: one line for the stages of a kind, and one for all."""
    kinds = list(dict.fromkeys(stage["kind"] for stage in told["stages"]))
    rows = [_kind_row(kind, [stage for stage in told["stages"] if stage["kind"] == kind]) for kind in kinds]
    if len(rows) > 1:
        rows.append(_kind_row("all", told["stages"]))
    done = sum(cell["record"] is not None for cell in told["cells"])
    asked = sum(len(cell["stages"]) for cell in told["cells"])
    print_rows(rows, list(rows[0]), title=f"{len(told['cells'])} cells, {done} of them with a record")
    print(f"The cells ask for {asked} stages, {len(told['stages'])} different ones.")
    _print_rest(told, "`polm-bench run -m` only reads it.")


def _kind_row(kind: str, stages: Sequence[Json]) -> dict[str, str]:
    missing = [stage for stage in stages if stage["missing"]]
    seconds = _sum([stage["seconds"] for stage in missing])
    largest = max(missing, key=lambda stage: stage["memory_bytes"] or 0, default=None)
    return {
        "stage": kind,
        "different": str(len(stages)),
        "shared": str(sum(stage["cells"] > 1 for stage in stages)),
        "done": str(sum(stage["done"] for stage in stages)),
        "missing": str(len(missing)),
        "time": "" if not missing else "?" if seconds is None else f"{_at_least(missing)}{duration(seconds)}",
        "memory": _memory(largest) if largest else "",
        "disk": gigabytes(_sum([stage["disk_bytes"] for stage in missing])),
    }


def _at_least(missing: Iterable[Json]) -> str:
    return ">" if any(stage["seconds"] is None for stage in missing) else ""


def _print_rest(told: Json, done: str) -> None:
    """How much is left to run."""
    if not told["missing"]:
        print(f"Everything is done: {done}")
        return
    missing = [stage for stage in told["stages"] if stage["missing"]]
    known = "at least " if _at_least(missing) else ""
    time = f"; {known}about {duration(told['seconds'])}" if told["seconds"] is not None else ""
    print(f"{told['missing']} of {len(told['stages'])} stages to run{time}.")
    if told["lacks"]:
        print(f"Not on this machine: {told['lacks']}")


def _memory(stage: Json) -> str:
    more = ">" if stage["basis"].get("memory_bytes") == "at least" else ""
    return more + gigabytes(stage["memory_bytes"])


def _basis(told: Mapping[str, str]) -> str:
    """What the figures of a stage stand on: `like stages`, or each where they differ."""
    shown = {name: told[name] for name in ("seconds", "memory_bytes", "disk_bytes") if name in told}
    bases = {name: "counted" if basis == "at least" else basis for name, basis in shown.items()}
    if len(set(bases.values())) < 2:
        return next(iter(bases.values()), "")
    return ", ".join(f"{name.removesuffix('_bytes')} {basis}" for name, basis in bases.items())


def _seconds(stage: Json) -> str:
    if stage["seconds"] is None:
        return "?"
    return f"{stage['seconds']:,.1f}" if stage["done"] else f"~{stage['seconds']:,.1f}"


def _sum(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) if known else None

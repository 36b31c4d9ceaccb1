"""`run` and `plan`."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from polm_bench.cli.beside import beside, launch_of
from polm_bench.cli.printing import console, only_ours_on_stdout, print_json, print_rows
from polm_bench.cli.remaining import Remaining
from polm_bench.errors import PolmError, TooLarge
from polm_bench.paths import home

if TYPE_CHECKING:
    from polm_bench.config import Plan
    from polm_bench.report.records import Record
    from polm_bench.run.elsewhere import Elsewhere
    from polm_bench.run.execute import Reporter
    from polm_bench.run.forecast import Forecast

SWEEP = {"-m", "--multirun"}


def run(overrides: Sequence[str], as_json: bool) -> int:
    """Run every cell that the overrides describe; 1 when one of them did not end well."""
    from polm_bench.report.records import read

    made: dict[int, Record] = {}
    with only_ours_on_stdout(as_json) as out:
        for number, path in _run_cells(overrides):
            made[number] = read(path)
            if not as_json:
                print_record(made[number])
        if as_json and made:
            from polm_bench.report.console import result_dict

            results = [result_dict(made[number]) for number in sorted(made)]
            print_json(results if SWEEP & set(overrides) else results[0], out)
    return 1 if any(record.status != "ok" for record in made.values()) else 0


def _run_cells(overrides: Sequence[str]) -> Iterator[tuple[int, Path]]:
    """Number and record of each cell as it ends: in this process and in turn, or where `launch` says.

    Raises PolmError for the first that could not be started; elsewhere, after the others have ended.
    """
    from polm_bench.config import cells
    from polm_bench.run.cell import want

    place = home()
    # The libraries' own bars run into ours on a terminal, and fill a log file; they read this when they are imported.
    os.environ.setdefault("TQDM_DISABLE", "1")
    plans = cells(overrides)
    launch = launch_of(plans)
    want(place, plans)
    yield from _in_turn(plans, place) if launch is None else _elsewhere(plans, launch, place)


def _in_turn(plans: Sequence[Plan], place: Path) -> Iterator[tuple[int, Path]]:
    from polm_bench.run.progress import reporter

    for number, plan in enumerate(plans):
        shown = reporter()
        try:
            path = perform(plan, place, shown)
        finally:
            shown.close()
        yield number, path


def _elsewhere(plans: Sequence[Plan], launch: Elsewhere, place: Path) -> Iterator[tuple[int, Path]]:
    from polm_bench.run.cell import finished

    missing: list[int] = []
    for number, plan in enumerate(plans):
        if path := finished(plan, place):
            yield number, path
        else:
            missing.append(number)
    lacking = [plans[number] for number in missing]
    mistakes: list[str] = []
    for position, result in beside(lacking, launch, place, Remaining(lacking, place, launch.at_once())):
        if isinstance(result, Path):
            yield missing[position], result
        else:
            mistakes.append(f"{' '.join(lacking[position].overrides)}: {result}")
    if mistakes:
        raise PolmError(f"{len(mistakes)} of {len(plans)} cells have no record. {' '.join(mistakes)}")


def perform(plan: Plan, place: Path, shown: Reporter) -> Path:
    """Run one cell, write its record and mirror it."""
    from polm_bench.run.cell import run_cell
    from polm_bench.run.track import track

    path = run_cell(plan, place, shown)
    if plan.track == "mlflow":
        track(path, place)
    return path


def print_record(record: Record) -> None:
    """Scores beside the base row, intervals and cost."""
    from polm_bench.report.console import print_result

    print_result(record, console())


def show_plan(overrides: Sequence[str], as_json: bool) -> int:
    """Print the graph of one cell: keys, what is done, and what the rest may take.

    Raises TooLarge for what can't fit on this machine, and PolmError for an option of Hydra's.
    """
    if option := next((word for word in overrides if word.startswith("-")), None):
        raise PolmError(f"{option}: plan shows one cell and takes overrides and --json alone. Leave it out.")
    from shutil import disk_usage

    import psutil

    from polm_bench.config import plan
    from polm_bench.run.cell import store_of
    from polm_bench.run.forecast import forecast, shortage

    found = plan(overrides)
    place = home()
    expected = forecast(found.stages(), store_of(place), found.launch, found.folders())
    existing = next(path for path in (place, *place.parents) if path.exists())
    if lacking := shortage(expected, disk_usage(existing).free, psutil.virtual_memory().total):
        raise TooLarge(lacking)
    if as_json:
        print_json(plan_dict(found, expected))
    else:
        print_plan(plan_dict(found, expected))
    return 0


def plan_dict(found: Plan, expected: dict[str, Forecast]) -> dict[str, Any]:
    """The plan with what is done and what is to be expected, per stage and in all."""
    told = found.to_dict()
    for stage in told["stages"]:
        stage |= expected[stage["key"]]._asdict()
    missing = [one for one in expected.values() if not one.done]
    return told | {
        "missing": len(missing),
        "lacks": found.launch.lacks(),
        "seconds": _sum([one.seconds for one in missing]),
        "disk_bytes": _sum([one.disk_bytes for one in missing]),
        "memory_bytes": max((one.memory_bytes for one in missing if one.memory_bytes is not None), default=None),
    }


def print_plan(told: dict[str, Any]) -> None:
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
            "state": "done" if stage["done"] else "missing",
            "seconds": _seconds(stage),
            "memory": _memory(stage),
            "disk": gigabytes(stage["disk_bytes"]),
            "by": _basis(stage["basis"]),
        }
        for stage in told["stages"]
    ]
    print_rows(rows, list(rows[0]), title=told["id"])
    if not told["missing"]:
        print("Everything is done: `polm-bench run` only reads it.")
        return
    known = "at least " if any(stage["seconds"] is None for stage in told["stages"] if not stage["done"]) else ""
    time = f"; {known}about {told['seconds']:,.0f} s" if told["seconds"] is not None else ""
    print(f"{told['missing']} of {len(rows)} stages to run{time}.")
    if told["lacks"]:
        print(f"Not on this machine: {told['lacks']}")


def gigabytes(count: float | None) -> str:
    """Bytes in a unit that suits."""
    if count is None:
        return ""
    return f"{count / 1e9:.1f} GB" if count >= 1e9 else f"{count / 1e6:.1f} MB"


def _memory(stage: dict[str, Any]) -> str:
    more = ">" if stage["basis"].get("memory_bytes") == "at least" else ""
    return more + gigabytes(stage["memory_bytes"])


def _basis(told: Mapping[str, str]) -> str:
    """What the figures of a stage stand on: `like stages`, or each where they differ."""
    shown = {name: told[name] for name in ("seconds", "memory_bytes", "disk_bytes") if name in told}
    bases = {name: "counted" if basis == "at least" else basis for name, basis in shown.items()}
    if len(set(bases.values())) < 2:
        return next(iter(bases.values()), "")
    return ", ".join(f"{name.removesuffix('_bytes')} {basis}" for name, basis in bases.items())


def _seconds(stage: dict[str, Any]) -> str:
    if stage["seconds"] is None:
        return "?"
    return f"{stage['seconds']:,.1f}" if stage["done"] else f"~{stage['seconds']:,.1f}"


def _sum(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) if known else None

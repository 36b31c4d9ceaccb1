"""What a forecast would have said of stages that have run since, beside what they took."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from polm_bench.graph import Stage, identity
from polm_bench.run import work
from polm_bench.run.forecast import Done, Forecast, History
from polm_bench.run.launch import Launch
from polm_bench.run.work import Json, Sketch


class Past(NamedTuple):
    """A cell that has run: its stages as they stand in its record, with what is known of each before it runs."""

    id: str
    started: str  # ISO, as the record has it
    finished: str
    launch: Launch
    stages: tuple[tuple[Json, Sketch], ...]
    asked: Mapping[str, Mapping[str, int]]  # key of an evaluation -> task -> items


class Look(NamedTuple):
    """One stage: what would have been expected of it when its cell began, and what it took."""

    cell: str
    key: str
    kind: str
    expected: Forecast
    ledger: Json


def past(record: Mapping[str, Any], stages: Sequence[Stage], folders: Mapping[str, Path], launch: Launch) -> Past:
    """A record with the stages that its configuration plans; they belong together by kind, in the order of the graph.

    Keys would do as well until a stage's `version` is raised.
    """
    known = work.sketches({stage.key: identity(stage) for stage in stages}, folders)
    waiting: dict[str, list[Sketch]] = {}
    for stage in stages:
        waiting.setdefault(type(stage).__name__, []).append(known[stage.key])
    ran = [told for told in record["stages"] if told["status"] == "done"]
    pairs = [(told, waiting[told["kind"]].pop(0)) for told in ran if waiting.get(told["kind"])]
    asked: dict[str, dict[str, int]] = {}
    for score in record["scores"]:
        if "n" in score and score["row"] in record["rows"]:
            asked.setdefault(record["rows"][score["row"]], {})[score["task"]] = score["n"]
    when = record["provenance"]
    return Past(record["id"], when["started"], when["finished"], launch, tuple(pairs), asked)


def hindsight(cells: Iterable[Past]) -> list[Look]:
    """A look at every stage that some cell made, in the order of their cells' starts.

    What is expected of a stage stands on cells that had ended when its own began, and on nothing else.
    """
    starting = sorted(cells, key=lambda cell: (cell.started, cell.id))
    ending = sorted(starting, key=lambda cell: (cell.finished, cell.id))
    makers = _makers(ending)
    history, looks = History(), list[Look]()
    for cell in starting:
        while ending and ending[0].finished <= cell.started:
            ended = ending.pop(0)
            for told, sketch in _made(ended, makers):
                history.add(Done(sketch, told["ledger"], asked=ended.asked.get(told["key"], {})))
        for told, sketch in _made(cell, makers):
            looks.append(Look(cell.id, told["key"], told["kind"], history.expect(sketch, cell.launch), told["ledger"]))
    return looks


def _makers(cells: Sequence[Past]) -> dict[str, str]:
    """Stage key -> the cell that made it; one that no cell's record says it made counts as the first's that has it."""
    first = {told["key"]: cell.id for cell in reversed(cells) for told, _ in cell.stages}
    return first | {told["key"]: cell.id for cell in reversed(cells) for told, _ in cell.stages if not told["shared"]}


def _made(cell: Past, makers: Mapping[str, str]) -> list[tuple[Json, Sketch]]:
    return [(told, sketch) for told, sketch in cell.stages if makers[told["key"]] == cell.id]

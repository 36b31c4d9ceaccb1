"""Where records come from: what all of them were made with, and what each was."""

from __future__ import annotations

from collections.abc import Sequence

from polm_bench.report.notes import flat
from polm_bench.report.page import Sheet
from polm_bench.report.records import Record

ALIKE = ("versions", "machine", "model", "data")


def origins(records: Sequence[Record]) -> list[Sheet]:
    """A sheet of software, machines, model and data with how many records had each, and one with a line per record."""
    found: dict[str, dict[str, int]] = {}
    for record in records:
        for name, value in _surroundings(record):
            told = found.setdefault(name, {})
            told[value] = told.get(value, 0) + 1
    lines = [[name, value, str(count)] for name, told in found.items() for value, count in told.items()]
    made = [_made(record) for record in records]
    head = ["record", "status", "trials", "commit", "finished", "wall time (s)", "command"]
    return [
        Sheet("What they were made with", ["part", "value", "records"], lines),
        Sheet("Records", head, made, tuple(record.cell["recipe"] for record in records)),
    ]


def _surroundings(record: Record) -> list[tuple[str, str]]:
    told = record.data["provenance"]
    parts = {name: told[name] for name in ALIKE if told.get(name)}
    return [(name, str(value)) for name, value in flat(parts) if value not in (None, [], "")]


def _made(record: Record) -> list[str]:
    told = record.data["provenance"]
    git = told.get("git") or {}
    commit = str(git.get("commit") or "unknown")[:10] + (" (changed)" if git.get("dirty") else "")
    seconds = record.data["cost"].get("wall_seconds")
    finished = str(told.get("finished") or "")[:16].replace("T", " ")
    spent = "" if seconds is None else f"{seconds:.1f}"
    return [record.id, record.status, str(record.trials), commit, finished, spent, str(told.get("command") or "")]

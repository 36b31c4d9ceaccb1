"""Records on disk: one JSON file per cell, and the items of its evaluations as parquet beside it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from polm_bench.errors import StoreError, UnknownName
from polm_bench.report.slim import read_table

if TYPE_CHECKING:
    import pyarrow

SCHEMA = 1
STATUSES = ("ok", "failed", "oom", "diverged", "timeout")
_PARTS = {
    "id": str,
    "cell": dict,
    "recipe": dict,
    "status": str,
    "stages": list,
    "rows": dict,
    "scores": list,
    "items": dict,
    "cost": dict,
    "provenance": dict,
}
_GROUPS = ("recipe", "model", "data", "budget", "suite", "seed", "config")
_SCORE = ("row", "task", "metric", "value", "higher_is_better", "headline")


@dataclass(frozen=True, eq=False)
class Record:
    """One cell's record; `data` is the whole JSON."""

    path: Path
    data: dict[str, Any]

    @property
    def trials(self) -> int:
        """How many trials its settings were chosen from; 1 is untuned."""
        return int((self.data.get("tuning") or {}).get("trials", 1))

    @property
    def id(self) -> str:
        return self.data["id"]

    @property
    def cell(self) -> dict[str, Any]:
        return self.data["cell"]

    @property
    def status(self) -> str:
        return self.data["status"]

    @property
    def scores(self) -> list[dict[str, Any]]:
        return self.data["scores"]

    def items_path(self, row: str) -> Path | None:
        """File of a row's items ("self", "base" or "start"), or None where the record has no such row."""
        name = self.data["items"].get(row)
        return self.path.parent / name if name else None

    def items(self, row: str) -> pyarrow.Table:
        """Items of a row: one line per task, item and metric.

        Raises StoreError when the record has no such row, or its file is missing or unreadable.
        """
        path = self.items_path(row)
        if path is None:
            raise StoreError(f"record {self.id} has no items of row '{row}'; it has: {', '.join(self.data['items'])}")
        return read_table(path)


def load(folder: Path, starts: Sequence[str] | None = None) -> list[Record]:
    """Records of a folder by id; none where the folder doesn't exist. Items are read only when asked for.

    `starts`: beginnings of the names of the files to read; the others are not opened. Raises StoreError for a file that is no record of this
    version.
    """
    paths = Path(folder).glob("*.json")
    if starts is not None:
        wanted = set(starts)
        paths = (path for path in paths if path.stem[: path.stem.rfind("-") + 1] in wanted)
    return sorted(map(read, paths), key=lambda record: record.id)


def read(path: Path) -> Record:
    """One record. Raises StoreError naming the file and what is wrong with it."""
    try:
        data = json.loads(path.read_bytes())
    except (OSError, ValueError) as error:
        raise StoreError(
            f"the record {path} can't be read ({_one_line(error)}). Remove it and run the cell again."
        ) from error
    if fault := _fault(data):
        raise StoreError(f"{path} is no record: {fault}. Remove it and run the cell again.")
    return Record(path, data)


def find(records: Sequence[Record], name: str) -> Record:
    """The record with this id, key (the id's last part), path, or the only one whose id starts so.

    Raises UnknownName with near names when there is none, or more than one.
    """
    if name.endswith(".json"):
        return read(Path(name))
    if exact := [record for record in records if name in (record.id, record.id.rpartition("-")[2])]:
        return exact[0]
    started = [record for record in records if record.id.startswith(name)]
    if len(started) == 1:
        return started[0]
    if started:
        shown = [record.id for record in started[:10]]
        raise UnknownName("single record", name, shown, f"{len(started)} records start so: give more of the name.")
    raise UnknownName("record", name, (record.id for record in records), "`polm-bench ls records` lists them.")


def _fault(data: Any) -> str | None:
    """What keeps `data` from being a record, if anything."""
    if not isinstance(data, dict):
        return "it holds no mapping"
    if (schema := data.get("schema")) != SCHEMA:
        return f"its schema is {schema!r}, and this version reads {SCHEMA}"
    for name, kind in _PARTS.items():
        if not isinstance(data.get(name), kind):
            return f"'{name}' is {'missing' if name not in data else 'not a ' + kind.__name__}"
    if missing := [name for name in _GROUPS if name not in data["cell"]]:
        return f"'cell' lacks {', '.join(missing)}"
    if data["status"] not in STATUSES:
        return f"'status' is {data['status']!r}, and may be {', '.join(STATUSES)}"
    for name in data["items"].values():
        if not isinstance(name, str) or Path(name).is_absolute() or ".." in Path(name).parts:
            return f"its items lie outside the folder of records ({name!r})"
    for number, score in enumerate(data["scores"]):
        if not isinstance(score, dict) or any(name not in score for name in _SCORE):
            return f"score {number} lacks one of {', '.join(_SCORE)}"
        if isinstance(score["value"], bool) or not isinstance(score["value"], int | float):
            return f"the value of score {number} ({score['task']}/{score['metric']}) is no number"
    return None


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:200]

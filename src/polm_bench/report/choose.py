"""Which record stands for a cell, and which scores a block shows."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from polm_bench.report.items import Evaluation
from polm_bench.report.records import Record
from polm_bench.report.spec import Place

_NO_IDENTITY = ("launch.", "track.")


class Cells:
    """Records by the cell they stand for: the newest of each, as its YAML files describe it.

    A run with settings of its own (`recipe.lr=1e-4`) is another cell, though the names are the same: it never stands for this one.
    """

    def __init__(self, records: Iterable[Record], trials: int = 1) -> None:
        """`trials`: how many trials of its settings a tuned record has had; where a cell has none such, its untuned one stands for it."""
        self._trials = trials
        self._found: dict[tuple[object, ...], Record] = {}
        self._made: dict[str, Record] = {}
        for record in sorted((one for one in records if not changed_settings(one)), key=age):
            cell = record.cell
            place = Place(*(cell[name] for name in Place._fields))
            self._found[place, cell["recipe"], cell["seed"], record.trials] = record
            if record.status == "ok" and (key := record.data["rows"].get("self")):
                self._made[key] = record

    def at(self, place: Place, recipe: str, seed: int) -> Record | None:
        """The record of a cell, if it has one."""
        tuned = self._found.get((place, recipe, seed, self._trials))
        return tuned or self._found.get((place, recipe, seed, 1))

    def of(self, place: Place, recipe: str, seeds: Iterable[int]) -> dict[int, Record | None]:
        """The records of a recipe's cells, by seed."""
        return {seed: self.at(place, recipe, seed) for seed in seeds}

    def made(self, key: str) -> Record | None:
        """A record whose own model is the one that the evaluation with this key judged."""
        return self._made.get(key)


def ended_as(cells: Iterable[Record | None]) -> dict[str, int]:
    """How many of a recipe's cells ended how; a cell without a record is missing."""
    return dict(Counter("missing" if record is None else record.status for record in cells))


def age(record: Record) -> tuple[str, str]:
    """What sorts records by when they were finished."""
    return record.data["provenance"].get("finished") or "", record.id


def setting_of(record: Record, name: str) -> Any:
    """A setting of the record's cell, by its name with dots; None where the cell has none such."""
    value: Any = record.cell["config"]
    for part in name.split("."):
        value = value.get(part) if isinstance(value, Mapping) else None
    return value


def changed_settings(record: Record) -> list[str]:
    """Settings that the command line gave and that are part of what the cell is."""
    origins = record.cell.get("origins") or {}
    given = (name for name, origin in origins.items() if origin == "command line" and "." in name)
    return sorted(name for name in given if not name.startswith(_NO_IDENTITY))


def column_order(rows: Iterable[Sequence[Evaluation]], wanted: Sequence[str]) -> dict[str, bool]:
    """Columns to show, and whether higher is better: the wanted ones, else all headline scores, as the records order them."""
    found: dict[str, bool] = {}
    for evaluations in rows:
        for one in evaluations:
            for name, score in one.scores.items():
                if name in wanted or (not wanted and score["headline"]):
                    found.setdefault(name, bool(score["higher_is_better"]))
    return {name: found[name] for name in wanted if name in found} if wanted else found

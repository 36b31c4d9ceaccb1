"""Which record stands for a cell, and which scores a block shows."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from polm_bench.report.items import Evaluation
from polm_bench.report.records import Record
from polm_bench.report.spec import Place

_NO_IDENTITY = ("launch.", "track.")


def chosen_record(records: Sequence[Record], place: Place, recipe: str, seed: int) -> Record | None:
    """The newest record of the cell as its YAML files describe it.

    A run with settings of its own (`recipe.lr=1e-4`) is another cell, though the names are the same: it never stands for this one.
    """
    wanted = {**place._asdict(), "recipe": recipe, "seed": seed}
    found = [
        record
        for record in records
        if all(record.cell[name] == value for name, value in wanted.items()) and not changed_settings(record)
    ]
    return max(found, key=lambda record: (record.data["provenance"].get("finished") or "", record.id), default=None)


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

"""What cells saved by sharing stages, from their records alone."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from polm_bench.report.records import Record


class Sharing(NamedTuple):
    """Stages of several cells; seconds are those that each stage took when it ran."""

    asked: int  # stages, counted once for each cell that needs them
    run: int  # stages, counted once
    seconds: float  # that the stages took
    saved: float  # that running them for each cell anew would have added


def sharing(records: Iterable[Record]) -> Sharing:
    """Count the stages of these records."""
    known: dict[str, float] = {}
    asked, seconds = 0, 0.0
    for record in records:
        for stage in record.data["stages"]:
            asked += 1
            took = float(stage["ledger"].get("wall_seconds") or 0.0)
            seconds += took
            known.setdefault(stage["key"], took)
    run = sum(known.values())
    return Sharing(asked, len(known), run, seconds - run)

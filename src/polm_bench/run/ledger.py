"""What a stage spent."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

SUMMED = ("wall_seconds", "device_seconds", "tokens_trained", "tokens_generated", "tokens_scored", "flops")
"""Amounts that add up over stages. Seconds are wall-clock; device seconds count each device."""

PEAKS = ("peak_host_bytes", "peak_device_bytes")
"""Amounts of which the largest counts."""


class Ledger:
    """Amounts of one stage: sums, peaks, and notes (parameters, served bytes, speeds)."""

    def __init__(self) -> None:
        self.amounts: dict[str, float] = {}
        self.notes: dict[str, Any] = {}

    def add(self, **amounts: float) -> None:
        """Add to sums; the names are those of `SUMMED`."""
        for name, amount in amounts.items():
            if name not in SUMMED:
                raise KeyError(f"'{name}' is no amount of the ledger; there are: {', '.join(SUMMED)}")
            self.amounts[name] = self.amounts.get(name, 0) + amount

    def peak(self, **amounts: float) -> None:
        """Keep the larger; the names are those of `PEAKS`."""
        for name, amount in amounts.items():
            if name not in PEAKS:
                raise KeyError(f"'{name}' is no peak of the ledger; there are: {', '.join(PEAKS)}")
            self.amounts[name] = max(self.amounts.get(name, 0), amount)

    def note(self, **notes: Any) -> None:
        """Say a fact of the stage, such as `trainable_params` or `flops_method`."""
        self.notes.update(notes)

    def to_dict(self) -> dict[str, Any]:
        return {name: _plain(self.amounts.get(name, 0)) for name in (*SUMMED, *PEAKS)} | self.notes


def total(ledgers: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """Sums and peaks over stages."""
    found = list(ledgers)
    sums = {name: _plain(sum(ledger.get(name, 0) for ledger in found)) for name in SUMMED}
    return sums | {name: _plain(max((ledger.get(name, 0) for ledger in found), default=0)) for name in PEAKS}


def _plain(amount: float) -> float | int:
    """Whole numbers as int, so that records read well; seconds to a thousandth."""
    return int(amount) if float(amount).is_integer() else round(float(amount), 3)

"""Costs of a record: what they are called, which way is better, and where those of its other rows stand."""

from __future__ import annotations

from typing import Any

from polm_bench.report.choose import Cells
from polm_bench.report.items import Evaluation

COSTS = (
    "wall_seconds",
    "shared_wall_seconds",
    "device_seconds",
    "tokens_trained",
    "tokens_generated",
    "flops",
    "peak_host_bytes",
    "peak_device_bytes",
    "trainable_params",
    "total_params",
    "served_bytes",
    "serve_peak_bytes",
    "load_seconds",
    "prefill_tokens_per_second",
    "decode_tokens_per_second",
    "tokens_per_answer",
    "cache_bytes",
)
FASTER_IS_BETTER = ("prefill_tokens_per_second", "decode_tokens_per_second")
MAKING = (
    "wall_seconds",
    "shared_wall_seconds",
    "device_seconds",
    "tokens_trained",
    "tokens_generated",
    "tokens_scored",
    "flops",
    "peak_host_bytes",
    "peak_device_bytes",
    "trainable_params",
)
"""Costs of making the model; the others are those of the model as it is served."""
COUNTED = (
    "tokens_trained",
    "tokens_generated",
    "flops",
    "trainable_params",
    "total_params",
    "served_bytes",
    "cache_bytes",
)
"""Costs that are counted, not clocked: one run tells them exactly."""


def is_cost(name: str) -> bool:
    return name in COSTS


def higher_is_better(cost: str) -> bool:
    return cost in FASTER_IS_BETTER


def cost_of(one: Evaluation, name: str, cells: Cells) -> float | None:
    """A cost of the model that an evaluation judged; None where no record tells.

    The record's own row has it; what serving the base or the start takes is in the ledger of their evaluation, and what making them took in
    the record of the recipe that makes them.
    """
    if one.row == "self":
        return _number(one.record.data["cost"].get(name))
    judge: dict[str, Any] = next(
        (stage["ledger"] for stage in one.record.data["stages"] if stage["key"] == one.key), {}
    )
    if name not in MAKING:
        return _number(judge.get(name))
    maker = cells.made(one.key)
    return _number(maker.data["cost"].get(name)) if maker else None


def _number(value: Any) -> float | None:
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None

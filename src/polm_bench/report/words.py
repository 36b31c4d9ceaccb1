"""Numbers as a reader sees them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from polm_bench.report.parts import Column, Measure, Row
    from polm_bench.report.spec import Place

COST_NAMES = {
    "wall_seconds": "wall time",
    "shared_wall_seconds": "of it shared",
    "device_seconds": "device time",
    "tokens_trained": "tokens trained",
    "tokens_generated": "tokens generated",
    "flops": "FLOPs",
    "peak_host_bytes": "peak host memory",
    "peak_device_bytes": "peak device memory",
    "trainable_params": "trained parameters",
    "total_params": "parameters",
    "served_bytes": "served size",
    "serve_peak_bytes": "serving memory",
    "cache_bytes": "cache size",
    "load_seconds": "load time",
    "prefill_tokens_per_second": "prefill tokens/s",
    "decode_tokens_per_second": "decode tokens/s",
    "tokens_per_answer": "tokens per answer",
}

PARADIGMS = {
    "baseline": "Baseline",
    "fine_tuning": "Fine-tuning",
    "alignment": "Alignment",
    "reasoning": "Reasoning",
    "efficiency": "Efficiency",
    "integration": "Integration and adaptation",
}


def number(value: float, sign: bool = False) -> str:
    """Three decimals below ten, one above; what rounds to zero has no sign."""
    digits = 3 if abs(value) < 10 else 1
    text = f"{value:{'+' if sign else ''}.{digits}f}"
    return text.lstrip("+-") if float(text) == 0 else text


def interval(low: float | None, high: float | None, sign: bool = False) -> str:
    return "" if low is None or high is None else f"[{number(low, sign)}, {number(high, sign)}]"


def p_value(p: float | None) -> str:
    if p is None:
        return ""
    return "p < 0.001" if p < 0.001 else f"p = {p:.3f}"


def p_alone(p: float | None) -> str:
    """The p-value where the column's head has the p: `0.041`, `< 0.001`."""
    return p_value(p).removeprefix("p ").removeprefix("= ")


def plain(text: str) -> str:
    """Text that rich does not read as its markup."""
    return text.replace("[", r"\[")


def score(measure: Measure) -> str:
    """`0.620 [0.590, 0.650]`."""
    return f"{number(measure.value)} {interval(measure.low, measure.high)}".strip()


def difference(measure: Measure) -> str:
    """`+0.210 [+0.180, +0.240], p < 0.001`, the p-value corrected."""
    found = measure.difference
    if found is None:
        return ""
    return f"{number(found.mean, True)} {interval(found.low, found.high, True)}, {p_value(measure.p_holm)}"


def arrow(higher_is_better: bool) -> str:
    """The way that is better."""
    return "↑" if higher_is_better else "↓"


def directed(column: Column) -> str:
    """`task/metric ↑`."""
    return f"{column.name} {arrow(column.higher_is_better)}"


def column_head(column: Column, rows: tuple[Row, ...]) -> str:
    """`task/metric ↑ (n = 500)`."""
    count = next((row.measures[column.name].items for row in rows if column.name in row.measures), 0)
    return f"{directed(column)} (n = {count})"


def counts(statuses: Mapping[str, int]) -> str:
    """`3 ok`, `2 ok, 1 diverged`."""
    return ", ".join(f"{count} {status}" for status, count in sorted(statuses.items(), key=_ok_first))


def place_line(place: Place, seeds: Sequence[int]) -> str:
    """`model=nano data=nano budget=nano suite=nano, seeds 0, 1, 2`."""
    groups = " ".join(f"{group}={name}" for group, name in place._asdict().items())
    return f"{groups}, seeds {', '.join(map(str, seeds))}"


def ranks(found: tuple[int, int] | None) -> str:
    """`2`, or `1-4` where the pairs leave several open."""
    if found is None:
        return ""
    return str(found[0]) if found[0] == found[1] else f"{found[0]}-{found[1]}"


def _ok_first(item: tuple[str, int]) -> tuple[bool, str]:
    return item[0] != "ok", item[0]


def cost(name: str, value: float | None) -> str:
    """A cost with its unit."""
    if value is None:
        return ""
    if name.endswith("_bytes"):
        return scaled(value, 1000, ("B", "kB", "MB", "GB", "TB"))
    if name.endswith("_seconds"):
        return (
            f"{value:.1f} s" if value < 600 else f"{value / 60:.1f} min" if value < 36000 else f"{value / 3600:.1f} h"
        )
    if name == "flops":
        return f"{value:.2e}" if value else "0"
    if name.endswith("_per_second") or name == "tokens_per_answer":
        return f"{value:,.0f}" if value >= 100 else f"{value:.1f}"
    return scaled(value, 1000, ("", "k", "M", "G"))


def setting_text(settings: Mapping[str, object]) -> str:
    """`loss.beta=0.1 optim.lr=1e-06`."""
    return " ".join(f"{name}={value}" for name, value in settings.items())


def scaled(value: float, step: int, units: tuple[str, ...]) -> str:
    """Three significant digits and a unit."""
    for unit in units[:-1]:
        if abs(value) < step:
            return f"{value:.3g} {unit}".strip()
        value /= step
    return f"{value:.3g} {units[-1]}"

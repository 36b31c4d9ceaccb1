"""`power`: what it takes to see a difference."""

from __future__ import annotations

from pathlib import Path

from polm_bench.cli.printing import console
from polm_bench.errors import PolmError
from polm_bench.paths import home


def power(effect: float, wanted: float, style: str | None, records: Path | None) -> int:
    """Print how many items and seeds show a difference, from the variance in the records."""
    from polm_bench.report import page
    from polm_bench.report.power import forecasts, power_page
    from polm_bench.report.records import load

    if effect <= 0:
        raise PolmError(
            f"--effect {effect}: a difference to be seen is above zero, in the score's own unit (0.02 is two points)."
        )
    if not 0.05 < wanted < 1:
        raise PolmError(f"--power {wanted}: a chance to see it lies between 0.05 and 1; 0.8 is usual.")
    folder = records or home() / "records"
    found = forecasts(load(folder), effect, wanted)
    if not found:
        raise PolmError(
            f"no method in {folder} has two seeds beside the base, so the variance is unknown. "
            "Run one with several: polm-bench run -m +recipe=dpo seed=0,1,2"
        )
    made = power_page(found, effect, wanted)
    if style is not None:
        print(page.render(made, style), end="")
    else:
        page.print_page(made, console())
    return 0

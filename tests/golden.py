"""Keys of what every recipe plans for model, data, suite and budget nano and seed 0; `python tests/golden.py` writes them anew.

A changed key means that stored results of that recipe are no longer found: look at the difference before committing it.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from polm_bench.cell import Plan

FILE = Path(__file__).with_name("golden_keys.json")


def keys(planned: Plan) -> dict[str, str]:
    """Row, or probe of a row, or "model" -> key."""
    judges = planned.evaluations | {f"{row} probe": stage for row, stage in planned.graph.probes.items()}
    return {row: stage.key for row, stage in judges.items()} | {"model": planned.graph.model.key}


def main() -> None:
    from polm_bench.config import plan
    from polm_bench.settings import options

    found = {name: keys(plan([f"+recipe={name}"])) for name in options("recipe")}
    FILE.write_text(json.dumps(found, indent=1, sort_keys=True) + "\n")


if __name__ == "__main__":
    main()

"""Keys of what every recipe plans on the embedded world; `python tests/golden.py` writes them anew.

A changed key means that stored results of that recipe are no longer found: look at the difference before committing it.
"""

from __future__ import annotations

import json
from pathlib import Path

FILE = Path(__file__).with_name("golden_keys.json")


def keys(recipe: str) -> dict[str, str]:
    """Row, or probe of a row, or "model" -> key, for model, data, suite and budget nano and seed 0."""
    from polm_bench.config import plan

    planned = plan([f"+recipe={recipe}"])
    judges = planned.evaluations | {f"{row} probe": stage for row, stage in planned.graph.probes.items()}
    return {row: stage.key for row, stage in judges.items()} | {"model": planned.graph.model.key}


def main() -> None:
    from polm_bench.settings import options

    FILE.write_text(json.dumps({name: keys(name) for name in options("recipe")}, indent=1, sort_keys=True) + "\n")


if __name__ == "__main__":
    main()

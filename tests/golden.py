"""Keys of what every recipe plans on the embedded world; `python tests/golden.py` writes them anew.

A changed key means that stored results of that recipe are no longer found: look at the difference before committing it.
"""

from __future__ import annotations

import json
from pathlib import Path

FILE = Path(__file__).with_name("golden_keys.json")


def keys() -> dict[str, dict[str, str]]:
    """recipe -> kind of stage -> key, for model, data, suite and budget nano and seed 0."""
    from polm_bench.config import plan
    from polm_bench.settings import options

    found = {}
    for recipe in options("recipe"):
        planned = plan([f"+recipe={recipe}"])
        found[recipe] = {row: stage.key for row, stage in planned.evaluations.items()} | {
            "model": planned.graph.model.key
        }
    return found


if __name__ == "__main__":
    FILE.write_text(json.dumps(keys(), indent=1, sort_keys=True) + "\n")

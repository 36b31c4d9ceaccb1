"""Put what `polm-bench ls` says into the README's tables: python tests/refresh_readme.py."""

from __future__ import annotations

import re
from pathlib import Path

from polm_bench.cli.catalogue import rows
from polm_bench.cli.listing import COLUMNS
from polm_bench.cli.printing import markdown

README = Path(__file__).resolve().parent.parent / "README.md"
KINDS = ("recipes", "models", "data", "suites", "budgets")


def refreshed(text: str) -> str:
    """The README with today's tables between its `<!-- ls KIND -->` and `<!-- /ls -->`."""
    for kind in KINDS:
        table = markdown(rows(kind, Path()), COLUMNS[kind])
        text = re.sub(rf"(?s)(<!-- ls {kind} -->\n).*?(<!-- /ls -->)", lambda found: found[1] + table + found[2], text)  # noqa: B023
    return text


if __name__ == "__main__":
    README.write_text(refreshed(README.read_text()))

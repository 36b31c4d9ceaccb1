"""A validation split that depends on nothing but the rows' own prompts."""

from __future__ import annotations

import hashlib
import json
import math

from polm_bench.data.roles import Row
from polm_bench.data.source import Split
from polm_bench.errors import BadData


def share_out(rows: list[Row], share: float, split: Split, where: str) -> list[Row]:
    """Rows of one split: `share` of the different prompts (or texts), at least one, goes to validation, chosen by hash.

    Rows that share a prompt stay together, so that validation has no prompt that training has seen.
    """
    groups = sorted({_digest(row) for row in rows})
    if len(groups) < 2:
        raise BadData(
            f"{where}: all rows have one and the same prompt, so none can be kept apart for validation. Give more rows, or data.validation=FILE."
        )
    held_out = set(groups[: max(1, math.floor(share * len(groups)))])
    return [row for row in rows if (_digest(row) in held_out) == (split == "validation")]


def _digest(row: Row) -> str:
    what = row.get("prompt") or row.get("text")
    return hashlib.sha256(
        json.dumps(what, sort_keys=True, ensure_ascii=False).encode("utf-8", "surrogatepass")
    ).hexdigest()

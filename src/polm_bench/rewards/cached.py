"""A judge's verdicts kept on disk by content, so that the same question is asked once."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import Field
from pydantic.dataclasses import dataclass

from polm_bench.files import write_json
from polm_bench.graph import FORBID, identity
from polm_bench.remote import cache_folder
from polm_bench.rewards.judge import BothOrders, Judge, count


@dataclass(frozen=True, config=FORBID)
class Cached(Judge):
    """What another judge says, from `POLM_CACHE/judgements` where it has said it before; which judge, dialogue and answers it was is the address.

    Verdicts are written a few at a time, so a killed job asks again only for the last few.
    """

    judge: Judge
    at_once: int = Field(default=32, gt=0)  # pairs asked for between two writes

    def orders(self, job: Any) -> BothOrders:
        ask: BothOrders | None = None

        def compare(
            rows: Sequence[Mapping[str, Any]], firsts: Sequence[str], seconds: Sequence[str]
        ) -> list[tuple[float, float]]:
            nonlocal ask
            places = [self._place(row, *pair) for row, *pair in zip(rows, firsts, seconds, strict=True)]
            found: dict[Path, tuple[float, float] | None] = {place: read(place) for place in places}
            wanted = [i for i, place in enumerate(places) if found[place] is None]
            missing = list({places[i]: i for i in wanted}.values())  # each question once
            if missing and ask is None:
                ask = self.judge.orders(job)
            for start in range(0, len(missing), self.at_once):
                some = missing[start : start + self.at_once]
                assert ask is not None  # noqa: S101  # for the type checker: it was made above
                verdicts = ask([rows[i] for i in some], [firsts[i] for i in some], [seconds[i] for i in some])
                for i, verdict in zip(some, verdicts, strict=True):
                    places[i].parent.mkdir(parents=True, exist_ok=True)
                    write_json(places[i], verdict)
                    found[places[i]] = verdict
            count(job, judgements_asked=len(missing), judgements_cached=len(places) - len(missing))
            return [known for place in places if (known := found[place]) is not None]

        return compare

    def _place(self, row: Mapping[str, Any], first: str, second: str) -> Path:
        asked = {"judge": identity(self.judge), "prompt": row["prompt"], "first": first, "second": second}
        digest = hashlib.sha256(json.dumps(asked, sort_keys=True, ensure_ascii=False).encode()).hexdigest()
        return cache_folder() / "judgements" / digest[:2] / f"{digest}.json"


def read(place: Path) -> tuple[float, float] | None:
    """The verdict in a file; None where there is none, or none that is whole."""
    try:
        there, back = json.loads(place.read_text(encoding="utf-8"))
        return float(there), float(back)
    except (OSError, ValueError, TypeError):
        return None

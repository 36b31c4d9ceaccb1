"""A part of the rows of a role."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
from pydantic import Field, NonNegativeInt, PositiveInt
from pydantic.dataclasses import dataclass

from polm_bench.data.roles import Row
from polm_bench.data.source import Rows, Split
from polm_bench.errors import BadData
from polm_bench.graph import FORBID

Order = Literal["easy_first", "as_given"]


@dataclass(frozen=True, config=FORBID)
class PickedRows(Rows):
    """Some rows of another source."""

    whole: Rows

    def pick(self, rows: list[Row]) -> list[Row]:
        """Those of all rows."""
        raise TypeError(f"{type(self).__name__} does not say which rows it picks")

    def load(self, split: Split) -> list[Row]:
        return self.pick(self.whole.load(split))

    def read(self, job: Any, split: Split) -> list[Row]:
        return self.pick(self.whole.read(job, split))


@dataclass(frozen=True, config=FORBID)
class PartRows(PickedRows):
    """Rows number `index` of `count` parts of equal size, of the rows as they stand or by falling margin where they have one (`easy_first`)."""

    index: NonNegativeInt
    count: PositiveInt
    order: Order

    def pick(self, rows: list[Row]) -> list[Row]:
        """Raises BadData where a part would be empty."""
        if len(rows) < self.count:
            raise BadData(f"{len(rows)} rows of the role '{self.role}' can't be cut into {self.count} parts")
        if self.order == "easy_first" and all("margin" in row for row in rows):
            rows = sorted(rows, key=lambda row: -row["margin"])
        return rows[len(rows) * self.index // self.count : len(rows) * (self.index + 1) // self.count]


@dataclass(frozen=True, config=FORBID)
class SampledRows(PickedRows):
    """A share of another source's rows, drawn without replacement and in their order; at least one."""

    share: float = Field(gt=0, le=1)
    seed: int = 0

    def pick(self, rows: list[Row]) -> list[Row]:
        chosen = np.random.default_rng(self.seed).permutation(len(rows))[: max(1, int(self.share * len(rows)))]
        return [rows[number] for number in sorted(chosen)]


@dataclass(frozen=True, config=FORBID)
class ThinnedRows(PickedRows):
    """At most `count` rows of another source, evenly spaced and in their order."""

    count: PositiveInt

    def pick(self, rows: list[Row]) -> list[Row]:
        kept = min(self.count, len(rows))
        return [rows[len(rows) * number // kept] for number in range(kept)]

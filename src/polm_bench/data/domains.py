"""The role `domains` seen as rows of fine-tuning: one domain's, or all of them."""

from __future__ import annotations

from pydantic import PositiveInt
from pydantic.dataclasses import dataclass

from polm_bench.data.roles import Row
from polm_bench.data.source import Rows, Split
from polm_bench.errors import BadData
from polm_bench.graph import FORBID


@dataclass(frozen=True, config=FORBID)
class DomainRows(Rows):
    """Rows of the role `domains`, without the column that names the domain.

    Which domains there are is known only once the rows are loaded, so a recipe says how many it expects and takes one by its place.
    """

    source: Rows
    domains: PositiveInt  # how many there must be
    place: int | None = None  # of the domain in the alphabet's order, from 0; None takes all

    def load(self, split: Split) -> list[Row]:
        """Raises BadData when the data has another number of domains."""
        rows = self.source.load(split)
        names = sorted({row["domain"] for row in rows})
        if len(names) != self.domains:
            raise BadData(
                f"the role 'domains' has {len(names)} domains ({', '.join(names)}), the recipe expects {self.domains}. "
                f"Set recipe.domains={len(names)}."
            )
        wanted = names if self.place is None else [names[self.place]]
        return [{"prompt": row["prompt"], "completion": row["completion"]} for row in rows if row["domain"] in wanted]

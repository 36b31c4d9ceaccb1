"""The nano world as a data source."""

from __future__ import annotations

from typing import Any

from pydantic.dataclasses import dataclass

from polm_bench.data import nano
from polm_bench.data.nano.text import Phase
from polm_bench.data.roles import Row, check_rows
from polm_bench.data.source import DataSource, Rows, Split
from polm_bench.errors import BadData
from polm_bench.graph import FORBID


@dataclass(frozen=True, config=FORBID)
class NanoRows(Rows):
    """Rows of one role of the nano world; `edition` is `nano.VERSION` and changes with the content."""

    edition: int

    def load(self, split: Split) -> list[Row]:
        return check_rows(self.role, nano.rows(self.role, split), f"data=nano, role {self.role}, {split}")


@dataclass(frozen=True, config=FORBID)
class NanoPretraining(Rows):
    """The role `corpus` with the text of the nano base model."""

    edition: int
    seed: int
    documents: int
    phase: Phase = "main"

    def load(self, split: Split) -> list[Row]:
        """The first `documents` documents, or for validation the hundredth part of that, from another seed."""
        train = split == "train"
        source = nano.pretraining_documents(self.seed if train else self.seed + 1_000_000, self.phase)
        count = self.documents if train else max(1, self.documents // 100)
        return [{"text": text} for text, _ in zip(source, range(count), strict=False)]


@dataclass(frozen=True, config=FORBID)
class Nano(DataSource):
    """The embedded world: every role, nothing to download."""

    def roles(self) -> tuple[str, ...]:
        return nano.roles()

    def role(self, name: str) -> Rows:
        if name not in nano.roles():
            raise BadData(f"data={self.name} has no role '{name}'. It has: {', '.join(nano.roles())}.")
        return NanoRows(name, nano.VERSION)

    def describe(self) -> dict[str, Any]:
        return {"name": self.name, "source": "generated", "edition": nano.VERSION, "license": "Apache-2.0"}

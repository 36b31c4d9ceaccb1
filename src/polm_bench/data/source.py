"""What a source of data is: roles, and for each role rows with an identity."""

from __future__ import annotations

from typing import Any, Literal

from pydantic.dataclasses import dataclass

from polm_bench.data.roles import Row
from polm_bench.graph import FORBID

Split = Literal["train", "validation"]


@dataclass(frozen=True, config=FORBID)
class Rows:
    """Rows of one role of one source. The fields are the rows' identity and go into the keys of the stages that read them."""

    role: str

    def load(self, split: Split) -> list[Row]:
        """Rows in the normal form of `data/roles.py`, always the same ones in the same order.

        Raises BadData for a bad row and Unreachable when neither network nor cache has the source.
        """
        raise TypeError(f"{type(self).__name__} does not say how it loads")

    def read(self, job: Any, split: Split) -> list[Row]:
        """Rows for a running stage; `job.path` leads to those that another stage has made."""
        return self.load(split)


@dataclass(frozen=True, config=FORBID)
class DataSource:
    """What `conf/data/` describes."""

    name: str

    def roles(self) -> tuple[str, ...]:
        """Names of the roles that this source supplies, sorted."""
        raise TypeError(f"{type(self).__name__} does not say which roles it has")

    def role(self, name: str) -> Rows:
        """The rows of one role; cheap, as it is called while planning. Raises BadData where the source can't be used."""
        raise TypeError(f"{type(self).__name__} does not say which rows it has")

    def prepare(self) -> None:
        """Bring what the rows are made of to this machine; called before the first stage starts. Raises BadData, Unreachable."""

    def describe(self) -> dict[str, Any]:
        """What a record's provenance says of the data: source, revision or hash, license. Plain JSON values."""
        return {"name": self.name}

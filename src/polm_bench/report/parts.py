"""What a table is made of."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from polm_bench.report.items import Evaluation
from polm_bench.report.records import Record
from polm_bench.report.spec import Place, TableSpec
from polm_bench.stats import Difference

if TYPE_CHECKING:
    from polm_bench.report.overall import Overall


@dataclass(frozen=True)
class Column:
    """One score that a block compares."""

    name: str  # "task/metric"
    higher_is_better: bool

    @property
    def sign(self) -> int:
        """Factor that makes higher better."""
        return 1 if self.higher_is_better else -1


@dataclass(frozen=True)
class Measure:
    """A row's score in one column."""

    value: float
    low: float | None
    high: float | None
    items: int
    seeds: int
    difference: Difference | None = None  # from the base, paired by item
    p_holm: float | None = None  # corrected over all differences of the table
    p_bh: float | None = None  # the same, for the share of false ones among those found
    front: bool = False  # no other row is as good at a lower cost, or better at the same


@dataclass(frozen=True)
class Entry:
    """A row before it is compared: a recipe's records and what was evaluated, by seed."""

    name: str
    records: tuple[Record, ...]
    statuses: dict[str, int]
    evaluations: tuple[Evaluation, ...]
    facts: dict[str, Any]


@dataclass(frozen=True)
class Row:
    """A recipe in one block, over its seeds."""

    name: str
    title: str
    paradigm: str
    statuses: dict[str, int]  # cells by status, "missing" among them
    measures: dict[str, Measure]
    ranks: dict[str, tuple[int, int]]  # best and worst that the pairs leave open
    costs: dict[str, float | None]  # means over the seeds that ended well
    notes: tuple[str, ...]
    records: tuple[str, ...]
    evaluations: tuple[Evaluation, ...] = field(default=(), compare=False, repr=False)

    @property
    def lacks_records(self) -> bool:
        """Whether none of its cells has one."""
        return set(self.statuses) == {"missing"}


@dataclass(frozen=True)
class Block:
    """Rows that share model, data, budget and suite."""

    place: Place
    columns: tuple[Column, ...]
    rows: tuple[Row, ...]
    overall: dict[str, Overall] = field(default_factory=dict)  # of a row's name, over the scores that most rows have
    proportions: tuple[str, ...] = ()  # columns that the interquartile mean is taken over

    def parted(self) -> tuple[list[Column], list[Column]]:
        """The scores that more than half of the judged rows have, and the others, which are of methods' own probes."""
        judged = [row for row in self.rows if row.measures]
        common = [one for one in self.columns if 2 * sum(one.name in row.measures for row in judged) > len(judged)]
        others = [one for one in self.columns if one not in common]
        return (common, others) if common else (others, [])


@dataclass(frozen=True)
class Table:
    """A table and the records it stands on."""

    spec: TableSpec
    blocks: tuple[Block, ...]
    records: tuple[Record, ...]
    missing: tuple[tuple[str, ...], ...]  # overrides of the cells that have no record

    def notes(self) -> list[str]:
        """Notes of all rows, each once, in order; their places are the footnotes' letters."""
        return list(dict.fromkeys(note for block in self.blocks for row in block.rows for note in row.notes))

"""What a recipe is given, and what every recipe has."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Literal

from pydantic import Field
from pydantic.dataclasses import dataclass

from polm_bench.budget import Budget
from polm_bench.data.part import ThinnedRows
from polm_bench.data.source import DataSource, Rows
from polm_bench.decoding.base import Decoder
from polm_bench.errors import MissingRole
from polm_bench.graph import FORBID, Stage
from polm_bench.models.tuning import Tuning
from polm_bench.stages import TrainSFT
from polm_bench.trainers.optim import Optim

Scale = Literal["model", "adapter", "none"]
"""Which of a model's factors a recipe's learning rate is times: that of all weights, that of adapters, or none."""


@dataclass(frozen=True, config=FORBID)
class Claim:
    """What the paper says the method does to its own number."""

    metric: str  # a task of the suite or of a probe (its headline metric), task/metric, or a cost of the record
    against: str  # the row it is read against: base, start, or another recipe's model
    kind: Literal["gain", "keep"]  # gain: better; keep: no worse by more than the margin while `saves` falls
    source: str
    margin: float = Field(default=0.0, ge=0)  # keep: the loss that still counts as none, in the metric's unit
    saves: str | None = None  # keep: the cost of the record that must be lower than the other row's
    note: str | None = None  # why the embedded world does not show it, where that was found out


@dataclass(frozen=True, config=FORBID)
class Meta:
    """What is known of a method: read by `ls`, `show`, tables and tags."""

    title: str
    paradigm: Literal["baseline", "fine_tuning", "alignment", "reasoning", "efficiency", "integration"]
    family: str
    paper: str
    survey: tuple[str, ...]  # keys of the survey's catalogue that the recipe covers
    axes: Mapping[str, Mapping[str, str]]  # "survey": as printed there, "ours": where we differ
    claim: Claim | None
    cost: str  # class of the cost, for a reader


@dataclass(frozen=True, config=FORBID)
class Context:
    """A recipe's surroundings: everything but the suite, which it never sees."""

    recipe: str
    base: Stage
    data: DataSource
    budget: Budget
    seed: int
    lr_scale: float
    adapter_lr_scale: float = 1.0

    def rows(self, role: str) -> Rows:
        """Rows of a role, as many as the budget lets a method see. Raises MissingRole when the data does not have it."""
        if role not in self.data.roles():
            raise MissingRole(self.recipe, role, self.data.name, self.data.roles())
        rows = self.data.role(role)
        return rows if self.budget.rows is None else ThinnedRows(role, rows, self.budget.rows)

    def scaled(self, optim: Optim, scale: Scale = "model") -> Optim:
        """The recipe's optimiser at this model's learning rate: of all weights, of an adapter's, or as the recipe gives it."""
        factor = {"model": self.lr_scale, "adapter": self.adapter_lr_scale, "none": 1.0}[scale]
        return dataclasses.replace(optim, lr=optim.lr * factor)


@dataclass(frozen=True, config=FORBID)
class Graph:
    """What a recipe plans: the model that is judged and how it answers, and the model it started from where that is not the base."""

    model: Stage
    start: Stage | None = None
    decoder: Decoder | None = None  # None: it answers as it is
    judged: bool = True  # False: the suite can't be put to it, as it writes no text (a reward model); it has probes
    probes: Mapping[str, Stage] = dataclasses.field(default_factory=dict)
    """Scores that no suite has (of edits, of a reward model), by the row they stand in: self, start, base."""


@dataclass(frozen=True, config=FORBID)
class Recipe:
    """A method: a shape and its numbers."""

    meta: Meta

    def plan(self, ctx: Context) -> Graph:
        """From a cell to a graph. Raises MissingRole."""
        raise TypeError(f"{type(self).__name__} does not say what it plans")


def sft(ctx: Context, share: float, optim: Optim, adapter: Tuning | None = None) -> TrainSFT:
    """Fine-tuning on the role `sft` with a share of the budget."""
    return TrainSFT(
        init=ctx.base,
        data=ctx.rows("sft"),
        spend=ctx.budget.part(share),
        optim=ctx.scaled(optim),
        seed=ctx.seed,
        adapter=adapter,
    )

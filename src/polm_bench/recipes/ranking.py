"""Preference optimisation on ranked answers: those of the data, or the model's own against the rejected ones."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, PositiveInt
from pydantic.dataclasses import dataclass

from polm_bench.budget import Spend
from polm_bench.data.derived import DerivedRows
from polm_bench.data.source import Rows
from polm_bench.decoding.sampling import Sampling
from polm_bench.graph import FORBID, Stage
from polm_bench.objectives import ListObjective
from polm_bench.recipes.context import Context, Graph, Recipe, sft
from polm_bench.stages.generate import Generate
from polm_bench.stages.ranking import AgainstSamples, ReferenceLists, TrainLists
from polm_bench.trainers.optim import Optim


@dataclass(frozen=True, config=FORBID)
class Ranking(Recipe):
    """Listwise preference optimisation of an SFT model."""

    loss: ListObjective
    optim: Optim
    sft_optim: Optim

    def plan(self, ctx: Context) -> Graph:
        """Base -> SFT (`sft_share` of the budget) -> optimisation on the role `ranking` (the rest); the reference is the SFT model."""
        share = ctx.budget.sft_share
        start = sft(ctx, share, self.sft_optim) if share else ctx.base
        model = self.train(ctx, start, ctx.rows("ranking"), ctx.budget.part(1 - share))
        return Graph(model, start if share else None)

    def train(self, ctx: Context, start: Stage, rows: Rows, spend: Spend) -> TrainLists:
        """Optimisation on lists, from `start` and against it."""
        needed = self.loss.needs_reference
        reference = ReferenceLists(model=start, data=rows, spend=spend, seed=ctx.seed) if needed else None
        return TrainLists(start, reference, self.loss, rows, spend, ctx.scaled(self.optim), ctx.seed)


@dataclass(frozen=True, config=FORBID)
class OwnAnswers(Ranking):
    """Optimisation on a model's own answers against the rejected completions of pairs; the chosen ones are not read."""

    count: PositiveInt  # own answers to a prompt
    how: Sampling
    generated: Annotated[float, Field(gt=0, lt=1)]  # share of what follows the SFT that goes into answers

    def plan(self, ctx: Context) -> Graph:
        """Base -> SFT (`sft_share` of the budget) -> own answers to the prompts of the role `preference` -> optimisation."""
        share = ctx.budget.sft_share
        start = sft(ctx, share, self.sft_optim) if share else ctx.base
        spend = ctx.budget.part((1 - share) * self.generated)
        answers = Generate(start, ctx.rows("preference"), self.how, self.count, spend, ctx.seed)
        rows = DerivedRows("ranking", AgainstSamples(answers))
        model = self.train(ctx, start, rows, ctx.budget.part((1 - share) * (1 - self.generated)))
        return Graph(model, start if share else None)

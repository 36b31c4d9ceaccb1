"""Graphs of methods: the base alone, preference optimisation."""

from __future__ import annotations

from typing import Literal

from pydantic.dataclasses import dataclass

from polm_bench.graph import FORBID
from polm_bench.objectives import PairObjective
from polm_bench.recipes.context import Context, Graph, Recipe, sft
from polm_bench.stages import ReferenceLogps, TrainPairs
from polm_bench.trainers.optim import Optim


@dataclass(frozen=True, config=FORBID)
class Base(Recipe):
    """The base model as it is."""

    def plan(self, ctx: Context) -> Graph:
        """Base."""
        return Graph(ctx.base)


@dataclass(frozen=True, config=FORBID)
class Preference(Recipe):
    """Preference optimisation of an SFT model, or of the base."""

    loss: PairObjective
    optim: Optim
    sft_optim: Optim
    start: Literal["sft", "base"] = "sft"

    def plan(self, ctx: Context) -> Graph:
        """Base -> SFT (`sft_share` of the budget) -> preference optimisation (the rest); the reference is the model it starts from."""
        share = ctx.budget.sft_share if self.start == "sft" else 0.0
        start = sft(ctx, share, self.sft_optim) if share else ctx.base
        rows, spend = ctx.rows(self.loss.role), ctx.budget.part(1 - share)
        reference = (
            ReferenceLogps(model=start, data=rows, spend=spend, seed=ctx.seed) if self.loss.needs_reference else None
        )
        policy = TrainPairs(
            init=start,
            reference=reference,
            objective=self.loss,
            data=rows,
            spend=spend,
            optim=ctx.scaled(self.optim),
            seed=ctx.seed,
        )
        return Graph(policy, start if share else None)

"""Graphs of what comes after merging: a merged model, corrected."""

from __future__ import annotations

from pydantic import PositiveFloat, PositiveInt
from pydantic.dataclasses import dataclass

from polm_bench.graph import FORBID
from polm_bench.recipes.context import Context, Graph
from polm_bench.recipes.merge import Merge
from polm_bench.stages.surgery import CorrectRepresentations


@dataclass(frozen=True, config=FORBID, kw_only=True)
class Surgery(Merge):
    """A merged model with a module that is trained after the merge; the start is the merged model without it."""

    steps: PositiveInt
    batch: PositiveInt
    size: PositiveInt
    lr: PositiveFloat  # of new weights, so no model's scale applies

    def plan(self, ctx: Context) -> Graph:
        """Base -> one expert a domain (`sft_share` of the budget) -> merged -> corrected (the rest)."""
        share = ctx.budget.sft_share
        experts = self.experts(ctx, share, self.adapter)
        merged = self.merged(ctx, experts)
        corrected = CorrectRepresentations(
            model=merged,
            experts=experts,
            data=tuple(expert.data for expert in experts),
            spend=ctx.budget.part(1 - share),
            steps=self.steps,
            batch=self.batch,
            size=self.size,
            lr=self.lr,
            seed=ctx.seed,
        )
        return Graph(corrected, start=merged)

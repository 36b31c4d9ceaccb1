"""Preference optimisation on pairs and on labelled completions."""

from __future__ import annotations

import dataclasses
from typing import Literal

from pydantic.dataclasses import dataclass

from polm_bench.budget import Spend
from polm_bench.data.part import PartRows
from polm_bench.data.source import Rows
from polm_bench.graph import FORBID, Stage
from polm_bench.objectives import PairObjective
from polm_bench.recipes.context import Context, Graph, Recipe, sft
from polm_bench.stages import ReferenceLogps, TrainPairs
from polm_bench.stages.likelihood import PairLikelihood
from polm_bench.trainers.optim import Optim
from polm_bench.trainers.reference import Handling, Moving, Rounds


@dataclass(frozen=True, config=FORBID)
class Preference(Recipe):
    """Preference optimisation of an SFT model, or of the base."""

    loss: PairObjective
    optim: Optim
    sft_optim: Optim
    start: Literal["sft", "base"] = "sft"
    reference: Handling = "fixed"  # of an objective that reads one
    likelihood: bool = False  # also score how likely held-out chosen completions become
    shared_prompt: bool = False  # compute what a pair begins with once: faster, and the same but for rounding

    def plan(self, ctx: Context) -> Graph:
        """Base -> SFT (`sft_share` of the budget) -> preference optimisation (the rest), in one round or several.

        Without rounds the reference is the model that preference optimisation starts from, and stays it, follows the policy, or there is none.
        """
        share = ctx.budget.sft_share if self.start == "sft" else 0.0
        start = sft(ctx, share, self.sft_optim) if share else ctx.base
        rows = ctx.rows(self.loss.role)
        model = self._rounds(ctx, start, rows, 1 - share)
        probes: dict[str, Stage] = {}
        if self.likelihood:
            pairs = ctx.rows("preference")
            probes = {
                row: PairLikelihood(judged, pairs, ctx.budget.max_length)
                for row, judged in (("self", model), ("start", start))
                if row == "self" or share
            }
        return Graph(model, start if share else None, probes=probes)

    def _rounds(self, ctx: Context, start: Stage, rows: Rows, share: float) -> Stage:
        """Preference optimisation with a share of the budget, in one round or several."""
        if not isinstance(self.reference, Rounds):
            return self._train(ctx, start, rows, ctx.budget.part(share))
        model = start
        for index in range(self.reference.count):
            part = PartRows(rows.role, rows, index, self.reference.count, self.reference.order)
            model = self._train(ctx, model, part, ctx.budget.part(share / self.reference.count))
        return model

    def _train(self, ctx: Context, init: Stage, rows: Rows, spend: Spend) -> TrainPairs:
        moving = self.reference if isinstance(self.reference, Moving) else None
        live = self.loss.live_reference or (moving is not None and self.loss.needs_reference)
        policy = TrainPairs(
            init=init,
            reference=None,
            objective=self.loss,
            data=rows,
            spend=spend,
            optim=ctx.scaled(self.optim),
            seed=ctx.seed,
            live=init if live else None,
            moving=moving if live else None,
            shared_prompt=self.shared_prompt,
        )
        if live or self.reference == "none" or not self.loss.needs_reference:
            return policy
        scored = ReferenceLogps(model=init, data=rows, spend=spend, seed=ctx.seed, shared_prompt=self.shared_prompt)
        return dataclasses.replace(policy, reference=scored)

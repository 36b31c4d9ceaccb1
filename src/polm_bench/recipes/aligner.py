"""A model whose answers a second one corrects."""

from __future__ import annotations

import dataclasses
from typing import Annotated

from pydantic import Field
from pydantic.dataclasses import dataclass

from polm_bench.data.corrections import Corrections, Unchanged
from polm_bench.data.source import Rows
from polm_bench.decoding.correcting import Corrected
from polm_bench.graph import FORBID, Stage
from polm_bench.recipes.context import Context, Graph, Recipe, sft
from polm_bench.stages.sft import TrainSFT
from polm_bench.trainers.optim import Optim


@dataclass(frozen=True, config=FORBID)
class AlignerBehind(Recipe):
    """A corrector learned from pairs, behind an SFT model that stays as it is."""

    decoder: Corrected
    unchanged: Annotated[float, Field(ge=0, lt=1)]  # of the corrector's spend: on answers that are to stay as they are
    optim: Optim
    sft_optim: Optim

    def plan(self, ctx: Context) -> Graph:
        """Base -> SFT (`sft_share` of the budget); base -> letting be -> correcting (the rest); the SFT model answers, the corrector corrects."""
        share = ctx.budget.sft_share
        start: Stage = sft(ctx, share, self.sft_optim) if share else ctx.base
        rest, question = 1 - share, self.decoder.question
        corrector: Stage = ctx.base
        if self.unchanged:
            corrector = self._train(ctx, corrector, Unchanged("sft", ctx.rows("sft"), question), rest * self.unchanged)
        corrections = Corrections("sft", ctx.rows("preference"), question)
        corrector = self._train(ctx, corrector, corrections, rest * (1 - self.unchanged))
        decoder = dataclasses.replace(self.decoder, corrector=corrector)
        return Graph(start, start, decoder)

    def _train(self, ctx: Context, init: Stage, rows: Rows, share: float) -> TrainSFT:
        return TrainSFT(init, rows, ctx.budget.part(share), ctx.scaled(self.optim), ctx.seed)

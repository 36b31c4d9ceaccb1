"""Models that learn to better answers of their own."""

from __future__ import annotations

import dataclasses
from typing import Annotated

from pydantic import Field, NonNegativeFloat, PositiveInt
from pydantic.dataclasses import dataclass

from polm_bench.data.corrections import Chains
from polm_bench.data.derived import DerivedRows, JoinedRows
from polm_bench.data.part import SampledRows
from polm_bench.decoding.correcting import Corrected
from polm_bench.decoding.refining import Chained
from polm_bench.decoding.sampling import Sampling
from polm_bench.graph import FORBID, Stage
from polm_bench.recipes.bootstrap import round_seed
from polm_bench.recipes.context import Context, Graph, Recipe, sft
from polm_bench.rewards import Reward
from polm_bench.stages.generate import Generate
from polm_bench.stages.improve import Hypotheses, ImprovingPairs
from polm_bench.stages.sft import TrainSFT
from polm_bench.trainers.optim import Optim


@dataclass(frozen=True, config=FORBID)
class SelfCorrection(Recipe):
    """A corrector learned from pairs of a model's own answers, behind that model."""

    decoder: Corrected
    rounds: PositiveInt  # the first learns from the model's answers, later ones from the corrector's too
    generated: Annotated[float, Field(gt=0, lt=1)]  # share of a round's spend that goes into answers
    count: PositiveInt  # answers to a prompt
    how: Sampling
    reward: Reward
    alpha: NonNegativeFloat
    beta: NonNegativeFloat
    optim: Optim
    sft_optim: Optim

    def plan(self, ctx: Context) -> Graph:
        """Base -> SFT (`sft_share` of the budget) -> (answers -> improving pairs -> corrector) x rounds, with equal parts of the rest."""
        share, question = ctx.budget.sft_share, self.decoder.question
        start: Stage = sft(ctx, share, self.sft_optim) if share else ctx.base
        part = (1 - share) / self.rounds
        corrector = start
        answers: tuple[Generate, ...] = ()
        for number in range(self.rounds):
            seed, rows = round_seed(ctx, number), ctx.rows(self.reward.role)
            if answers:
                rows = DerivedRows(rows.role, Hypotheses(answers, question, seed))
            drawn = Generate(corrector, rows, self.how, self.count, ctx.budget.part(part * self.generated), seed)
            answers = (*answers, drawn)
            pairs = ImprovingPairs(answers, self.reward, question, self.alpha, self.beta, seed)
            corrector = TrainSFT(
                init=corrector,
                data=DerivedRows("sft", pairs),
                spend=ctx.budget.part(part * (1 - self.generated)),
                optim=ctx.scaled(self.optim),
                seed=ctx.seed,
            )
        return Graph(start, start, dataclasses.replace(self.decoder, corrector=corrector))


@dataclass(frozen=True, config=FORBID)
class SelfFeedback(Recipe):
    """A model trained on chains of answer, feedback and revision, which it then writes by itself."""

    decoder: Chained
    points: PositiveInt  # the highest mark
    plain: Annotated[float, Field(gt=0, le=1)]  # share of the plain answers that are trained on beside the chains
    optim: Optim
    sft_optim: Optim

    def plan(self, ctx: Context) -> Graph:
        """Base -> SFT (`sft_share` of the budget) -> SFT on chains and on some of the plain answers (the rest)."""
        share, how = ctx.budget.sft_share, self.decoder
        start: Stage = sft(ctx, share, self.sft_optim) if share else ctx.base
        plain = SampledRows("sft", ctx.rows("sft"), self.plain, ctx.seed)
        chains = Chains("sft", ctx.rows("ranking"), how.feedback, how.revision, self.points)
        tuned = TrainSFT(
            init=start,
            data=JoinedRows("sft", (plain, chains)),
            spend=ctx.budget.part(1 - share),
            optim=ctx.scaled(self.optim),
            seed=ctx.seed,
        )
        return Graph(tuned, start if share else None, how)

"""Graphs of synthetic data: a model makes up prompts and answers, and the base is fine-tuned on them."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, PositiveFloat, PositiveInt
from pydantic.dataclasses import dataclass

from polm_bench.data.derived import DerivedRows
from polm_bench.decoding.sampling import Sampling
from polm_bench.graph import FORBID, Stage
from polm_bench.objectives.reward import BradleyTerry
from polm_bench.recipes.context import Context, Graph, Recipe
from polm_bench.recipes.distill import Teacher
from polm_bench.rewards.learned import Learned
from polm_bench.stages.filter import KeepBest, Select
from polm_bench.stages.generate import Generate
from polm_bench.stages.invent import Invent
from polm_bench.stages.reward import TrainReward
from polm_bench.stages.screen import LinearRule, ScreenIFD, ScreenRule
from polm_bench.stages.sft import TrainSFT
from polm_bench.trainers.optim import Optim


@dataclass(frozen=True, config=FORBID)
class SelfInstruct(Recipe):
    """The base makes up prompts from a few answered ones and answers them itself."""

    pool: PositiveInt  # answered prompts to start from
    shots: PositiveInt  # examples before each new prompt and each answer
    novelty: Annotated[float, Field(gt=0, le=1)]
    invented: Annotated[float, Field(gt=0, lt=1)]  # share of the budget that goes into prompts
    answered: Annotated[float, Field(gt=0, lt=1)]  # into answers; the rest is trained on
    ask: Sampling
    answer: Sampling
    optim: Optim

    def plan(self, ctx: Context) -> Graph:
        """Base -> prompts -> answers; base -> SFT on them."""
        seeds = ctx.rows("sft")
        prompts = Invent(
            model=ctx.base,
            seeds=seeds,
            pool=self.pool,
            shots=self.shots,
            novelty=self.novelty,
            how=self.ask,
            spend=ctx.budget.part(self.invented),
            seed=ctx.seed,
        )
        answers = Generate(
            model=ctx.base,
            data=DerivedRows("prompts", prompts),
            how=self.answer,
            count=1,
            spend=ctx.budget.part(self.answered),
            seed=ctx.seed,
            shown=seeds,
            shots=self.shots,
        )
        return Graph(_tuned(ctx, _ended(answers), 1 - self.invented - self.answered, self.optim))


@dataclass(frozen=True, config=FORBID)
class Magpie(Recipe):
    """An aligned model makes up prompts from its chat template alone and answers them; the base learns from both."""

    teacher: Teacher
    invented: PositiveFloat  # tokens of prompts, as a share of the budget; the teacher's, not the student's own
    answered: PositiveFloat  # tokens of answers
    ask: Sampling
    answer: Sampling
    optim: Optim

    def plan(self, ctx: Context) -> Graph:
        """Teacher -> prompts -> answers; base -> SFT on them (the whole budget)."""
        teacher = self.teacher.plan(ctx)
        prompts = Invent(
            model=teacher,
            seeds=None,
            pool=0,
            shots=0,
            novelty=1.0,
            how=self.ask,
            spend=ctx.budget.part(self.invented),
            seed=0,  # one set of data for all seeds, as there is one teacher
        )
        answers = Generate(
            model=teacher,
            data=DerivedRows("prompts", prompts),
            how=self.answer,
            count=1,
            spend=ctx.budget.part(self.answered),
            seed=0,
        )
        return Graph(_tuned(ctx, _ended(answers), 1.0, self.optim))


def _ended(answers: Generate) -> Select:
    """All answers that ended by themselves."""
    return Select(answers=(answers,), reward=None, keep=KeepBest())


def _tuned(ctx: Context, kept: Stage, share: float, optim: Optim) -> TrainSFT:
    """The base, fine-tuned on the rows that a stage kept."""
    return TrainSFT(
        init=ctx.base,
        data=DerivedRows("sft", kept),
        spend=ctx.budget.part(share),
        optim=ctx.scaled(optim),
        seed=ctx.seed,
    )


@dataclass(frozen=True, config=FORBID)
class Screened(Recipe):
    """Fine-tuning on the part of the data that the base finds hard to follow."""

    keep: Annotated[float, Field(gt=0, le=1)]
    most: PositiveInt
    optim: Optim

    def plan(self, ctx: Context) -> Graph:
        """Base -> scores of the rows -> those kept; base -> SFT on them (the whole budget)."""
        kept = ScreenIFD(
            model=ctx.base,
            data=ctx.rows("sft"),
            keep=self.keep,
            most=self.most,
            max_length=ctx.budget.max_length,
            seed=ctx.seed,
        )
        return Graph(_tuned(ctx, kept, 1.0, self.optim))


@dataclass(frozen=True, config=FORBID)
class Mined(Recipe):
    """Fine-tuning on the part of the data from which a linear rule of indicators foresees the lowest loss."""

    rule: LinearRule
    keep: Annotated[float, Field(gt=0, le=1)]
    most: PositiveInt
    reward_share: Annotated[float, Field(gt=0, lt=1)]  # of the budget, for the reward model
    reward_loss: BradleyTerry
    reward_optim: Optim
    optim: Optim

    def plan(self, ctx: Context) -> Graph:
        """Base -> reward model -> scores of the rows -> those kept; base -> SFT on them (the rest of the budget)."""
        reward = TrainReward(
            init=ctx.base,
            data=ctx.rows("preference"),
            loss=self.reward_loss,
            spend=ctx.budget.part(self.reward_share),
            optim=ctx.scaled(self.reward_optim),
            seed=ctx.seed,
        )
        kept = ScreenRule(
            model=ctx.base,
            reward=Learned(reward),
            data=ctx.rows("sft"),
            rule=self.rule,
            keep=self.keep,
            most=self.most,
            max_length=ctx.budget.max_length,
            seed=ctx.seed,
        )
        return Graph(_tuned(ctx, kept, 1 - self.reward_share, self.optim))

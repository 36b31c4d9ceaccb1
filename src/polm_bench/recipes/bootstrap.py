"""Graphs of bootstrapping: a model learns from answers of its own, round after round."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Literal

from pydantic import Field, PositiveInt
from pydantic.dataclasses import dataclass

from polm_bench.budget import Spend
from polm_bench.data.derived import DerivedRows, JoinedRows, Judgements
from polm_bench.data.part import PartRows, SampledRows
from polm_bench.data.source import Rows
from polm_bench.decoding.sampling import Sampling
from polm_bench.errors import BadBudget
from polm_bench.graph import FORBID, Stage
from polm_bench.objectives import PairObjective
from polm_bench.recipes.context import Context, Graph, Recipe, sft
from polm_bench.rewards import Reward
from polm_bench.rewards.rated import Rated
from polm_bench.stages.filter import Hint, Keep, Select
from polm_bench.stages.generate import Generate
from polm_bench.stages.pairs import ReferenceLogps, TrainPairs
from polm_bench.stages.sft import TrainSFT
from polm_bench.trainers.optim import Optim


@dataclass(frozen=True, config=FORBID)
class Bootstrapping(Recipe):
    """Rounds of answering, keeping the good answers, and fine-tuning on them."""

    rounds: PositiveInt
    generated: Annotated[
        float, Field(gt=0, lt=1)
    ]  # share of a round's spend that goes into answers, the rest into training
    count: PositiveInt  # answers to a prompt
    how: Sampling
    reward: Reward
    keep: Keep
    restart: bool  # True: every round trains the start anew; False: it goes on with the last round's model
    optim: Optim
    sft_optim: Optim
    hint: str | None = None  # what is added to prompts that were answered wrong; they are then answered once more

    def plan(self, ctx: Context) -> Graph:
        """Base -> SFT (`sft_share` of the budget) -> (answers -> kept ones -> SFT) x rounds, with equal parts of the rest."""
        share = ctx.budget.sft_share
        start: Stage = sft(ctx, share, self.sft_optim) if share else ctx.base
        part = (1 - share) / self.rounds
        model = start
        for number in range(self.rounds):
            kept = Select(self.answers(ctx, model, part * self.generated, number), self.reward, self.keep)
            model = TrainSFT(
                init=start if self.restart else model,
                data=DerivedRows(self.keep.role, kept),
                spend=ctx.budget.part(part * (1 - self.generated)),
                optim=ctx.scaled(self.optim),
                seed=ctx.seed,
            )
        return Graph(model, start if share else None)

    def answers(self, ctx: Context, model: Stage, share: float, number: int) -> tuple[Generate, ...]:
        """One round's answers; with a hint, half of the share goes to prompts that were answered wrong without one."""
        rows, seed = ctx.rows(self.reward.role), round_seed(ctx, number)
        if self.hint is None:
            return (Generate(model, rows, self.how, self.count, ctx.budget.part(share), seed),)
        spend = ctx.budget.part(share / 2)
        plain = Generate(model, rows, self.how, self.count, spend, seed)
        hinted = DerivedRows(rows.role, Hint(plain, self.reward, self.hint))
        return plain, Generate(model, hinted, self.how, self.count, spend, seed)


@dataclass(frozen=True, config=FORBID)
class IterativePreference(Recipe):
    """Rounds of answering, making pairs of the answers, and preference optimisation on them."""

    rounds: PositiveInt
    generated: Annotated[
        float, Field(gt=0, lt=1)
    ]  # share of a round's spend that goes into answers, the rest into training
    count: PositiveInt  # answers to a prompt
    how: Sampling
    role: Literal["prompts", "sft", "verifiable", "preference"]  # whose prompts are answered
    reward: Reward | None
    keep: Keep
    loss: PairObjective
    reference: Literal["previous", "start"]  # the model that the loss compares with
    optim: Optim
    sft_optim: Optim
    apart: bool = False  # every round answers a part of the prompts of its own
    again: tuple[Annotated[float, Field(gt=0, le=1)], ...] = ()  # shares of the last round's pairs, the one before's...

    def plan(self, ctx: Context) -> Graph:
        """Base -> SFT (`sft_share` of the budget) -> (answers -> pairs -> preference optimisation) x rounds, with equal parts of the rest."""
        share = ctx.budget.sft_share
        start: Stage = sft(ctx, share, self.sft_optim) if share else ctx.base
        part = (1 - share) / self.rounds
        model = start
        made: list[Rows] = []
        for number in range(self.rounds):
            seed, spend = round_seed(ctx, number), ctx.budget.part(part * self.generated)
            answers = Generate(model, self._asked(ctx, number), self.how, self.count, spend, seed)
            made.insert(0, DerivedRows(self.keep.role, Select((answers,), self.reward, self.keep)))
            reference = start if self.reference == "start" else model
            model = prefer(
                ctx,
                model,
                reference,
                self._pairs(made, seed),
                ctx.budget.part(part * (1 - self.generated)),
                self.loss,
                self.optim,
            )
        return Graph(model, start if share else None)

    def _asked(self, ctx: Context, number: int) -> Rows:
        """Whose prompts a round answers."""
        rows = ctx.rows(self.role)
        return PartRows(rows.role, rows, number, self.rounds, "as_given") if self.apart else rows

    def _pairs(self, made: Sequence[Rows], seed: int) -> Rows:
        """The newest pairs, and shares of those of the rounds before."""
        newest, *older = made
        kept = [SampledRows(rows.role, rows, share, seed) for rows, share in zip(older, self.again, strict=False)]
        return JoinedRows(newest.role, (newest, *kept)) if kept else newest


@dataclass(frozen=True, config=FORBID)
class SelfRewarding(Recipe):
    """Rounds of answering, judging the answers oneself, and preference optimisation on the pairs."""

    rounds: PositiveInt
    generated: Annotated[
        float, Field(gt=0, lt=1)
    ]  # share of a round's spend that goes into answers, the rest into training
    count: PositiveInt  # answers to a prompt
    how: Sampling
    question: str  # how the model is asked for points, with {prompt} and {answer}
    points: PositiveInt  # the highest mark
    keep: Keep
    loss: PairObjective
    optim: Optim
    sft_optim: Optim

    def plan(self, ctx: Context) -> Graph:
        """Base -> SFT on answers and on judgements -> (answers -> own marks -> pairs -> preference optimisation) x rounds."""
        share = ctx.budget.sft_share
        if not share:
            raise BadBudget(
                f"recipe '{ctx.recipe}' starts from a model that has learned to judge, but budget.sft_share is 0"
            )
        judged = Judgements("sft", ctx.rows("ranking"), self.question, self.points)
        start = TrainSFT(
            init=ctx.base,
            data=JoinedRows("sft", (ctx.rows("sft"), judged)),
            spend=ctx.budget.part(share),
            optim=ctx.scaled(self.sft_optim),
            seed=ctx.seed,
        )
        part = (1 - share) / self.rounds
        model: Stage = start
        for number in range(self.rounds):
            seed, spend = round_seed(ctx, number), ctx.budget.part(part * self.generated)
            answers = Generate(model, ctx.rows("prompts"), self.how, self.count, spend, seed)
            marks = Rated(model, self.question, self.points)
            pairs = DerivedRows(self.keep.role, Select((answers,), marks, self.keep))
            model = prefer(
                ctx, model, model, pairs, ctx.budget.part(part * (1 - self.generated)), self.loss, self.optim
            )
        return Graph(model, start)


def prefer(
    ctx: Context, model: Stage, reference: Stage, pairs: Rows, spend: Spend, loss: PairObjective, optim: Optim
) -> TrainPairs:
    """Preference optimisation of `model` on pairs."""
    logps = ReferenceLogps(reference, pairs, spend, ctx.seed) if loss.needs_reference else None
    return TrainPairs(model, logps, loss, pairs, spend, ctx.scaled(optim), ctx.seed)


def round_seed(ctx: Context, number: int) -> int:
    """Another draw of prompts and answers in every round."""
    return 1000 * number + ctx.seed

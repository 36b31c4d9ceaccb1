"""Graphs of merging: experts of single domains, what they are compared with, and the ways to make one model of them."""

from __future__ import annotations

import dataclasses
from typing import Annotated

from pydantic import Field, NonNegativeInt, PositiveFloat, PositiveInt
from pydantic.dataclasses import dataclass

from polm_bench.data.derived import DerivedRows
from polm_bench.data.domains import DomainRows
from polm_bench.decoding.blender import Blender
from polm_bench.decoding.sampling import Sampling
from polm_bench.graph import FORBID, Stage
from polm_bench.models.tuning import Tuning
from polm_bench.objectives.aligning import Alignment
from polm_bench.objectives.merging import Average, MergeRule
from polm_bench.recipes.context import Context, Graph, Recipe
from polm_bench.stages.adamerging import LearnCoefficients
from polm_bench.stages.align import AlignUnits
from polm_bench.stages.blend import ComparePairs
from polm_bench.stages.fuse import TrainFused
from polm_bench.stages.generate import Generate
from polm_bench.stages.merge import CombineWeights, MergeModels, Parameters, WeightStatistics
from polm_bench.stages.sft import TrainSFT
from polm_bench.stages.soup import GreedySoup
from polm_bench.trainers.optim import Optim


@dataclass(frozen=True, config=FORBID)
class Experts(Recipe):
    """What all recipes on the role `domains` share: one expert a domain, each with an equal share of the budget."""

    optim: Optim
    domains: Annotated[int, Field(ge=2)]

    def expert(self, ctx: Context, place: int, share: float = 1.0, adapter: Tuning | None = None) -> TrainSFT:
        """Base fine-tuned on one domain with its part of `share` of the budget."""
        return TrainSFT(
            init=ctx.base,
            data=self.rows(ctx, place),
            spend=ctx.budget.part(share / self.domains),
            optim=ctx.scaled(self.optim),
            seed=ctx.seed,
            adapter=adapter,
        )

    def experts(self, ctx: Context, share: float = 1.0, adapter: Tuning | None = None) -> tuple[TrainSFT, ...]:
        """One expert a domain; the same stages in every recipe that has nothing to train after them."""
        return tuple(self.expert(ctx, place, share, adapter) for place in range(self.domains))

    def rows(self, ctx: Context, place: int | None) -> DomainRows:
        """Rows of one domain, or of all."""
        return DomainRows(role="sft", source=ctx.rows("domains"), domains=self.domains, place=place)


@dataclass(frozen=True, config=FORBID)
class MultiTask(Experts):
    """One model for all domains."""

    def plan(self, ctx: Context) -> Graph:
        """Base -> SFT on all domains together, with the whole budget."""
        data, optim = self.rows(ctx, None), ctx.scaled(self.optim)
        return Graph(TrainSFT(init=ctx.base, data=data, spend=ctx.budget.part(1.0), optim=optim, seed=ctx.seed))


@dataclass(frozen=True, config=FORBID)
class Expert(Experts):
    """One of the experts that are merged, as it is."""

    place: int = Field(default=0, ge=0)  # of its domain in the alphabet's order

    def plan(self, ctx: Context) -> Graph:
        """Base -> SFT on one domain, with one domain's share of the budget."""
        return Graph(self.expert(ctx, self.place))


@dataclass(frozen=True, config=FORBID)
class Merge(Experts):
    """Experts merged by a method of mergekit."""

    method: str
    each: Parameters  # of every model
    whole: Parameters  # of the merge
    anchored: bool = True  # False: for a method of means, in which the base has no part
    nested: bool = False  # for a method of two models: the first two, then the result with the next, all with the same weight in the end
    adapter: Tuning | None = None  # what an expert trains; None: all weights

    def plan(self, ctx: Context) -> Graph:
        """Base -> one expert a domain -> merged."""
        return Graph(self.merged(ctx, self.experts(ctx, adapter=self.adapter)))

    def merged(self, ctx: Context, experts: tuple[TrainSFT, ...]) -> Stage:
        """One model of all experts."""
        if self.nested:
            return self._folded(ctx, experts)
        return MergeModels(
            base=ctx.base,
            models=experts,
            method=self.method,
            each=self.each,
            whole=self.whole,
            seed=ctx.seed,
            anchored=self.anchored,
        )

    def _folded(self, ctx: Context, experts: tuple[TrainSFT, ...]) -> Stage:
        merged: Stage = experts[0]
        for done, expert in enumerate(experts[1:], 1):
            step = {**self.whole, "t": 1 / (done + 1)}
            merged = MergeModels(
                base=merged, models=(merged, expert), method=self.method, each=self.each, whole=step, seed=ctx.seed
            )
        return merged


@dataclass(frozen=True, config=FORBID)
class MergeByRule(Experts):
    """Experts merged by a rule of ours."""

    rule: MergeRule
    rows_known: int = Field(default=0, ge=0)  # rows of each domain from which the rule's statistics are taken, at most
    align: Alignment | None = None  # how the other experts' units are brought into the order of the first one's

    def plan(self, ctx: Context) -> Graph:
        """Base -> one expert a domain [-> statistics of each, or all but the first aligned to it] -> merged."""
        first, *others = experts = self.experts(ctx)
        if self.align is not None:
            aligned = (AlignUnits(first, expert, self.align, ctx.seed) for expert in others)
            return Graph(CombineWeights(ctx.base, (first, *aligned), self.rule))
        return Graph(CombineWeights(ctx.base, experts, self.rule, self._statistics(ctx, experts)))

    def _statistics(self, ctx: Context, experts: tuple[TrainSFT, ...]) -> tuple[Stage, ...]:
        if self.rule.statistics == "none":
            return ()
        return tuple(
            WeightStatistics(
                model=expert,
                data=expert.data,
                spend=expert.spend,
                kind=self.rule.statistics,
                rows=self.rows_known,
                seed=ctx.seed,
            )
            for expert in experts
        )


@dataclass(frozen=True, config=FORBID)
class AdaMerging(Experts):
    """Experts merged with coefficients learnt from prompts alone."""

    steps: PositiveInt
    batch: PositiveInt
    prior: float
    lr: PositiveFloat  # of coefficients, so no model's scale applies

    def plan(self, ctx: Context) -> Graph:
        """Base -> one expert a domain (`sft_share` of the budget) -> coefficients (the rest) -> merged."""
        share = ctx.budget.sft_share
        experts = self.experts(ctx, share)
        return Graph(
            LearnCoefficients(
                base=ctx.base,
                models=experts,
                data=tuple(expert.data for expert in experts),
                spend=ctx.budget.part(1 - share),
                steps=self.steps,
                batch=self.batch,
                prior=self.prior,
                lr=self.lr,
                seed=ctx.seed,
            )
        )


@dataclass(frozen=True, config=FORBID)
class Fuse(Experts):
    """The experts' predictions distilled into the base."""

    label_weight: Annotated[float, Field(ge=0, le=1)]
    fused_optim: Optim

    def plan(self, ctx: Context) -> Graph:
        """Base -> one expert a domain (`sft_share` of the budget) -> the base taught by all of them (the rest)."""
        share = ctx.budget.sft_share
        return Graph(
            TrainFused(
                init=ctx.base,
                teachers=self.experts(ctx, share),
                data=self.rows(ctx, None),
                spend=ctx.budget.part(1 - share),
                optim=ctx.scaled(self.fused_optim),
                label_weight=self.label_weight,
                seed=ctx.seed,
            )
        )


@dataclass(frozen=True, config=FORBID)
class Blend(Experts):
    """All experts answer, and a ranker chooses."""

    decoder: Blender
    longest: PositiveInt  # tokens of an answer that the ranker learns from
    answer_share: Annotated[
        float, Field(gt=0, lt=1)
    ]  # of what the experts leave, for writing these answers; the ranker's training gets the rest

    def plan(self, ctx: Context) -> Graph:
        """Base -> one expert a domain (`sft_share` of the budget) -> their answers -> pairs -> ranker; the first expert is evaluated with the others beside it."""
        share, data = ctx.budget.sft_share, self.rows(ctx, None)
        first, *others = experts = self.experts(ctx, share)
        left, how = 1 - share, Sampling(self.longest, temperature=0)
        spend = ctx.budget.part(left * self.answer_share / len(experts))
        answers = tuple(Generate(expert, data, how, 1, spend, ctx.seed) for expert in experts)
        pairs = ComparePairs(answers, self.decoder.question)
        ranker = TrainSFT(
            init=ctx.base,
            data=DerivedRows("sft", pairs),
            spend=ctx.budget.part(left * (1 - self.answer_share)),
            optim=ctx.scaled(self.optim),
            seed=ctx.seed,
        )
        return Graph(first, decoder=dataclasses.replace(self.decoder, others=tuple(others), ranker=ranker))


@dataclass(frozen=True, config=FORBID)
class Ingredient:
    """What one run of a soup does differently."""

    lr: PositiveFloat  # factor on the recipe's rate
    seed: NonNegativeInt  # added to the cell's


@dataclass(frozen=True, config=FORBID)
class Soup(Recipe):
    """Runs on the same rows with other numbers, averaged."""

    optim: Optim
    ingredients: Annotated[tuple[Ingredient, ...], Field(min_length=2)]
    greedy_rows: int = Field(default=0, ge=0)  # held-out rows by which ingredients are chosen; 0 takes all ingredients
    method: str | None = None  # of mergekit, without numbers; None: the mean

    def plan(self, ctx: Context) -> Graph:
        """Base -> SFT with each ingredient's numbers, an equal share of the budget each -> averaged. The start is the first ingredient alone."""
        rows, share = ctx.rows("sft"), 1 / len(self.ingredients)
        runs = tuple(
            TrainSFT(
                init=ctx.base,
                data=rows,
                spend=ctx.budget.part(share),
                optim=ctx.scaled(dataclasses.replace(self.optim, lr=self.optim.lr * one.lr)),
                seed=ctx.seed + one.seed,
            )
            for one in self.ingredients
        )
        if self.method is not None:
            merged = MergeModels(base=ctx.base, models=runs, method=self.method, each={}, whole={}, seed=ctx.seed)
            return Graph(merged, start=runs[0])
        if not self.greedy_rows:
            return Graph(CombineWeights(ctx.base, runs, Average()), start=runs[0])
        length = ctx.budget.max_length
        return Graph(GreedySoup(ctx.base, runs, rows, self.greedy_rows, length), start=runs[0])

"""Graphs of distillation: a student learns from a larger spend's teacher, from an equal one, or from itself with a longer prompt."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, PositiveFloat, PositiveInt
from pydantic.dataclasses import dataclass

from polm_bench.data.derived import DerivedRows
from polm_bench.decoding.sampling import Sampling
from polm_bench.graph import FORBID
from polm_bench.objectives.distill import DistillObjective
from polm_bench.recipes.context import Context, Graph, Recipe, sft
from polm_bench.rewards import Reward
from polm_bench.stages.distill import TrainStudent, TrainTeacher
from polm_bench.stages.filter import Keep, Select
from polm_bench.stages.generate import Generate
from polm_bench.stages.sft import TrainSFT
from polm_bench.trainers.optim import Optim


@dataclass(frozen=True, config=FORBID)
class Teacher:
    """Who is learned from: the base, fine-tuned on so many times the whole budget. One for all seeds, as a method is given its teacher."""

    times: PositiveFloat
    optim: Optim

    def plan(self, ctx: Context) -> TrainTeacher:
        return TrainTeacher(
            init=ctx.base,
            data=ctx.rows("sft"),
            spend=ctx.budget.part(self.times),
            optim=ctx.scaled(self.optim),
            seed=0,
        )


@dataclass(frozen=True, config=FORBID)
class Distill(Recipe):
    """The teacher's next-token distributions as targets, on given answers or on the student's own."""

    objective: DistillObjective
    teacher: Teacher
    optim: Optim
    sft_optim: Optim
    start: Literal["sft", "base"] = "base"
    own: float = Field(default=0.0, ge=0, le=1)  # share of the steps on the student's own answers
    how: Sampling = Field(default=Sampling(max_new_tokens=1))

    def plan(self, ctx: Context) -> Graph:
        """Base + teacher -> student (the whole budget); or base -> SFT (`sft_share` of it) + teacher -> student (the rest)."""
        share = ctx.budget.sft_share if self.start == "sft" else 0.0
        start = sft(ctx, share, self.sft_optim) if share else ctx.base
        student = TrainStudent(
            init=start,
            teacher=self.teacher.plan(ctx),
            objective=self.objective,
            data=ctx.rows("sft"),
            spend=ctx.budget.part(1 - share),
            optim=ctx.scaled(self.optim),
            seed=ctx.seed,
            own=self.own,
            how=self.how,
        )
        return Graph(student, start if share else None)


@dataclass(frozen=True, config=FORBID)
class SequenceDistill(Recipe):
    """The teacher's answers as targets."""

    teacher: Teacher
    role: Literal["sft", "verifiable"]  # whose prompts the teacher answers
    count: PositiveInt
    how: Sampling
    generated: PositiveFloat  # tokens that the teacher writes, as a share of the budget; it is not the student's own
    reward: Reward | None
    keep: Keep
    optim: Optim

    def plan(self, ctx: Context) -> Graph:
        """Teacher -> answers -> those worth keeping; base -> SFT on them (the whole budget)."""
        answers = Generate(
            model=self.teacher.plan(ctx),
            data=ctx.rows(self.role),
            how=self.how,
            count=self.count,
            spend=ctx.budget.part(self.generated),
            seed=0,  # one set of answers for all seeds, as there is one teacher
        )
        kept = Select(answers=(answers,), reward=self.reward, keep=self.keep)
        return Graph(
            TrainSFT(
                init=ctx.base,
                data=DerivedRows(self.keep.role, kept),
                spend=ctx.budget.part(1.0),
                optim=ctx.scaled(self.optim),
                seed=ctx.seed,
            )
        )


@dataclass(frozen=True, config=FORBID)
class BornAgain(Recipe):
    """Students of their teacher's own size, each the teacher of the next."""

    objective: DistillObjective
    generations: PositiveInt
    optim: Optim

    def plan(self, ctx: Context) -> Graph:
        """Base -> SFT; base + SFT -> first student; base + first student -> second ...: all with equal shares of the budget."""
        share = 1 / (self.generations + 1)
        first = sft(ctx, share, self.optim)
        student: TrainSFT | TrainStudent = first
        for _ in range(self.generations):
            student = TrainStudent(
                init=ctx.base,
                teacher=student,
                objective=self.objective,
                data=ctx.rows("sft"),
                spend=ctx.budget.part(share),
                optim=ctx.scaled(self.optim),
                seed=ctx.seed,
            )
        return Graph(student, first)


@dataclass(frozen=True, config=FORBID)
class ContextDistill(Recipe):
    """The base with a few answered prompts before its own as the teacher of the base without them."""

    objective: DistillObjective
    role: Literal["sft", "unpaired"]  # prompts and completions on which the two are compared
    shown: Literal["sft", "preference"]  # role of the answered prompts
    shots: PositiveInt
    optim: Optim

    def plan(self, ctx: Context) -> Graph:
        """Base + base with a context -> student (the whole budget)."""
        return Graph(
            TrainStudent(
                init=ctx.base,
                teacher=ctx.base,
                objective=self.objective,
                data=ctx.rows(self.role),
                spend=ctx.budget.part(1.0),
                optim=ctx.scaled(self.optim),
                seed=ctx.seed,
                shown=ctx.rows(self.shown),
                shots=self.shots,
            )
        )

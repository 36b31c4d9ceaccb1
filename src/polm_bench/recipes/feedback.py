"""Feedback beside one reward model: of several, from people over several rounds, and from the model itself by principles."""

from __future__ import annotations

import dataclasses
from typing import Annotated, Literal

from pydantic import Field, PositiveFloat, PositiveInt
from pydantic.dataclasses import dataclass

from polm_bench.data.corrections import Revisions
from polm_bench.data.derived import DerivedRows, JoinedRows, Judgements
from polm_bench.decoding.sampling import Sampling
from polm_bench.errors import BadBudget, BadOverride
from polm_bench.graph import FORBID, Stage
from polm_bench.recipes.context import Context, Graph, sft
from polm_bench.recipes.reward_models import SEEDS_APART
from polm_bench.recipes.reward_rl import RewardRL
from polm_bench.rewards.judge import RewardJudge
from polm_bench.rewards.learned import Ensemble, Learned
from polm_bench.rewards.rated import Rated
from polm_bench.stages.generate import Generate
from polm_bench.stages.revise import Revise
from polm_bench.stages.reward import LabelPairs
from polm_bench.stages.reward_more import JoinRewards
from polm_bench.stages.sft import TrainSFT


@dataclass(frozen=True, config=FORBID, kw_only=True)
class OnlineRLHF(RewardRL):
    """Rounds of a reward model on all pairs so far and a policy that learns from it; the policy's own pairs are labelled for the next round."""

    rounds: PositiveInt

    def plan(self, ctx: Context) -> Graph:
        """Base -> SFT -> (reward model -> policy from the SFT model -> labelled pairs) x rounds; the last round labels nothing."""
        if self.judge is None:
            raise BadOverride("online RLHF needs a judge that labels the policy's answers; set recipe.judge")
        used = self.reward_share + self.label_share
        if used >= 1:
            raise BadOverride(f"reward_share and label_share leave {1 - used:.2f} of a round for its policy")
        share = ctx.budget.sft_share
        start: Stage = sft(ctx, share, self.sft_optim) if share else ctx.base
        part = (1 - share) / self.rounds
        labelled: tuple[LabelPairs, ...] = ()
        policy: Stage = start
        for number in range(self.rounds):
            last = number == self.rounds - 1
            values = self.trained_reward(ctx, start, ctx.rows("preference"), part * self.reward_share, labelled)
            learning = 1 - self.reward_share - (0 if last else self.label_share)
            policy = self.policy(ctx, start, Learned(values), values, part * learning)
            if not last:
                labelled = (*labelled, self.labels(ctx, policy, self.judge, part * self.label_share))
        return Graph(policy, start if share else None)


@dataclass(frozen=True, config=FORBID, kw_only=True)
class EnsembleRL(RewardRL):
    """Reinforcement learning against several reward models that differ in their seeds alone, so that where they disagree little is to be had."""

    members: Annotated[int, Field(ge=2)]
    how: Literal["mean", "worst", "uncertain"]
    weight: Annotated[float, Field(ge=0)]  # of the members' variance

    def plan(self, ctx: Context) -> Graph:
        """Base -> SFT -> reward models, each with its share of `reward_share` -> policy; a critic of its own starts from the first."""
        if self.judge is not None or self.reward is not None:
            raise BadOverride(
                "an ensemble learns from the role 'preference'; leave recipe.judge and recipe.reward at null"
            )
        share = ctx.budget.sft_share
        start: Stage = sft(ctx, share, self.sft_optim) if share else ctx.base
        rest, pairs = 1 - share, ctx.rows("preference")
        members = tuple(
            dataclasses.replace(
                self.trained_reward(ctx, start, pairs, rest * self.reward_share / self.members),
                seed=ctx.seed + SEEDS_APART * number,
            )
            for number in range(self.members)
        )
        reward = Ensemble(JoinRewards(members), self.how, self.weight)
        policy = self.policy(ctx, start, reward, members[0], rest * (1 - self.reward_share))
        return Graph(policy, start if share else None)


@dataclass(frozen=True, config=FORBID, kw_only=True)
class ConstitutionalAI(RewardRL):
    """A model that revises its answers by its own critique, learns from the revisions, and then from its own preferences by reinforcement learning."""

    principle: str  # asks for the critique: points for an answer, with {prompt} and {answer}
    points: PositiveInt  # the highest mark
    revision: str  # asks for a better answer, with {prompt}, {answer} and {critique}
    rounds: PositiveInt  # of critique and revision
    how: Sampling
    write_share: Annotated[float, Field(ge=0, lt=1)]  # of what the SFT leaves: for answers, critiques and revisions
    revised_share: Annotated[float, Field(ge=0, lt=1)]  # the same: for learning from the revisions
    certainty: PositiveFloat  # share of a label = sigmoid(certainty * difference in points)

    def plan(self, ctx: Context) -> Graph:
        """Base -> SFT that also judges and revises -> revisions -> SFT on them -> own labels -> reward model -> policy.

        `sft_share` of the budget, then the shares of the rest.
        """
        share = ctx.budget.sft_share
        if not share:
            raise BadBudget(
                f"recipe '{ctx.recipe}' starts from a model that has learned to judge and to revise, but budget.sft_share is 0"
            )
        rest = 1 - share
        used = self.write_share + self.revised_share + self.label_share + self.reward_share
        if used >= 1:
            raise BadOverride(f"the shares of the other stages leave {1 - used:.2f} of the budget for the policy")
        start = self._start(ctx, share)
        revised = self._revised(ctx, start, rest)
        judge = RewardJudge(Rated(start, self.principle, self.points), self.certainty)
        pairs = self.labels(ctx, revised, judge, rest * self.label_share)
        values = self.trained_reward(ctx, revised, pairs, rest * self.reward_share)
        return Graph(self.policy(ctx, revised, Learned(values), values, rest * (1 - used)), start)

    def _start(self, ctx: Context, share: float) -> TrainSFT:
        judged = Judgements("sft", ctx.rows("ranking"), self.principle, self.points)
        taught = JoinedRows("sft", (ctx.rows("sft"), judged, Revisions("sft", judged, self.revision)))
        return TrainSFT(ctx.base, taught, ctx.budget.part(share), ctx.scaled(self.sft_optim), ctx.seed)

    def _revised(self, ctx: Context, start: Stage, rest: float) -> TrainSFT:
        texts = 1 + 2 * self.rounds  # an answer, and each round's critique and revision
        spend = ctx.budget.part(rest * self.write_share / texts)
        answers = Generate(start, ctx.rows("prompts"), self.how, 1, spend, ctx.seed)
        revise = Revise(start, answers, self.principle, self.revision, self.rounds, self.how, ctx.seed)
        rows = JoinedRows("sft", (DerivedRows("sft", revise), ctx.rows("sft")))
        optim = ctx.scaled(self.sft_optim)
        return TrainSFT(start, rows, ctx.budget.part(rest * self.revised_share), optim, ctx.seed)

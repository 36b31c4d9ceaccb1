"""Reward models, and reinforcement learning against what they, a judge or a program say."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field
from pydantic.dataclasses import dataclass

from polm_bench.data.source import Rows
from polm_bench.errors import BadOverride
from polm_bench.graph import FORBID, Stage
from polm_bench.objectives.advantages import Advantage
from polm_bench.objectives.ppo import Critic, PolicyLoss
from polm_bench.objectives.reward import BradleyTerry
from polm_bench.recipes.context import Context, Graph, Recipe, sft
from polm_bench.rewards import Reward
from polm_bench.rewards.judge import Judge
from polm_bench.rewards.learned import Learned
from polm_bench.stages.policy import TrainPolicy
from polm_bench.stages.reward import LabelPairs, TrainReward
from polm_bench.stages.score_pairs import ScorePairs
from polm_bench.trainers.optim import Optim
from polm_bench.trainers.rollouts import Rollouts


@dataclass(frozen=True, config=FORBID)
class RewardModel(Recipe):
    """A reward model on the role `preference`."""

    reward_loss: BradleyTerry
    reward_optim: Optim
    sft_optim: Optim

    def plan(self, ctx: Context) -> Graph:
        """Base -> SFT (`sft_share` of the budget) -> reward model (the rest), scored on held-out pairs beside the likelihoods of base and SFT."""
        share = ctx.budget.sft_share
        start = sft(ctx, share, self.sft_optim) if share else ctx.base
        rows = ctx.rows("preference")
        model = TrainReward(
            init=start,
            data=rows,
            loss=self.reward_loss,
            spend=ctx.budget.part(1 - share),
            optim=ctx.scaled(self.reward_optim),
            seed=ctx.seed,
        )

        def scored(stage: Stage, by: Literal["reward", "likelihood"]) -> ScorePairs:
            return ScorePairs(model=stage, data=rows, max_length=ctx.budget.max_length, by=by)

        probes = {"self": scored(model, "reward"), "base": scored(ctx.base, "likelihood")}
        if share:
            probes["start"] = scored(start, "likelihood")
        return Graph(model, start if share else None, judged=False, probes=probes)


@dataclass(frozen=True, config=FORBID)
class RewardRL(Recipe):
    """Reinforcement learning against a reward model, which learns from people or from a judge; or against a reward itself."""

    rollouts: Rollouts
    advantage: Advantage
    loss: PolicyLoss
    critic: Critic | None
    optim: Optim
    reward_loss: BradleyTerry
    reward_optim: Optim
    reward_share: Annotated[float, Field(ge=0, lt=1)]  # of what the SFT leaves: for the reward model
    sft_optim: Optim
    judge: Judge | None = None  # labels the SFT model's own answers; null: the role `preference`
    label_share: float = Field(default=0.0, ge=0, lt=1)  # of what the SFT leaves: for answers to be labelled
    label_temperature: float = Field(default=1.0, gt=0)
    reward: Reward | None = None  # is the reward itself: no reward model is trained

    def plan(self, ctx: Context) -> Graph:
        """Base -> SFT -> [labels of a judge ->] reward model -> policy; `sft_share` of the budget, then the shares of the rest."""
        share = ctx.budget.sft_share
        start: Stage = sft(ctx, share, self.sft_optim) if share else ctx.base
        rest = 1 - share
        reward: Reward
        values: Stage | None
        if self.reward is not None:
            reward, values, used = self.reward, None, 0.0
        else:
            values = self._reward_model(ctx, start, rest)
            reward, used = Learned(model=values), self.reward_share + (self.label_share if self.judge else 0.0)
        if used >= 1:
            raise BadOverride(f"reward_share and label_share leave {1 - used:.2f} of the budget for the policy")
        policy = TrainPolicy(
            init=start,
            reward=reward,
            data=ctx.rows(reward.role),
            rollouts=self.rollouts,
            advantage=self.advantage,
            loss=self.loss,
            critic=self.critic,
            spend=ctx.budget.part(rest * (1 - used)),
            optim=ctx.scaled(self.optim),
            seed=ctx.seed,
            values=values if self.critic is not None and self.critic.own else None,
        )
        return Graph(policy, start if share else None)

    def _reward_model(self, ctx: Context, start: Stage, rest: float) -> TrainReward:
        pairs: Rows | LabelPairs
        if self.judge is None:
            pairs = ctx.rows("preference")
        else:
            pairs = LabelPairs(
                model=start,
                data=ctx.rows(self.judge.role),
                judge=self.judge,
                temperature=self.label_temperature,
                spend=ctx.budget.part(rest * self.label_share),
                seed=ctx.seed,
                labelled=ctx.rows("preference") if "preference" in ctx.data.roles() else None,
            )
        return TrainReward(
            init=start,
            data=pairs,
            loss=self.reward_loss,
            spend=ctx.budget.part(rest * self.reward_share),
            optim=ctx.scaled(self.reward_optim),
            seed=ctx.seed,
        )

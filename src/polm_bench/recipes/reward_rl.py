"""Reward models, and reinforcement learning against what they, a judge or a program say."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field
from pydantic.dataclasses import dataclass

from polm_bench.data.source import Rows
from polm_bench.errors import BadOverride
from polm_bench.graph import FORBID, Stage
from polm_bench.objectives.advantages import Advantage
from polm_bench.objectives.ppo import Critic, PolicyLoss
from polm_bench.objectives.reward import BradleyTerry, KeepWriting
from polm_bench.recipes.context import Context, Graph, Recipe, sft
from polm_bench.rewards import Reward
from polm_bench.rewards.judge import Judge
from polm_bench.rewards.learned import Learned
from polm_bench.stages.policy import TrainPolicy
from polm_bench.stages.reward import LabelPairs, TrainReward
from polm_bench.stages.score_pairs import ScorePairs
from polm_bench.stages.score_reward import ScoreReward
from polm_bench.trainers.optim import Optim
from polm_bench.trainers.rollouts import Rollouts


@dataclass(frozen=True, config=FORBID)
class RewardModel(Recipe):
    """A reward model on the role `preference`."""

    reward_loss: BradleyTerry
    reward_optim: Optim
    sft_optim: Optim
    text: KeepWriting | None = None  # what keeps it a writer, too

    def plan(self, ctx: Context) -> Graph:
        """Base -> SFT (`sft_share` of the budget) -> reward model (the rest), scored on held-out pairs beside the likelihoods of base and SFT."""
        share = ctx.budget.sft_share
        start: Stage = sft(ctx, share, self.sft_optim) if share else ctx.base
        model, reward = self.model(ctx, start, 1 - share)
        rows = ctx.rows("preference")
        rated = next((ctx.rows(role) for role in ("rated", "ranking") if role in ctx.data.roles()), None)
        probes: dict[str, Stage] = {
            "self": ScoreReward(reward=reward, data=rows, rated=rated),
            "base": ScorePairs(model=ctx.base, data=rows, max_length=ctx.budget.max_length, by="likelihood"),
        }
        if share:
            probes["start"] = ScorePairs(model=start, data=rows, max_length=ctx.budget.max_length, by="likelihood")
        return Graph(model, start if share else None, judged=False, probes=probes)

    def model(self, ctx: Context, start: Stage, share: float) -> tuple[Stage, Reward]:
        """The reward model, and how it judges."""
        model = self.member(ctx, start, share, ctx.seed)
        return model, Learned(model)

    def member(self, ctx: Context, start: Stage, share: float, seed: int) -> TrainReward:
        """One reward model with a share of the budget."""
        return TrainReward(
            init=start,
            data=ctx.rows("preference"),
            loss=self.reward_loss,
            spend=ctx.budget.part(share),
            optim=ctx.scaled(self.reward_optim),
            seed=seed,
            text=self.text,
        )


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
    watch: Reward | None = (
        None  # is plotted beside the reward along training, to see whether what is learned is what is wanted
    )

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
        policy = self.policy(ctx, start, reward, values, rest * (1 - used))
        return Graph(policy, start if share else None)

    def policy(self, ctx: Context, start: Stage, reward: Reward, values: Stage | None, share: float) -> TrainPolicy:
        """Reinforcement learning with a share of the budget; `values` is the reward model that a critic of its own starts from."""
        return TrainPolicy(
            init=start,
            reward=reward,
            data=ctx.rows(reward.role),
            rollouts=self.rollouts,
            advantage=self.advantage,
            loss=self.loss,
            critic=self.critic,
            spend=ctx.budget.part(share),
            optim=ctx.scaled(self.optim),
            seed=ctx.seed,
            values=values if self.critic is not None and self.critic.own else None,
            watch=self.watch,
        )

    def labels(self, ctx: Context, model: Stage, judge: Judge, share: float) -> LabelPairs:
        """Pairs of a model's own answers, labelled by a judge, for a share of the budget."""
        return LabelPairs(
            model=model,
            data=ctx.rows(judge.role),
            judge=judge,
            temperature=self.label_temperature,
            spend=ctx.budget.part(share),
            seed=ctx.seed,
            labelled=ctx.rows("preference") if "preference" in ctx.data.roles() else None,
        )

    def trained_reward(
        self, ctx: Context, start: Stage, pairs: Rows | LabelPairs, share: float, more: tuple[LabelPairs, ...] = ()
    ) -> TrainReward:
        """A reward model for a share of the budget."""
        return TrainReward(
            init=start,
            data=pairs,
            loss=self.reward_loss,
            spend=ctx.budget.part(share),
            optim=ctx.scaled(self.reward_optim),
            seed=ctx.seed,
            more=more,
        )

    def _reward_model(self, ctx: Context, start: Stage, rest: float) -> TrainReward:
        pairs = (
            ctx.rows("preference")
            if self.judge is None
            else self.labels(ctx, start, self.judge, rest * self.label_share)
        )
        return self.trained_reward(ctx, start, pairs, rest * self.reward_share)

"""Reinforcement learning on answers that a program checks."""

from __future__ import annotations

from typing import Literal

from pydantic.dataclasses import dataclass

from polm_bench.graph import FORBID
from polm_bench.objectives.advantages import Advantage
from polm_bench.objectives.ppo import Critic, PolicyLoss
from polm_bench.recipes.context import Context, Graph, Recipe, sft
from polm_bench.rewards import Reward
from polm_bench.stages.policy import TrainPolicy
from polm_bench.trainers.optim import Optim
from polm_bench.trainers.rollouts import Rollouts


@dataclass(frozen=True, config=FORBID)
class VerifiableRL(Recipe):
    """Policy gradient from an SFT model, or from the base, with a checked answer as the reward."""

    start: Literal["sft", "base"]
    reward: Reward
    rollouts: Rollouts
    advantage: Advantage
    loss: PolicyLoss
    critic: Critic | None
    optim: Optim
    sft_optim: Optim

    def plan(self, ctx: Context) -> Graph:
        """Base [-> SFT, `sft_share` of the budget] -> policy, the rest."""
        share = ctx.budget.sft_share if self.start == "sft" else 0.0
        start = sft(ctx, share, self.sft_optim) if share else ctx.base
        policy = TrainPolicy(
            init=start,
            reward=self.reward,
            data=ctx.rows(self.reward.role),
            rollouts=self.rollouts,
            advantage=self.advantage,
            loss=self.loss,
            critic=self.critic,
            spend=ctx.budget.part(1 - share),
            optim=ctx.scaled(self.optim),
            seed=ctx.seed,
        )
        return Graph(policy, start if share else None)

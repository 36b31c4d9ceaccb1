"""Reward models beside Bradley and Terry's: from ratings, and of several members."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field
from pydantic.dataclasses import dataclass

from polm_bench.graph import FORBID, Stage
from polm_bench.objectives.reward import SquaredError
from polm_bench.recipes.context import Context
from polm_bench.recipes.reward_rl import RewardModel
from polm_bench.rewards import Reward
from polm_bench.rewards.learned import Ensemble, Learned
from polm_bench.stages.reward_more import JoinRewards, TrainRatings

SEEDS_APART = 1000  # between the members of an ensemble, so that they share none with another seed's


@dataclass(frozen=True, config=FORBID, kw_only=True)
class RatedRewardModel(RewardModel):
    """A reward model on the scores of the role `ranking`; `reward_loss` is not read."""

    rating_loss: SquaredError

    def model(self, ctx: Context, start: Stage, share: float) -> tuple[Stage, Reward]:
        """Regression, with the same spend and optimiser as a reward model on pairs."""
        model = TrainRatings(
            init=start,
            data=ctx.rows("ranking"),
            loss=self.rating_loss,
            spend=ctx.budget.part(share),
            optim=ctx.scaled(self.reward_optim),
            seed=ctx.seed,
        )
        return model, Learned(model)


@dataclass(frozen=True, config=FORBID, kw_only=True)
class RewardEnsemble(RewardModel):
    """Several reward models that differ in their seeds alone, each with its share of the spend."""

    members: Annotated[int, Field(ge=2)]
    how: Literal["mean", "worst", "uncertain"]
    weight: Annotated[float, Field(ge=0)]  # of the variance

    def model(self, ctx: Context, start: Stage, share: float) -> tuple[Stage, Reward]:
        """The members in one folder, and their judgement together."""
        seeds = [ctx.seed + SEEDS_APART * number for number in range(self.members)]
        joined = JoinRewards(tuple(self.member(ctx, start, share / self.members, seed) for seed in seeds))
        return joined, Ensemble(joined, self.how, self.weight)

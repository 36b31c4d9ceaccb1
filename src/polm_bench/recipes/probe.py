"""What is measured of a recipe's model beside the suite: a choice of the command line, not of the recipe."""

from __future__ import annotations

import dataclasses

from pydantic import PositiveInt
from pydantic.dataclasses import dataclass

from polm_bench.errors import BadOverride
from polm_bench.graph import FORBID
from polm_bench.recipes.context import Context, Graph
from polm_bench.rewards import Reward
from polm_bench.rewards.judge import Judge
from polm_bench.stages.drift import Drift
from polm_bench.stages.score_judge import ScoreJudge


@dataclass(frozen=True, config=FORBID)
class Probe:
    """A measurement that goes with any recipe whose model it can be put to."""

    def attach(self, graph: Graph, ctx: Context) -> Graph:
        """The graph with the probe in the row `self`, instead of the one that the recipe may have there."""
        raise TypeError(f"{type(self).__name__} does not say what it measures")


@dataclass(frozen=True, config=FORBID)
class DriftProbe(Probe):
    """Reward and divergence of answers to held-out prompts, with a win rate against the start."""

    reward: Reward
    judge: Judge | None
    prompts: PositiveInt
    count: PositiveInt
    max_new_tokens: PositiveInt

    def attach(self, graph: Graph, ctx: Context) -> Graph:
        """Raises BadOverride for a model that writes no text, or that a decoder answers for."""
        if not graph.judged:
            raise BadOverride(
                f"recipe '{ctx.recipe}' makes a model that writes no text, so it has no divergence from its start."
            )
        if graph.decoder is not None:
            raise BadOverride(
                f"recipe '{ctx.recipe}' answers by a decoder, whose choices have no log-probs; its divergence can't be measured."
            )
        drift = Drift(
            model=graph.model,
            start=graph.start or ctx.base,
            data=ctx.rows("prompts"),
            reward=self.reward,
            prompts=self.prompts,
            count=self.count,
            max_new_tokens=self.max_new_tokens,
            seed=0,  # the same random numbers for every model
            judge=self.judge,
            labelled=ctx.rows("preference") if self.judge and "preference" in ctx.data.roles() else None,
        )
        return dataclasses.replace(graph, probes={**graph.probes, "self": drift})


@dataclass(frozen=True, config=FORBID)
class JudgeProbe(Probe):
    """A judge's agreement with people, whatever the recipe."""

    judge: Judge

    def attach(self, graph: Graph, ctx: Context) -> Graph:
        return dataclasses.replace(
            graph, probes={**graph.probes, "self": ScoreJudge(self.judge, ctx.rows("preference"))}
        )

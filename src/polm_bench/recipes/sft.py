"""Graphs of fine-tuning: of all weights, of few, on a base of 4 bits, on plain text, from a prompt learned on another task."""

from __future__ import annotations

from typing import Literal

from pydantic import Field
from pydantic.dataclasses import dataclass

from polm_bench.errors import BadOverride
from polm_bench.graph import FORBID, Stage
from polm_bench.models.adapter import Adapter
from polm_bench.models.tuning import Tuning
from polm_bench.recipes.context import Context, Graph, Recipe, Scale
from polm_bench.stages import AttachAdapter, FoldAdapter, TrainSFT, TrainText
from polm_bench.stages.nf4 import QuantizeNF4
from polm_bench.trainers.optim import Optim


@dataclass(frozen=True, config=FORBID)
class SFT(Recipe):
    """Supervised fine-tuning of all weights, or of a part: what an `adapter` says."""

    optim: Optim
    adapter: Tuning | None = None
    serve: Literal["folded", "unfolded"] = "folded"  # an adapter's weights in the base's, or beside them
    scale_lr: Scale = (
        "model"  # "none" where single numbers a channel are trained, whose step a model's width does not change
    )

    def plan(self, ctx: Context) -> Graph:
        """Base -> SFT [-> fold or attach the adapter]; the whole budget."""
        return Graph(served(ctx.base, self._train(ctx, ctx.base), self.serve))

    def _train(self, ctx: Context, init: Stage) -> TrainSFT:
        return TrainSFT(
            init=init,
            data=ctx.rows("sft"),
            spend=ctx.budget.part(1.0),
            optim=ctx.scaled(self.optim, self.scale_lr),
            seed=ctx.seed,
            adapter=self.adapter,
        )


@dataclass(frozen=True, config=FORBID)
class QLoRA(SFT):
    """An adapter on a base of 4 bits, which stays as it is: only the adapter knows what was learned."""

    serve: Literal["folded", "unfolded"] = "unfolded"

    def plan(self, ctx: Context) -> Graph:
        """Base -> NF4 -> SFT of the adapter -> the 4-bit base with the adapter beside it. Raises BadOverride for serve=folded."""
        if self.serve == "folded":
            raise BadOverride("an adapter folded into 4-bit weights is rounded away; use recipe.serve=unfolded")
        base = QuantizeNF4(model=ctx.base)
        return Graph(served(base, self._train(ctx, base), self.serve))


@dataclass(frozen=True, config=FORBID)
class ContinuedPretraining(Recipe):
    """Next-token training on the domain's plain text."""

    optim: Optim

    def plan(self, ctx: Context) -> Graph:
        """Base -> training on the role `corpus`; the whole budget."""
        text = TrainText(
            init=ctx.base,
            data=ctx.rows("corpus"),
            spend=ctx.budget.part(1.0),
            optim=ctx.scaled(self.optim),
            seed=ctx.seed,
        )
        return Graph(text)


@dataclass(frozen=True, config=FORBID)
class PromptTransfer(Recipe):
    """A soft prompt that starts from one learned on a source task: here next-token prediction on the role `corpus`."""

    optim: Optim
    adapter: Adapter
    source_share: float = Field(gt=0, lt=1)  # of the budget, for the source prompt
    scale_lr: Scale = "model"

    def plan(self, ctx: Context) -> Graph:
        """Base -> prompt on `corpus` -> the same prompt on `sft`, beside the base."""
        optim = ctx.scaled(self.optim, self.scale_lr)
        source = TrainText(
            init=ctx.base,
            data=ctx.rows("corpus"),
            spend=ctx.budget.part(self.source_share),
            optim=optim,
            seed=ctx.seed,
            adapter=self.adapter,
        )
        target = TrainSFT(
            init=ctx.base,
            data=ctx.rows("sft"),
            spend=ctx.budget.part(1 - self.source_share),
            optim=optim,
            seed=ctx.seed,
            adapter=self.adapter,
            warm=source,
        )
        return Graph(served(ctx.base, target, "unfolded"))


def served(base: Stage, tuned: TrainSFT, how: Literal["folded", "unfolded"]) -> Stage:
    """The model that answers. Raises BadOverride where it can't be served so."""
    adapter = tuned.adapter
    if not isinstance(adapter, Adapter):
        if adapter is not None and how == "folded" and not adapter.plain:
            raise BadOverride(
                f"what {type(adapter).__name__} trains is no part of the base's weights; use recipe.serve=unfolded"
            )
        return tuned
    if how == "folded" and not adapter.foldable:
        raise BadOverride(
            f"{adapter.kind} trains no change of weights, so it can't be folded; use recipe.serve=unfolded"
        )
    return (FoldAdapter if how == "folded" else AttachAdapter)(base=base, adapter=tuned)

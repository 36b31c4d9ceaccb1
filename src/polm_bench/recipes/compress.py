"""Graphs of methods that make a trained model smaller, and of those that keep its weights and shrink its cache."""

from __future__ import annotations

import dataclasses
from typing import Literal

from pydantic.dataclasses import dataclass

from polm_bench.budget import Budget
from polm_bench.decoding.base import Decoder
from polm_bench.graph import FORBID, Stage
from polm_bench.models.adapter import Adapter
from polm_bench.recipes.context import Context, Graph, Recipe, sft
from polm_bench.stages import AttachAdapter, CompressModel, TrainSFT
from polm_bench.stages.compression import Calibration, Compression
from polm_bench.trainers.optim import Optim


@dataclass(frozen=True, config=FORBID)
class Recovery:
    """Training after compression, of an adapter that is served beside the smaller model."""

    optim: Optim
    adapter: Adapter


@dataclass(frozen=True, config=FORBID)
class Compress(Recipe):
    """A smaller model from an SFT model, or from the base."""

    method: Compression
    sft_optim: Optim
    start: Literal["sft", "base"] = "sft"
    recover: Recovery | None = None

    def plan(self, ctx: Context) -> Graph:
        """Base -> SFT (the whole budget, or `sft_share` of it before a recovery) -> smaller [-> recovered with the rest]."""
        share = ctx.budget.sft_share if self.recover else 1.0
        start = trained(ctx, share, self.sft_optim, self.start)
        method = fitted(self.method, ctx.budget)
        data = ctx.rows("corpus") if method.calibration else None
        model: Stage = CompressModel(model=start, method=method, data=data, seed=ctx.seed)
        if self.recover is not None:
            tuned = TrainSFT(
                init=model,
                data=ctx.rows("sft"),
                spend=ctx.budget.part(1.0 if start is ctx.base else 1 - share),
                optim=ctx.scaled(self.recover.optim, "adapter"),
                seed=ctx.seed,
                adapter=self.recover.adapter,
            )
            model = AttachAdapter(base=model, adapter=tuned)
        return Graph(model, None if start is ctx.base else start)


@dataclass(frozen=True, config=FORBID)
class CompressCache(Recipe):
    """The same weights, with keys and values kept in fewer bits while the model answers."""

    decoder: Decoder
    sft_optim: Optim
    start: Literal["sft", "base"] = "sft"

    def plan(self, ctx: Context) -> Graph:
        """Base -> SFT (the whole budget), which answers with a small cache."""
        start = trained(ctx, 1.0, self.sft_optim, self.start)
        return Graph(start, start=None if start is ctx.base else start, decoder=self.decoder)


def trained(ctx: Context, share: float, optim: Optim, start: Literal["sft", "base"]) -> Stage:
    """The model that is compressed; for the whole budget it is the recipe sft's own stage."""
    return sft(ctx, share, optim) if start == "sft" else ctx.base


def fitted(method: Compression, budget: Budget) -> Compression:
    """The method with calibration text in bounds of the budget: sequences no longer than its `max_length`, and no more of them than it trains on."""
    asked = method.calibration
    if asked is None:
        return method
    length = min(asked.length, budget.max_length)
    most = {"steps": budget.amount * budget.batch, "tokens": budget.amount / length}.get(budget.unit, asked.samples)
    return dataclasses.replace(
        method, calibration=Calibration(samples=min(asked.samples, max(1, int(most))), length=length)
    )

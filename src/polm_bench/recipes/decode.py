"""Graphs of methods that work while the model answers: any model, asked in another way."""

from __future__ import annotations

import dataclasses
from typing import Annotated, Literal

from pydantic import Field, PositiveInt
from pydantic.dataclasses import dataclass

from polm_bench.data.derived import DerivedRows
from polm_bench.decoding.base import Decoder
from polm_bench.decoding.contrast import Contrastive
from polm_bench.decoding.prompting import ChainOfThought, FewShot
from polm_bench.decoding.retrieval import Retrieve
from polm_bench.decoding.voting import BestOfN
from polm_bench.errors import BadBudget
from polm_bench.graph import FORBID, Stage
from polm_bench.objectives.reward import BradleyTerry
from polm_bench.recipes.context import Context, Graph, Recipe, sft
from polm_bench.rewards.learned import Learned
from polm_bench.stages.retrieve import AttachPassages, IndexDocuments, TrainRetriever
from polm_bench.stages.reward import TrainReward
from polm_bench.stages.sft import TrainSFT
from polm_bench.trainers.optim import Optim


@dataclass(frozen=True, config=FORBID)
class Decode(Recipe):
    """A method that needs nothing but the model: the SFT model of recipe `sft`, or the base."""

    decoder: Decoder
    sft_optim: Optim
    start: Literal["sft", "base"] = "sft"

    def plan(self, ctx: Context) -> Graph:
        """Base [-> SFT with the whole budget], asked in the method's way and plainly."""
        return self.graph(ctx, self.decoder)

    def graph(self, ctx: Context, decoder: Decoder) -> Graph:
        """The model with the decoder, beside the same model without."""
        if self.start == "base":
            return Graph(ctx.base, decoder=decoder)
        tuned = sft(ctx, 1.0, self.sft_optim)
        return Graph(tuned, tuned, decoder)


@dataclass(frozen=True, config=FORBID)
class DecodeExamples(Decode):
    """A method that shows examples of the role `sft`."""

    def plan(self, ctx: Context) -> Graph:
        """As `Decode`, with the examples put into the method."""
        if not isinstance(self.decoder, FewShot | ChainOfThought):
            raise TypeError(f"{type(self.decoder).__name__} shows no examples")
        return self.graph(ctx, dataclasses.replace(self.decoder, examples=ctx.rows("sft"), seed=ctx.seed))


@dataclass(frozen=True, config=FORBID)
class Bm25:
    """Numbers of an index."""

    k1: Annotated[float, Field(ge=0)]
    b: Annotated[float, Field(ge=0, le=1)]
    words: PositiveInt  # of a passage


@dataclass(frozen=True, config=FORBID)
class DecodeDocuments(Decode):
    """A method that searches the role `documents`; with `reads`, the model is trained on rows with passages in sight."""

    bm25: Bm25 | None = None
    reads: bool = False

    def plan(self, ctx: Context) -> Graph:
        """Documents -> index; base -> SFT [on rows with passages], asked with passages. The start is the SFT model asked plainly."""
        if not isinstance(self.decoder, Retrieve) or self.bm25 is None:
            raise TypeError("retrieval needs a decoder that retrieves, and the index's numbers in bm25")
        index = IndexDocuments(ctx.rows("documents"), self.bm25.k1, self.bm25.b, self.bm25.words)
        decoder = dataclasses.replace(self.decoder, index=index)
        if not self.reads:
            return self.graph(ctx, decoder)
        reader = TrainSFT(
            init=ctx.base,
            data=DerivedRows("sft", AttachPassages(ctx.rows("sft"), decoder)),
            spend=ctx.budget.part(1.0),
            optim=ctx.scaled(self.sft_optim),
            seed=ctx.seed,
        )
        return Graph(reader, sft(ctx, 1.0, self.sft_optim), decoder)


@dataclass(frozen=True, config=FORBID)
class DecodeReward(Decode):
    """Best of n by a reward model, which is trained as in recipe `reward_model`."""

    reward_loss: BradleyTerry | None = None
    reward_optim: Optim | None = None

    def plan(self, ctx: Context) -> Graph:
        """Base -> SFT (`sft_share` of the budget) -> reward model (the rest); the SFT model answers and the reward model chooses."""
        if not isinstance(self.decoder, BestOfN) or self.reward_loss is None or self.reward_optim is None:
            raise TypeError("best of n needs the numbers of its reward model")
        share = ctx.budget.sft_share
        if not share:
            raise BadBudget(f"recipe '{ctx.recipe}' answers with an SFT model, but budget.sft_share is 0")
        start: Stage = sft(ctx, share, self.sft_optim)
        model = TrainReward(
            init=start,
            data=ctx.rows("preference"),
            loss=self.reward_loss,
            spend=ctx.budget.part(1 - share),
            optim=ctx.scaled(self.reward_optim),
            seed=ctx.seed,
        )
        return Graph(start, start, dataclasses.replace(self.decoder, reward=Learned(model)))


@dataclass(frozen=True, config=FORBID)
class DecodeContrast(Decode):
    """The SFT model against its base."""

    def plan(self, ctx: Context) -> Graph:
        """Base -> SFT with the whole budget; both are asked at every token."""
        if not isinstance(self.decoder, Contrastive):
            raise TypeError(f"{type(self.decoder).__name__} has no amateur")
        return self.graph(ctx, dataclasses.replace(self.decoder, amateur=ctx.base))


@dataclass(frozen=True, config=FORBID)
class DecodeTrainedRetriever(Decode):
    """Retrieve, then read, with a retriever that is trained."""

    bm25: Bm25 | None = None  # finds the passages that the retriever learns from
    retriever_optim: Optim | None = None

    def plan(self, ctx: Context) -> Graph:
        """Base -> SFT (`sft_share` of the budget); documents -> BM25 index, base -> retriever (the rest); the SFT model reads what it finds."""
        if not isinstance(self.decoder, Retrieve) or self.bm25 is None or self.retriever_optim is None:
            raise TypeError(
                "a trained retriever needs a decoder that retrieves, and the numbers of bm25 and of its optimiser"
            )
        share = ctx.budget.sft_share
        if not share:
            raise BadBudget(f"recipe '{ctx.recipe}' answers with an SFT model, but budget.sft_share is 0")
        retriever = TrainRetriever(
            init=ctx.base,
            data=ctx.rows("sft"),
            index=IndexDocuments(ctx.rows("documents"), self.bm25.k1, self.bm25.b, self.bm25.words),
            spend=ctx.budget.part(1 - share),
            optim=ctx.scaled(self.retriever_optim),
            seed=ctx.seed,
        )
        start = sft(ctx, share, self.sft_optim)
        return Graph(start, start, dataclasses.replace(self.decoder, index=retriever))

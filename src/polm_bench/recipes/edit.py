"""Graphs of knowledge editing: a model that knows facts, some of them picked, the model with these changed, and scores of the change."""

from __future__ import annotations

from pydantic import NonNegativeFloat, PositiveFloat, PositiveInt
from pydantic.dataclasses import dataclass

from polm_bench.graph import FORBID, Stage
from polm_bench.objectives.editing import EditLoss, PatchLoss
from polm_bench.recipes.context import Context, Graph, Recipe, sft
from polm_bench.stages.edit import EditByTraining, Hold, Place
from polm_bench.stages.edit_blocks import EditBlocks
from polm_bench.stages.edit_located import EditLocated, ValueSearch
from polm_bench.stages.edit_memory import EditMemory
from polm_bench.stages.edit_neurons import KnowledgeNeurons
from polm_bench.stages.edit_patch import EditPatches
from polm_bench.stages.edit_scores import EditScores
from polm_bench.stages.facts import PickFacts
from polm_bench.trainers.optim import Optim


@dataclass(frozen=True, config=FORBID)
class Edit(Recipe):
    """What all editors share: the model that is edited, and the facts."""

    sft_optim: Optim
    edits: PositiveInt  # facts, all in one model

    def begin(self, ctx: Context) -> tuple[Stage, PickFacts]:
        """Base -> SFT (`sft_share` of the budget), which answers questions; and the facts to edit in it."""
        start = sft(ctx, ctx.budget.sft_share, self.sft_optim) if ctx.budget.sft_share else ctx.base
        return start, PickFacts(start, ctx.rows("facts"), self.edits, ctx.seed)

    def graph(self, ctx: Context, start: Stage, facts: PickFacts, edited: Stage) -> Graph:
        """The edited model beside the one it started from, both with the scores of the edits."""
        tuned = start is not ctx.base
        before = "start" if tuned else "base"
        probes: dict[str, Stage] = {"self": EditScores(edited, facts), before: EditScores(start, facts)}
        return Graph(edited, start=start if tuned else None, probes=probes)


@dataclass(frozen=True, config=FORBID)
class EditWithTerms:
    """Weights of what is trained beside the new answers."""

    forget: NonNegativeFloat  # of the old answers' loss, which is driven up
    retain: NonNegativeFloat  # of the KL to the start on other text


@dataclass(frozen=True, config=FORBID)
class TrainedEdit(Edit):
    """Some weights trained on the new answers."""

    place: Place
    loss: EditLoss
    lr: PositiveFloat  # for a 7B model; times model.lr_scale
    passes: PositiveInt
    enough: NonNegativeFloat
    bound: float | None = None  # for a 7B model; times model.lr_scale, as it is a length of steps
    terms: EditWithTerms | None = None
    ensemble: KnowledgeNeurons | None = None
    slots: PositiveInt | None = None
    scale_lr: bool = True  # False: the rate holds for any model, as for weights that are new

    def plan(self, ctx: Context) -> Graph:
        """Base -> SFT -> facts -> trained on them (what is left of the budget, at most)."""
        start, facts = self.begin(ctx)
        terms = self.terms
        edited = EditByTraining(
            init=start,
            facts=facts,
            place=self.place,
            loss=self.loss,
            spend=ctx.budget.part(1 - ctx.budget.sft_share),
            lr=self.lr * (ctx.lr_scale if self.scale_lr else 1.0),
            passes=self.passes,
            enough=self.enough,
            seed=ctx.seed,
            ensemble=self.ensemble,
            slots=self.slots,
            bound=None if self.bound is None else self.bound * ctx.lr_scale,
            hold=None if terms is None else Hold(terms.forget, terms.retain, ctx.rows("corpus")),
        )
        return self.graph(ctx, start, facts, edited)


@dataclass(frozen=True, config=FORBID)
class LocatedEdit(Edit):
    """Layers changed in closed form where the subject is looked up."""

    method: str
    depths: tuple[float, ...]
    value_search: ValueSearch
    moment_rows: PositiveInt
    moment_weight: PositiveFloat

    def plan(self, ctx: Context) -> Graph:
        """Base -> SFT -> facts -> values searched for and written (what is left of the budget, at most)."""
        start, facts = self.begin(ctx)
        edited = EditLocated(
            init=start,
            facts=facts,
            corpus=ctx.rows("corpus"),
            method=self.method,  # type: ignore[arg-type]  # pydantic checks it
            depths=self.depths,
            search=self.value_search,
            moment_rows=self.moment_rows,
            moment_weight=self.moment_weight,
            spend=ctx.budget.part(1 - ctx.budget.sft_share),
            seed=ctx.seed,
        )
        return self.graph(ctx, start, facts, edited)


@dataclass(frozen=True, config=FORBID)
class MemoryEdit(Edit):
    """A codebook beside the weights."""

    depth: float
    radius: float
    lr: float
    steps: int

    def plan(self, ctx: Context) -> Graph:
        """Base -> SFT -> facts -> a codebook trained on them (what is left of the budget, at most)."""
        start, facts = self.begin(ctx)
        edited = EditMemory(
            init=start,
            facts=facts,
            depth=self.depth,
            radius=self.radius,
            lr=self.lr,
            steps=self.steps,
            spend=ctx.budget.part(1 - ctx.budget.sft_share),
            seed=ctx.seed,
        )
        return self.graph(ctx, start, facts, edited)


@dataclass(frozen=True, config=FORBID)
class PatchedEdit(Edit):
    """Neurons added to the last MLP."""

    loss: PatchLoss
    lr: PositiveFloat
    amplify: PositiveFloat
    clip: PositiveFloat
    steps: PositiveInt
    most: PositiveInt
    enough: PositiveFloat
    memory_rows: PositiveInt

    def plan(self, ctx: Context) -> Graph:
        """Base -> SFT -> facts -> patches trained on them (what is left of the budget, at most)."""
        start, facts = self.begin(ctx)
        edited = EditPatches(
            init=start,
            facts=facts,
            memory=ctx.rows("sft"),
            memory_rows=self.memory_rows,
            loss=self.loss,
            spend=ctx.budget.part(1 - ctx.budget.sft_share),
            lr=self.lr,
            amplify=self.amplify,
            clip=self.clip,
            steps=self.steps,
            most=self.most,
            enough=self.enough,
            seed=ctx.seed,
        )
        return self.graph(ctx, start, facts, edited)


@dataclass(frozen=True, config=FORBID)
class BlockEdit(Edit):
    """Low-rank blocks beside the weights."""

    depth: float
    layers: PositiveInt
    group: PositiveInt
    rank: PositiveInt
    radius: PositiveFloat
    lr: PositiveFloat
    steps: PositiveInt

    def plan(self, ctx: Context) -> Graph:
        """Base -> SFT -> facts -> blocks trained on them (what is left of the budget, at most)."""
        start, facts = self.begin(ctx)
        edited = EditBlocks(
            init=start,
            facts=facts,
            depth=self.depth,
            layers=self.layers,
            group=self.group,
            rank=self.rank,
            radius=self.radius,
            lr=self.lr,
            steps=self.steps,
            spend=ctx.budget.part(1 - ctx.budget.sft_share),
            seed=ctx.seed,
        )
        return self.graph(ctx, start, facts, edited)

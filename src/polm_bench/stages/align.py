"""Merging, the step before: a model with its units in the order of another model's, saying what it said."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from pydantic.dataclasses import dataclass

from polm_bench.errors import BadModel
from polm_bench.graph import FORBID, Stage
from polm_bench.objectives.aligning import Alignment
from polm_bench.stages.merge import finish, put, same_weights, weights_of

if TYPE_CHECKING:
    from transformers import PreTrainedModel

KINDS: dict[str, tuple[str | None, ...]] = {
    r"\bembed_tokens\.weight$": (None, "stream"),
    r"\blm_head\.weight$": (None, "stream"),
    r"\b[qk]_norm\.weight$": (None,),  # of one head, and the same for all
    r"norm\.weight$": ("stream",),
    r"\b[qkv]_proj\.weight$": ("heads", "stream"),
    r"\b[qkv]_proj\.bias$": ("heads",),
    r"\bo_proj\.weight$": ("stream", "heads"),
    r"\b(gate|up)_proj\.weight$": ("units", "stream"),
    r"\b(gate|up)_proj\.bias$": ("units",),
    r"\bdown_proj\.weight$": ("stream", "units"),
    r"\b(o|down)_proj\.bias$": ("stream",),
}
"""What a weight's axes run over, by the end of its name; the first that matches."""


@dataclass(frozen=True, config=FORBID)
class AlignUnits(Stage):
    """The units of a model's residual stream, MLPs and attention, brought into the order of the anchor's; the function stays the same.

    A head moves with its keys, its values and all queries that read them, as rotary positions let no smaller part of it move.
    """

    anchor: Stage
    model: Stage
    how: Alignment
    seed: int

    def run(self, job: Any) -> None:
        import torch

        from polm_bench.models.load import load_model
        from polm_bench.objectives.aligning import reordered

        model = load_model(job.path(self.model), "float32", "cpu")
        own = weights_of(model)
        anchor = same_weights(own, job.path(self.anchor))
        axes, counts = units(model)
        orders = self.how(anchor, own, axes, counts, self.seed)
        with torch.no_grad():
            put(model, {name: reordered(weight, axes[name], orders) for name, weight in own.items()})
        moved = sum(int((order != torch.arange(len(order))).sum()) for order in orders.values())
        job.ledger.note(units=sum(counts.values()), units_moved=moved)
        finish(job, model, job.path(self.model))


def units(model: PreTrainedModel) -> tuple[dict[str, tuple[str | None, ...]], dict[str, int]]:
    """Axes of each weight, and units of each kind in the order of the network; a layer's own kinds have its number.

    Raises BadModel for a weight whose axes are not known.
    """
    axes: dict[str, tuple[str | None, ...]] = {}
    counts: dict[str, int] = {}
    width = getattr(model.config, "head_dim", None) or model.config.hidden_size // model.config.num_attention_heads
    for name, weight in model.named_parameters():
        found = next((kinds for pattern, kinds in KINDS.items() if re.search(pattern, name)), None)
        if found is None:
            raise BadModel(f"the units of a {model.config.model_type} model can't be aligned: {name} is not known")
        if found == (None,) and len(weight) > width:
            found = ("heads",)  # a norm of all heads together
        layer = re.search(r"layers\.(\d+)\.", name)
        axes[name] = tuple(f"{kind} {layer[1]}" if layer and kind in ("heads", "units") else kind for kind in found)
        for axis, kind in enumerate(axes[name]):
            if kind is not None:
                size = model.config.num_key_value_heads if kind.startswith("heads") else weight.shape[axis]
                counts.setdefault(kind, size)
    return axes, counts

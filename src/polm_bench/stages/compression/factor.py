"""Linear weights as products of two matrices of low rank."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import Field
from pydantic.dataclasses import dataclass

from polm_bench.graph import FORBID
from polm_bench.stages.compression.base import Compressed, Compression, calibration_text
from polm_bench.stages.compression.layers import (
    decoder_layers,
    first_calls,
    forward,
    linears,
    named_linears,
    squared_gradients,
    watch,
)

if TYPE_CHECKING:
    import torch
    from torch import nn
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from polm_bench.objectives.factors import Factors
    from polm_bench.stages.compression.layers import Seen


@dataclass(frozen=True, config=FORBID)
class FactorWeights(Compression):
    """Every linear weight of the decoder layers as two factors, with what counts as small decided by `weighing`.

    `activation`: ASVD; `fisher`: FWSVD; `whitening`: SVD-LLM. The maths is `objectives/factors.py`.
    """

    stored: ClassVar[str] = "two factors"
    computed: ClassVar[str] = "two products"

    weighing: Literal["activation", "fisher", "whitening"]
    kept: float = Field(gt=0, lt=1)  # share of the linear weights that the factors have
    alpha: float = Field(default=0.5, ge=0, le=1)  # activation: power of the mean absolute input
    refit: bool = False  # whitening: fit the left factor anew to what comes out of the compressed layers before

    @property
    def forward_passes(self) -> int:  # type: ignore[override]
        """One to look at the whole model's layers; with `refit` two more, of what the compressed ones see and say."""
        return 1 + 2 * self.refit + self.backward_passes

    @property
    def backward_passes(self) -> int:  # type: ignore[override]
        return int(self.weighing == "fisher")

    def compress(
        self, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, rows: torch.Tensor | None, job: Any
    ) -> Compressed:
        from polm_bench.models.lowrank import LowRank

        rows = calibration_text(rows)
        before = sum(part.weight.numel() for part in named_linears(model).values())
        fisher = squared_gradients(model, rows) if self.weighing == "fisher" else {}
        names = {id(part): name for name, part in named_linears(model).items()}
        ranks: dict[str, int] = {}
        plain = drifted = first_calls(model, rows)
        layers = decoder_layers(model)
        for number, layer in enumerate(layers):
            seen, following = watch(layer, plain)
            now = watch(layer, drifted)[0] if self.refit else seen
            for inner, part in linears(layer).items():
                name = names[id(part)]
                ranks[name] = self._replace(layer, inner, part, seen[inner], now[inner], fisher.get(name))
            plain, drifted = following, forward(layer, drifted) if self.refit else following
            job.progress(number + 1, len(layers), "layers")
        after = sum(part.weight.numel() for part in named_linears(model).values())
        if after > self.kept * before:
            raise ArithmeticError(
                f"the factors have {after:,} weights, at most {self.kept * before:,.0f} were asked for"
            )
        return Compressed(model, LowRank(ranks))

    def _replace(
        self, layer: nn.Module, inner: str, part: nn.Linear, seen: Seen, now: Seen, fisher: torch.Tensor | None
    ) -> int:
        from polm_bench.models.lowrank import FactoredLinear
        from polm_bench.objectives.factors import rank_for, refitted

        weight = part.weight.detach()
        rank = rank_for(weight.shape[0], weight.shape[1], self.kept)
        factors = self._factors(weight, rank, seen, fisher)
        left = refitted(weight, factors.right, now.gram) if self.refit else factors.left
        layer.set_submodule(inner, FactoredLinear.of(part, left, factors.right))
        return rank

    def _factors(self, weight: torch.Tensor, rank: int, seen: Seen, fisher: torch.Tensor | None) -> Factors:
        from polm_bench.objectives.factors import scaled, whitened

        if self.weighing == "whitening":
            return whitened(weight, seen.gram, rank)
        scale = (seen.absolute / seen.tokens) ** self.alpha if fisher is None else fisher.double().sum(0).sqrt()
        return scaled(weight, scale.clamp(min=float(scale.max()) * 1e-6), rank)

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
        """One to look at the whole model's layers or at its gradients; with `refit` two more, of what the compressed ones see and say."""
        return 1 + 2 * self.refit

    @property
    def backward_passes(self) -> int:  # type: ignore[override]
        return int(self.weighing == "fisher")

    def compress(
        self, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, rows: torch.Tensor | None, job: Any
    ) -> Compressed:
        from polm_bench.models.lowrank import LowRank

        rows = calibration_text(rows)
        before = sum(part.weight.numel() for part in named_linears(model).values())
        ranks = self._by_gradients(model, rows) if self.weighing == "fisher" else self._by_inputs(model, rows, job)
        after = sum(part.weight.numel() for part in named_linears(model).values())
        if after > self.kept * before:
            raise ArithmeticError(
                f"the factors have {after:,} weights, at most {self.kept * before:,.0f} were asked for"
            )
        return Compressed(model, LowRank(ranks))

    def _by_gradients(self, model: PreTrainedModel, rows: torch.Tensor) -> dict[str, int]:
        """Factor all modules of `model` by how much the loss depends on their columns; name -> rank."""
        fisher = squared_gradients(model, rows)
        return {
            name: factored(model, name, self._scaled(part, fisher[name].double().sum(0).sqrt()))
            for name, part in named_linears(model).items()
        }

    def _by_inputs(self, model: PreTrainedModel, rows: torch.Tensor, job: Any) -> dict[str, int]:
        """Factor all modules of `model`, layer after layer, by what they see; name -> rank."""
        names = {id(part): name for name, part in named_linears(model).items()}
        ranks: dict[str, int] = {}
        plain = drifted = first_calls(model, rows)
        layers = decoder_layers(model)
        for number, layer in enumerate(layers):
            seen, following = watch(layer, plain)
            now = watch(layer, drifted)[0] if self.refit else seen
            for inner, part in linears(layer).items():
                ranks[names[id(part)]] = factored(layer, inner, self._factors(part, seen[inner], now[inner]))
            plain, drifted = following, forward(layer, drifted) if self.refit else following
            job.progress(number + 1, len(layers), "layers")
        return ranks

    def _factors(self, part: nn.Linear, seen: Seen, now: Seen) -> Factors:
        from polm_bench.objectives.factors import rank_for, refitted, whitened

        if self.weighing == "activation":
            return self._scaled(part, (seen.absolute / seen.tokens) ** self.alpha)
        weight = part.weight.detach()
        found = whitened(weight, seen.gram, rank_for(weight.shape[0], weight.shape[1], self.kept))
        return found._replace(left=refitted(weight, found.right, now.gram)) if self.refit else found

    def _scaled(self, part: nn.Linear, scale: torch.Tensor) -> Factors:
        """With a positive scale where a column counts nothing."""
        from polm_bench.objectives.factors import rank_for, scaled

        weight = part.weight.detach()
        rank = rank_for(weight.shape[0], weight.shape[1], self.kept)
        return scaled(weight, scale.clamp(min=float(scale.max()) * 1e-6), rank)


def factored(parent: nn.Module, name: str, factors: Factors) -> int:
    """Put the factors in the place of the linear module `name` of `parent`; their rank."""
    from polm_bench.models.lowrank import FactoredLinear

    made = FactoredLinear.of(parent.get_submodule(name), factors.left, factors.right)
    parent.set_submodule(name, made)
    return len(factors.right)

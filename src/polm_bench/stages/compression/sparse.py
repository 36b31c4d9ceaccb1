"""Single weights set to zero by scores of our own."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import Field
from pydantic.dataclasses import dataclass

from polm_bench.graph import FORBID
from polm_bench.stages.compression.base import Compressed, Compression, calibration_text
from polm_bench.stages.compression.layers import named_linears, squared_gradients

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


@dataclass(frozen=True, config=FORBID)
class PruneWeights(Compression):
    """Weights with the smallest scores set to zero, in each module by itself or over all of them; stored as those left and a bit mask."""

    backward_passes: ClassVar[int] = 1
    stored: ClassVar[str] = "bit mask and values"
    computed: ClassVar[str] = "dense"

    score: Literal["magnitude", "saliency"]  # |w|; Optimal Brain Damage's h w^2 / 2, with h from squared gradients
    scope: Literal["module", "model"]  # where scores compete
    sparsity: float = Field(gt=0, lt=1)

    def compress(
        self, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, rows: torch.Tensor | None, job: Any
    ) -> Compressed:
        import torch

        from polm_bench.models.packed import Sparse
        from polm_bench.objectives.sparsity import keep_largest

        modules = named_linears(model)
        scores = self._scores(model, rows)
        if self.scope == "module":
            masks = {name: keep_largest(score, self.sparsity) for name, score in scores.items()}
        else:
            kept = keep_largest(torch.cat([score.flatten() for score in scores.values()]), self.sparsity)
            parts = kept.split([score.numel() for score in scores.values()])
            masks = {name: part.view(scores[name].shape) for name, part in zip(scores, parts, strict=True)}
        with torch.no_grad():
            for name, module in modules.items():
                module.weight.mul_(masks[name])
        check_sparsity(model, self.sparsity, None)
        return Compressed(model, Sparse.store(model, list(modules)))

    def _scores(self, model: PreTrainedModel, rows: torch.Tensor | None) -> dict[str, torch.Tensor]:
        from polm_bench.objectives.sparsity import saliency

        modules = named_linears(model)
        if self.score == "magnitude":
            return {name: module.weight.detach().abs() for name, module in modules.items()}
        rows = calibration_text(rows)
        curvature = squared_gradients(model, rows)
        return {name: saliency(module.weight.detach(), curvature[name]) for name, module in modules.items()}


def check_sparsity(model: PreTrainedModel, sparsity: float, pattern: tuple[int, int] | None) -> None:
    """Raises ArithmeticError where the linear weights are not as sparse as asked, to a thousandth, or not in the pattern N of M."""
    zeros = total = 0
    for name, module in named_linears(model).items():
        gone = module.weight == 0
        zeros, total = zeros + int(gone.sum()), total + gone.numel()
        if pattern is not None and bool((gone.view(-1, pattern[1]).sum(1) < pattern[0]).any()):
            raise ArithmeticError(f"{name} has {pattern[1]} weights in a row of which fewer than {pattern[0]} are zero")
    if zeros / total < sparsity - 1e-3:
        raise ArithmeticError(
            f"{zeros / total:.1%} of the weights are zero after pruning, {sparsity:.1%} were asked for"
        )

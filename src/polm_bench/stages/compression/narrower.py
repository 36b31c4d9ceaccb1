"""Whole attention heads and feed-forward channels taken out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import Field
from pydantic.dataclasses import dataclass

from polm_bench.graph import FORBID
from polm_bench.stages.compression.base import Compressed, Compression, calibration_text
from polm_bench.stages.compression.layers import first_calls, named_linears, watch

if TYPE_CHECKING:
    import torch
    from torch import nn
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from polm_bench.objectives.sparsity import Fluctuation
    from polm_bench.stages.compression.layers import Seen


@dataclass(frozen=True, config=FORBID)
class FluctuationPruning(Compression):
    """Heads and channels whose input hardly varies, replaced by its mean, which becomes a bias.

    FLAP (An et al. 2023, arXiv:2312.11983): `objectives/sparsity.py`; the bias is the sum of W_:j mean(x_j).
    """

    stored: ClassVar[str] = "dense"
    computed: ClassVar[str] = "dense"

    sparsity: float = Field(gt=0, lt=1)  # share of the linear weights of the decoder layers

    def compress(
        self, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, rows: torch.Tensor | None, job: Any
    ) -> Compressed:
        from polm_bench.models.narrow import Narrow, narrow, narrowable
        from polm_bench.objectives.sparsity import adaptive

        rows = calibration_text(rows)
        layers = narrowable(model)
        before = sum(part.weight.numel() for part in named_linears(model).values())
        scores, means = [], []
        calls = first_calls(model, rows)
        for number, layer in enumerate(layers):
            seen, calls = watch(layer, calls)
            scores.append(_fluctuations(layer, seen))
            means.append({name: stats.total / stats.tokens for name, stats in seen.items()})
            job.progress(number + 1, len(layers), "layers")
        masks = adaptive(scores, _group_cost(layers[0]), self.sparsity)
        for layer, mean, (groups, channels) in zip(layers, means, masks, strict=True):
            size = layer.self_attn.o_proj.in_features // len(groups)
            _compensate(layer.self_attn.o_proj, ~groups.repeat_interleave(size), mean["self_attn.o_proj"])
            _compensate(layer.mlp.down_proj, ~channels, mean["mlp.down_proj"])
            narrow(layer, groups, channels)
        _check(model, before, self.sparsity, tolerance=0.03)
        return Compressed(
            model, Narrow(tuple(int(g.sum()) for g, _ in masks), tuple(int(c.sum()) for _, c in masks), bias=True)
        )


@dataclass(frozen=True, config=FORBID)
class TaylorPruning(Compression):
    """Heads and channels, with all weights that hang together with them, whose removal changes the loss least; the same share in each layer.

    LLM-Pruner (Ma et al. 2023, arXiv:2305.11627): a group's importance is the sum of |w dL/dw| over its weights. The first layers and the last ones,
    which the authors spare, are spared as shares of the depth.
    """

    stored: ClassVar[str] = "dense"
    computed: ClassVar[str] = "dense"
    backward_passes: ClassVar[int] = 1

    sparsity: float = Field(gt=0, lt=1)  # share of heads and of channels in each layer that is pruned
    spared_first: float = Field(ge=0, lt=1)  # shares of the layers
    spared_last: float = Field(ge=0, lt=1)

    def compress(
        self, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, rows: torch.Tensor | None, job: Any
    ) -> Compressed:
        import torch

        from polm_bench.models.narrow import Narrow, narrow, narrowable
        from polm_bench.objectives.sparsity import keep_largest

        rows = calibration_text(rows)
        layers = narrowable(model)
        before = sum(part.weight.numel() for part in named_linears(model).values())
        model.zero_grad()
        rows = rows.to(model.device)
        model(input_ids=rows, labels=rows, use_cache=False).loss.backward()
        first = round(self.spared_first * len(layers))
        last = len(layers) - round(self.spared_last * len(layers))
        groups_left, channels_left = [], []
        for number, layer in enumerate(layers):
            groups, channels = _importance(layer)
            if first <= number < last:
                keep = keep_largest(groups, self.sparsity), keep_largest(channels, self.sparsity)
            else:
                keep = torch.ones_like(groups, dtype=torch.bool), torch.ones_like(channels, dtype=torch.bool)
            narrow(layer, *keep)
            groups_left.append(int(keep[0].sum()))
            channels_left.append(int(keep[1].sum()))
        _check(model, before, self.sparsity * (last - first) / len(layers), tolerance=0.03)
        return Compressed(model, Narrow(tuple(groups_left), tuple(channels_left), bias=False))


def _fluctuations(layer: nn.Module, seen: dict[str, Seen]) -> Fluctuation:
    """Scores of one layer; a head's is the mean of its channels', squared before standardising as the authors do."""
    from polm_bench.objectives.sparsity import Fluctuation, fluctuation, standardised

    found = {}
    for name in ("self_attn.o_proj", "mlp.down_proj"):
        stats = seen[name]
        mean = stats.total / stats.tokens
        variance = stats.gram.diagonal() / stats.tokens - mean**2
        found[name] = fluctuation(layer.get_submodule(name).weight.detach(), variance)
    groups = layer.self_attn.k_proj.out_features // layer.self_attn.head_dim
    attention = standardised(found["self_attn.o_proj"] ** 2).view(groups, -1).mean(1)
    return Fluctuation(attention, standardised(found["mlp.down_proj"]))


def _group_cost(layer: nn.Module) -> float:
    """Weights of one key-value group of heads, in feed-forward channels (authors: 512 / 3 for heads of 128)."""
    attention, mlp = layer.self_attn, layer.mlp
    parts = (attention.q_proj, attention.k_proj, attention.v_proj, attention.o_proj)
    groups = attention.k_proj.out_features // attention.head_dim
    channel = (
        sum(part.weight.numel() for part in (mlp.gate_proj, mlp.up_proj, mlp.down_proj)) / mlp.up_proj.out_features
    )
    return sum(part.weight.numel() for part in parts) / groups / channel


def _compensate(module: nn.Linear, gone: torch.Tensor, mean: torch.Tensor) -> None:
    """Add what the pruned inputs [N] give on average to the module's bias."""
    from torch import nn

    lost = (module.weight.detach().double()[:, gone] @ mean[gone]).to(module.weight.dtype)
    module.bias = nn.Parameter(lost if module.bias is None else module.bias.detach() + lost)


def _importance(layer: nn.Module) -> tuple[torch.Tensor, torch.Tensor]:
    """Of key-value groups [G] and of channels [C]: sums of |w dL/dw| over all weights that go with them."""
    from polm_bench.objectives.sparsity import taylor

    def scores(part: nn.Linear) -> torch.Tensor:
        return taylor(part.weight.detach(), part.weight.grad)

    attention, mlp = layer.self_attn, layer.mlp
    count = attention.k_proj.out_features // attention.head_dim
    rows: Sequence[nn.Linear] = (attention.q_proj, attention.k_proj, attention.v_proj)
    groups = sum((scores(part).sum(1).view(count, -1).sum(1) for part in rows), start=0.0)
    groups = groups + scores(attention.o_proj).sum(0).view(count, -1).sum(1)
    channels = scores(mlp.gate_proj).sum(1) + scores(mlp.up_proj).sum(1) + scores(mlp.down_proj).sum(0)
    return groups, channels


def _check(model: PreTrainedModel, before: int, sparsity: float, tolerance: float) -> None:
    """Raises ArithmeticError where too few weights went; heads are few, so the share can't be met exactly."""
    gone = 1 - sum(part.weight.numel() for part in named_linears(model).values()) / before
    if gone < sparsity - tolerance:
        raise ArithmeticError(f"{gone:.1%} of the weights went, {sparsity:.1%} were asked for")

"""Floating-point operations, counted by running the model's shapes rather than guessed from its size."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from transformers import PreTrainedModel

METHOD = "torch FlopCounterMode on the meta device at three lengths, interpolated (exact: a transformer's count is quadratic in length)"
LENGTHS = (16, 32, 64)


@dataclass(frozen=True)
class FlopCount:
    """FLOPs of one sequence of T tokens, as coefficients of 1, T and T squared; matrix products only, a multiply-add counts 2."""

    forward: tuple[float, float, float]
    backward: tuple[float, float, float]

    def score(self, length: float) -> float:
        """FLOPs of one forward pass."""
        return _value(self.forward, length)

    def train(self, length: float) -> float:
        """FLOPs of one forward and backward pass."""
        return _value(self.forward, length) + _value(self.backward, length)

    def generate(self, prompt: float, new: float) -> float:
        """FLOPs of reading `prompt` tokens and generating `new` with a cache: what a forward pass over all of them takes."""
        return _value(self.forward, prompt + new)


def count_flops(model: PreTrainedModel) -> FlopCount:
    """Counts for `model` as it stands: adapters are counted, and weights without gradient take no weight-gradient products.

    Attention is counted in full, without the causal half left out.
    """
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    shadow = _on_meta(model)
    forward, backward = [], []
    for length in LENGTHS:
        ids = torch.zeros((1, length), dtype=torch.long, device="meta")
        mask = torch.zeros((1, 1, length, length), device="meta")  # given whole, so that no value of it is looked at
        counter = FlopCounterMode(display=False)
        with counter:
            logits = shadow(input_ids=ids, attention_mask=mask, use_cache=False).logits
        forward.append(counter.get_total_flops())
        counter = FlopCounterMode(display=False)
        if logits.requires_grad:
            with counter:
                logits.sum().backward()
        backward.append(counter.get_total_flops())
    return FlopCount(_fit(forward), _fit(backward))


def _on_meta(model: PreTrainedModel) -> PreTrainedModel:
    """Copy of the model's structure without its weights."""
    import copy

    import torch

    def strip(tensor: torch.Tensor) -> torch.Tensor:
        return torch.empty_like(tensor, device="meta")

    memo: dict[int, object] = {}
    for tensor in [*model.parameters(), *model.buffers()]:
        bare = strip(tensor.data)
        if isinstance(tensor, torch.nn.Parameter):
            bare = torch.nn.Parameter(bare, requires_grad=tensor.requires_grad)
        memo[id(tensor)] = bare
    shadow = copy.deepcopy(model, memo)
    base = shadow.get_base_model() if hasattr(shadow, "get_base_model") else shadow
    base.set_attn_implementation("eager")
    return shadow


def _fit(counts: Sequence[int]) -> tuple[float, float, float]:
    import numpy as np

    c, b, a = np.linalg.solve(
        np.vander(np.array(LENGTHS, dtype=float), 3, increasing=True), np.array(counts, dtype=float)
    )
    return float(round(c)), float(round(b)), float(round(a))


def _value(coefficients: tuple[float, float, float], length: float) -> float:
    return coefficients[0] + coefficients[1] * length + coefficients[2] * length * length

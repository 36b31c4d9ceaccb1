"""Linear modules as two factors of low rank."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import torch
from pydantic.dataclasses import dataclass
from torch import nn

from polm_bench.graph import FORBID
from polm_bench.models.structure import Structure

if TYPE_CHECKING:
    from transformers import PreTrainedModel


class FactoredLinear(nn.Module):
    """x -> left (right x) + bias, with right [K, N] and left [M, K]."""

    def __init__(self, rows: int, columns: int, rank: int, bias: bool) -> None:
        super().__init__()
        self.right = nn.Linear(columns, rank, bias=False)
        self.left = nn.Linear(rank, rows, bias=bias)

    @classmethod
    def of(cls, linear: nn.Linear, left: torch.Tensor, right: torch.Tensor) -> FactoredLinear:
        """In place of `linear`, with its bias."""
        made = cls(linear.out_features, linear.in_features, left.shape[1], linear.bias is not None)
        made = made.to(linear.weight.device, linear.weight.dtype)
        made.left.weight.data = left.to(linear.weight.dtype).contiguous()
        made.right.weight.data = right.to(linear.weight.dtype).contiguous()
        if linear.bias is not None:
            made.left.bias = linear.bias
        return made

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.left(self.right(x))


@dataclass(frozen=True, config=FORBID)
class LowRank(Structure):
    """Linear modules that are products of two: name -> rank."""

    ranks: Mapping[str, int]

    def apply(self, model: PreTrainedModel) -> None:
        for name, rank in self.ranks.items():
            linear = model.get_submodule(name)
            model.set_submodule(
                name, FactoredLinear(linear.out_features, linear.in_features, rank, linear.bias is not None)
            )

"""Pruned weights as they lie on disk: the values that are left, and one bit a weight that says where they stand."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import torch
from pydantic.dataclasses import dataclass
from torch import nn
from torch.nn import functional as F

from polm_bench.graph import FORBID
from polm_bench.models.structure import Structure

if TYPE_CHECKING:
    from transformers import PreTrainedModel


class SparseLinear(nn.Module):
    """A linear module whose weight [M, N] is stored as its K values that are not zero and a bit mask; made dense at its first call."""

    def __init__(self, rows: int, columns: int, kept: int, bias: bool) -> None:
        super().__init__()
        self.out_features, self.in_features = rows, columns
        self.values = nn.Parameter(torch.zeros(kept))
        self.mask: torch.Tensor
        self.dense: torch.Tensor | None
        self.register_buffer("mask", torch.zeros((rows * columns + 7) // 8, dtype=torch.uint8))
        self.register_buffer("dense", None, persistent=False)
        self.bias = nn.Parameter(torch.zeros(rows)) if bias else None

    @classmethod
    def of(cls, linear: nn.Linear) -> SparseLinear:
        """The same module, stored sparsely."""
        weight = linear.weight.detach()
        where = weight != 0
        made = cls(linear.out_features, linear.in_features, int(where.sum()), linear.bias is not None)
        made = made.to(weight.device, weight.dtype)
        made.values.data = weight[where]
        made.mask = pack_bits(where)
        if linear.bias is not None:
            made.bias = linear.bias
        return made

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if self.dense is None:
            where = unpack_bits(self.mask, self.out_features * self.in_features)
            dense = torch.zeros(len(where), dtype=self.values.dtype, device=self.values.device)
            self.dense = dense.masked_scatter(where, self.values.detach()).view(self.out_features, self.in_features)
        return F.linear(x, self.dense, self.bias)


def pack_bits(flags: torch.Tensor) -> torch.Tensor:
    """Eight flags a byte, the first in the lowest bit; uint8 [ceil(n / 8)]."""
    flat = flags.flatten().to(torch.uint8)
    flat = F.pad(flat, (0, -len(flat) % 8)).view(-1, 8)
    powers = torch.tensor([1 << bit for bit in range(8)], dtype=torch.uint8, device=flat.device)
    return (flat * powers).sum(1, dtype=torch.uint8)


def unpack_bits(packed: torch.Tensor, count: int) -> torch.Tensor:
    """The first `count` flags of what `pack_bits` packed; bool [count]."""
    bits = torch.arange(8, dtype=torch.uint8, device=packed.device)
    return ((packed[:, None] >> bits) & 1).flatten()[:count].bool()


@dataclass(frozen=True, config=FORBID)
class Sparse(Structure):
    """Linear modules that are stored sparsely: name -> weights that are not zero."""

    kept: Mapping[str, int]

    def apply(self, model: PreTrainedModel) -> None:
        for name, kept in self.kept.items():
            linear = model.get_submodule(name)
            model.set_submodule(
                name, SparseLinear(linear.out_features, linear.in_features, kept, linear.bias is not None)
            )

    @classmethod
    def store(cls, model: PreTrainedModel, names: list[str]) -> Sparse:
        """Put the modules `names` of `model` in their sparse form."""
        kept = {}
        for name in names:
            module = SparseLinear.of(model.get_submodule(name))
            kept[name] = len(module.values)
            model.set_submodule(name, module)
        return cls(kept)

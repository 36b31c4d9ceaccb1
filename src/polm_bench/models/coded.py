"""Linear weights as codes of few bits: on a grid, in a turned basis, with some columns as they are."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import torch
from pydantic.dataclasses import dataclass
from torch import nn
from torch.nn import functional as F

from polm_bench.graph import FORBID
from polm_bench.models.packed import pack_bits, unpack_bits
from polm_bench.models.structure import Structure

if TYPE_CHECKING:
    from transformers import PreTrainedModel


@dataclass(frozen=True, config=FORBID)
class Code:
    """How the weight [M, N] of one linear module is stored."""

    bits: int
    kept: int = 0  # columns as they are, in half precision
    rows: tuple[int, int] | None = None  # sizes P, Q of the turns of the M rows; None: not turned
    columns: tuple[int, int] | None = None  # and of the N columns


class CodedLinear(nn.Module):
    """A linear module stored as codes; made dense at its first call.

    The weight is (codes - zero) scale for each row; then turned back by Kronecker products of small orthogonal matrices and divided by `balance`
    [N], where it was turned; then the kept columns are put in their places.
    """

    def __init__(self, rows: int, columns: int, code: Code, bias: bool) -> None:
        super().__init__()
        self.out_features, self.in_features, self.code = rows, columns, code
        self.codes: torch.Tensor
        self.dense: torch.Tensor | None
        self.register_buffer("codes", torch.zeros((rows * columns * code.bits + 7) // 8, dtype=torch.uint8))
        self.register_buffer("dense", None, persistent=False)
        self.scale = nn.Parameter(torch.zeros(rows, 1))
        self.zero = nn.Parameter(torch.zeros(rows, 1))
        self.bias = nn.Parameter(torch.zeros(rows)) if bias else None
        if code.kept:
            self.places: torch.Tensor
            self.register_buffer("places", torch.zeros(code.kept, dtype=torch.long))
            self.columns = nn.Parameter(torch.zeros(rows, code.kept, dtype=torch.float16))
        if code.rows is not None and code.columns is not None:
            self.balance = nn.Parameter(torch.zeros(columns))
            self.left = nn.ParameterList(torch.zeros(size, size) for size in code.rows)
            self.right = nn.ParameterList(torch.zeros(size, size) for size in code.columns)

    def put(self, codes: torch.Tensor) -> None:
        """Store whole numbers [M, N], below 2^bits."""
        planes = torch.arange(self.code.bits, device=codes.device)
        self.codes = pack_bits((codes.long()[..., None] >> planes) & 1)

    def weight_from_codes(self) -> torch.Tensor:
        """[M, N]"""
        from polm_bench.objectives.rounding import turned

        count = self.out_features * self.in_features * self.code.bits
        planes = unpack_bits(self.codes, count).view(self.out_features, self.in_features, -1)
        powers = torch.tensor([1 << bit for bit in range(self.code.bits)], device=planes.device)
        weight = ((planes * powers).sum(-1) - self.zero.detach()) * self.scale.detach()
        if self.code.rows is not None:
            weight = turned(weight, *(part.detach().T for part in self.left))
            weight = turned(weight.T, *(part.detach().T for part in self.right)).T / self.balance.detach()
        if self.code.kept:
            weight = weight.index_copy(1, self.places, self.columns.detach().to(weight.dtype))
        return weight.contiguous()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if self.dense is None:
            self.dense = self.weight_from_codes()
        return F.linear(x, self.dense, self.bias)


@dataclass(frozen=True, config=FORBID)
class Coded(Structure):
    """Linear modules that are stored as codes, by name."""

    modules: Mapping[str, Code]

    def apply(self, model: PreTrainedModel) -> None:
        for name, code in self.modules.items():
            old = model.get_submodule(name)
            model.set_submodule(name, CodedLinear(old.out_features, old.in_features, code, old.bias is not None))

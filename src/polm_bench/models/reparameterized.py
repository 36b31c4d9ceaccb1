"""Weights that are computed from others whenever they are used, by `torch.nn.utils.parametrize`."""

from __future__ import annotations

import torch
from torch import nn

from polm_bench.objectives.fastfood import fastfood


class Gate(nn.Module):
    """A weight [R, N] with a factor on each row."""

    def __init__(self, weight: torch.Tensor) -> None:
        super().__init__()
        self.gate = nn.Parameter(torch.randn(len(weight)).to(weight))
        self.threshold = 0.0

    def forward(self, weight: torch.Tensor) -> torch.Tensor:
        return self.gate[:, None] * weight

    def shrink(self) -> None:
        """Move each factor towards zero by the threshold, and no further than to zero."""
        with torch.no_grad():
            self.gate.copy_(nn.functional.softshrink(self.gate, self.threshold))


class Truncation(nn.Module):
    """The first `rank` rows of a weight [R, N], times R / rank; the others are zero."""

    def __init__(self, rank: int) -> None:
        super().__init__()
        self.rank = rank

    def forward(self, weight: torch.Tensor) -> torch.Tensor:
        kept = torch.arange(len(weight), device=weight.device) < self.rank
        return weight * (kept * (len(weight) / self.rank))[:, None]


class Subspace(nn.Module):
    """A vector that all weights are projected from, and a factor for each of them."""

    def __init__(self, size: int, weights: int) -> None:
        super().__init__()
        self.vector = nn.Parameter(torch.zeros(size))
        self.scales = nn.Parameter(torch.ones(weights))


class Projected(nn.Module):
    """A weight as it was, plus its own random projection of the subspace's vector, times its factor."""

    def __init__(self, subspace: Subspace, number: int, count: int) -> None:
        super().__init__()
        length = 1 << (max(count, len(subspace.vector)) - 1).bit_length()
        self.subspace, self.number = [subspace], number  # in a list, as the vector is the model's and not this weight's
        self.signs: torch.Tensor
        self.order: torch.Tensor
        self.gauss: torch.Tensor
        self.register_buffer("signs", torch.randint(0, 2, (length,)) * 2.0 - 1)
        self.register_buffer("order", torch.randperm(length))
        self.register_buffer("gauss", torch.randn(length))

    def forward(self, weight: torch.Tensor) -> torch.Tensor:
        whole = self.subspace[0]
        change = fastfood(whole.vector, self.signs, self.order, self.gauss, weight.numel())
        return weight + whole.scales[self.number] * change.view_as(weight)

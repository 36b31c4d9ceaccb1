"""The modules that structures put round a model's own."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

ACTIVATIONS = {"gelu": nn.functional.gelu, "relu": nn.functional.relu}


class Bypass(nn.Module):
    """`inner` [.., D] with a bottleneck after it (serial) or beside it (parallel), added to what it says."""

    def __init__(
        self,
        inner: nn.Module,
        down: nn.Module,
        up: nn.Module,
        form: Literal["serial", "parallel"],
        activation: Literal["gelu", "relu"],
        scale: float,
    ) -> None:
        super().__init__()
        self.inner, self.down, self.up = inner, down, up
        self.parallel, self.activation, self.scale = form == "parallel", ACTIVATIONS[activation], scale

    def forward(self, x: Tensor) -> Tensor:
        y = self.inner(x)
        return y + self.scale * self.up(self.activation(self.down(x if self.parallel else y)))


class Kronecker(nn.Module):
    """A linear layer whose weight [in, out] is a sum of Kronecker products of rules [n, n], which its model has, with rank-one factors of its own."""

    def __init__(self, owner: nn.Module, rules: str, width_in: int, width_out: int, n: int) -> None:
        super().__init__()
        self.owner, self.rules = [owner], rules  # in a list, so that the model is not a submodule of its own part
        self.left = nn.Parameter(_glorot(n, width_in // n, 1))
        self.right = nn.Parameter(_glorot(n, 1, width_out // n))
        self.bias = nn.Parameter(torch.zeros(width_out))

    def weight(self) -> Tensor:
        """Shape [in, out]."""
        rules = self.owner[0].get_parameter(self.rules)
        products = [
            torch.kron(rule, left @ right) for rule, left, right in zip(rules, self.left, self.right, strict=True)
        ]
        return torch.stack(products).sum(0)

    def forward(self, x: Tensor) -> Tensor:
        return x @ self.weight() + self.bias


def _glorot(n: int, rows: int, columns: int) -> Tensor:
    """[n, rows, columns], each of the n matrices as rabeehk/compacter, seq2seq/hypercomplex/inits.py, draws it."""
    return torch.stack([nn.init.xavier_uniform_(torch.empty(rows, columns), gain=2**0.5) for _ in range(n)])


class Scaled(nn.Module):
    """`inner`, then a scale and a shift of each of `width` channels."""

    def __init__(self, inner: nn.Module, width: int) -> None:
        super().__init__()
        self.inner = inner
        self.gamma = nn.Parameter(1 + 0.02 * torch.randn(width))
        self.beta = nn.Parameter(0.02 * torch.randn(width))

    def forward(self, x: Tensor) -> Tensor:
        return self.gamma * self.inner(x) + self.beta

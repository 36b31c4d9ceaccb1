"""Weights that are computed from others whenever they are used, by `torch.nn.utils.parametrize`."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torch.nn.utils.parametrize import is_parametrized, register_parametrization, remove_parametrizations

from polm_bench.objectives.fastfood import fastfood
from polm_bench.objectives.sparsity import hard_concrete


def reparameterize(model: nn.Module, made: list[nn.Module]) -> None:
    """Compute each of a model's weights, in the order of `weights`, by its module of `made` from what it is now, which is frozen."""
    parts = dict(zip(weights(model), made, strict=True))
    model.requires_grad_(False)
    for module in list(model.modules()):
        for name, weight in list(module.named_parameters(recurse=False)):
            register_parametrization(module, name, parts[weight])  # a tied weight stands in several places


def settle(model: nn.Module) -> None:
    """Leave the weights as they are computed now, in a plain model."""
    found: dict[Any, torch.Tensor] = {}
    for module in [module for module in model.modules() if is_parametrized(module)]:
        for name in list(module.parametrizations):
            value = getattr(module, name).detach()
            remove_parametrizations(module, name, leave_parametrized=False)
            found[getattr(module, name)] = value
    for weight, value in found.items():
        weight.data = value


def weights(model: nn.Module) -> list[nn.Parameter]:
    """Every weight of a model, once."""
    return list(model.parameters())


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


class Difference(nn.Module):
    """A weight as it was, plus a change of each entry times a mask: drawn anew for each forward pass, and from some step on fixed.

    The mask is a hard concrete variable with log odds `alpha`, stretched to (low, high).
    """

    def __init__(self, weight: torch.Tensor, alpha: float, low: float, high: float) -> None:
        super().__init__()
        self.low, self.high = low, high
        self.change = nn.Parameter(torch.zeros_like(weight))
        self.alpha = nn.Parameter(torch.full_like(weight, alpha))
        self.uniform: torch.Tensor
        self.mask: torch.Tensor | None
        self.register_buffer("uniform", torch.full_like(weight, 0.5))
        self.register_buffer("mask", None)

    def draw(self) -> None:
        """Another mask, while none is fixed."""
        if self.mask is None:
            self.uniform.uniform_(1e-4, 1 - 1e-4)  # the authors' bounds, away from infinite log odds

    def gate(self, uniform: torch.Tensor | float) -> torch.Tensor:
        """The mask that a number between 0 and 1 stands for."""
        return hard_concrete(self.alpha, uniform, self.low, self.high)

    def forward(self, weight: torch.Tensor) -> torch.Tensor:
        return weight + self.change * (self.gate(self.uniform) if self.mask is None else self.mask)

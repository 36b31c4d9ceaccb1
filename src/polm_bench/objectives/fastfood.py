"""Random projections of a short vector to a long one, in time L log L and memory L."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

RADIX = 64
"""Directions that one matrix product takes together; the butterfly of two would be many passes over memory."""


def fastfood(vector: Tensor, signs: Tensor, order: Tensor, gauss: Tensor, count: int) -> Tensor:
    """The first `count` entries of H G P H B x, over their expected length for |x| = 1, so that lengths stay as they are on average.

    Le et al. 2013 (arXiv:1408.3060), as Aghajanyan et al. 2020 (arXiv:2012.13255) use it. H: Walsh-Hadamard matrix of size L, a power of two; B: random
    `signs` [L]; P: random `order` [L]; G: normally distributed `gauss` [L]; x: `vector` with zeros behind it. Divided by
    sqrt(L sum g^2 count / L), as implementations do. [count]
    """
    from torch.nn.functional import pad

    short = 1 << (len(vector) - 1).bit_length()
    mixed = walsh_hadamard(pad(vector, (0, short - len(vector))) * signs[:short])
    mixed = mixed.repeat(len(signs) // short)  # what H makes of zeros behind it
    out = walsh_hadamard(mixed.index_select(0, order) * gauss)[:count]
    return out / (gauss.square().sum() * count).sqrt()


def walsh_hadamard(x: Tensor) -> Tensor:
    """H x for x [L], L a power of two, with H = [[1, 1], [1, -1]] (x) ... (x) [[1, 1], [1, -1]]."""
    left, length = len(x), len(x)
    while (
        left > 1
    ):  # each product takes the last factors, and turning them to the front brings the next ones to the end
        size = min(RADIX, left)
        x = (x.view(-1, size) @ hadamard(size).to(x)).t().reshape(length)
        left //= size
    return x


@cache
def hadamard(size: int) -> Tensor:
    """Walsh-Hadamard matrix [size, size] of ones and minus ones; size a power of two."""
    import torch

    pair, made = torch.tensor([[1.0, 1.0], [1.0, -1.0]]), torch.ones(1, 1)
    while len(made) < size:
        made = torch.kron(pair, made)
    return made

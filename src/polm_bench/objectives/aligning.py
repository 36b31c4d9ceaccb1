"""Units of two models put in the same order: which hidden unit of the one is which of the other, from weights alone."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

from pydantic import PositiveInt
from pydantic.dataclasses import dataclass

from polm_bench.graph import FORBID

if TYPE_CHECKING:
    from torch import Tensor

    Weights = Mapping[str, Tensor]
    Orders = Mapping[str, Tensor]
    """By name of a kind of units, e.g. those of one layer's MLP: which unit comes to each place."""

Axes = Mapping[str, tuple[str | None, ...]]
"""By name of a weight: the kind of units that each of its axes runs over, the same kind on one axis at most; None: no units, such as tokens."""


@dataclass(frozen=True, config=FORBID)
class Alignment:
    """How the order of a model's units is found that is most like another model's."""

    def __call__(self, anchor: Weights, model: Weights, axes: Axes, counts: Mapping[str, int], seed: int) -> Orders:
        """Orders that bring `model` next to `anchor`. `counts`: units of each kind, in the order of the network; a unit may be a block of an axis."""
        raise TypeError(f"{type(self).__name__} does not say how it aligns")


@dataclass(frozen=True, config=FORBID)
class WeightMatching(Alignment):
    """One kind of units after the other is put in the order in which the weights agree best, till none moves.

    Ainsworth et al. 2023, Git Re-Basin (arXiv:2209.04836), Section 3.2 and Algorithm 1: maximise sum over weights of <A, P B Q^T> over all permutations,
    by coordinate ascent in random order; each step is a linear assignment.
    """

    passes: PositiveInt  # over all kinds, at most

    def __call__(self, anchor: Weights, model: Weights, axes: Axes, counts: Mapping[str, int], seed: int) -> Orders:
        import torch
        from scipy.optimize import linear_sum_assignment

        orders = {kind: torch.arange(count) for kind, count in counts.items()}
        draw, kinds = torch.Generator().manual_seed(seed), list(counts)
        for _ in range(self.passes):
            moved = False
            for number in torch.randperm(len(kinds), generator=draw).tolist():
                kind = kinds[number]
                count = counts[kind]
                others = {other: order for other, order in orders.items() if other != kind}
                agree = torch.zeros(count, count, dtype=torch.float64)
                for name, axis in _places(axes, kind):
                    there = reordered(model[name], axes[name], others)
                    agree += _rows(anchor[name], axis, count) @ _rows(there, axis, count).T
                found = torch.as_tensor(linear_sum_assignment(agree.numpy(), maximize=True)[1])
                before, after = (float(agree.gather(1, order[:, None]).sum()) for order in (orders[kind], found))
                if after > before + 1e-9 * abs(before):
                    orders[kind], moved = found, True
            if not moved:
                break
        return orders


@dataclass(frozen=True, config=FORBID)
class Transport(Alignment):
    """Layer by layer, the cheapest transport of units to units, by the distance of the weights that lead into them.

    Singh and Jaggi 2020, Model Fusion via Optimal Transport (arXiv:1910.05653), Algorithm 1; sidak/otfusion, README.md (`--exact --ground-metric
    euclidean --not-squared --normalize-wts`). Between as many units of equal weight an exact transport is a permutation, so units keep their values.
    The residual stream takes the order that the embedding gives it in all layers.
    """

    def __call__(self, anchor: Weights, model: Weights, axes: Axes, counts: Mapping[str, int], seed: int) -> Orders:
        import torch
        import torch.nn.functional as F
        from scipy.optimize import linear_sum_assignment

        orders: dict[str, Tensor] = {}
        for kind, count in counts.items():
            names = _leading(axes, kind)
            here = [_rows(anchor[name], axes[name].index(kind), count) for name in names]
            there = [_rows(reordered(model[name], axes[name], orders), axes[name].index(kind), count) for name in names]
            cost = torch.cdist(F.normalize(torch.cat(here, 1)), F.normalize(torch.cat(there, 1)))
            orders[kind] = torch.as_tensor(linear_sum_assignment(cost.numpy())[1])
        return orders


def reordered(weight: Tensor, kinds: tuple[str | None, ...], orders: Orders) -> Tensor:
    """The weight with the units of each of its axes in the given order; kinds without an order stay."""
    for axis, kind in enumerate(kinds):
        if kind is not None and kind in orders:
            blocks = weight.unflatten(axis, (len(orders[kind]), -1))
            weight = blocks.index_select(axis, orders[kind]).flatten(axis, axis + 1)
    return weight


def _places(axes: Axes, kind: str) -> Iterator[tuple[str, int]]:
    """Weights that have units of a kind, and on which axis."""
    return ((name, kinds.index(kind)) for name, kinds in axes.items() if kind in kinds)


def _leading(axes: Axes, kind: str) -> list[str]:
    """Matrices that lead into units of a kind: from tokens where there is one, else from other units."""
    matrices = {name: kinds for name, kinds in axes.items() if kind in kinds and len(kinds) == 2}
    from_tokens = [name for name, kinds in matrices.items() if kinds[0] is None]
    return from_tokens[:1] or [name for name, kinds in matrices.items() if kinds[0] == kind]


def _rows(weight: Tensor, axis: int, count: int) -> Tensor:
    """[count, rest] of a weight whose `axis` has `count` units."""
    return weight.movedim(axis, 0).reshape(count, -1).double()

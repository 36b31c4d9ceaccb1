"""Which weights, heads and channels may go: scores, and masks made from them. True in a mask: it stays."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from torch import Tensor


def keep_largest(scores: Tensor, sparsity: float) -> Tensor:
    """Mask of the shape of `scores`: the share `sparsity` with the smallest scores goes; of equal ones the earlier."""
    import torch

    order = scores.flatten().argsort(stable=True)
    mask = torch.ones(scores.numel(), dtype=torch.bool, device=scores.device)
    mask[order[: round(sparsity * scores.numel())]] = False
    return mask.view(scores.shape)


def hard_concrete(alpha: Tensor, uniform: Tensor | float, low: float, high: float) -> Tensor:
    """A number from 0 to 1 that is exactly 0 or exactly 1 with some probability, and differentiable by its log odds `alpha`.

    Louizos et al. 2018 (arXiv:1712.01312), Equations 10 and 11, at temperature 1: s = sigmoid(log u - log(1 - u) + alpha) for u uniform in (0, 1);
    z = min(1, max(0, s (high - low) + low)), with low < 0 and high > 1.
    """
    import torch

    odds = torch.as_tensor(uniform, dtype=alpha.dtype, device=alpha.device).logit()
    return (torch.sigmoid(odds + alpha) * (high - low) + low).clamp(0, 1)


def expected_nonzero(alpha: Tensor, low: float, high: float) -> Tensor:
    """Probability that a hard concrete variable is not 0: sigmoid(alpha - log(-low / high)) (the same paper, Equation 12)."""
    import math

    import torch

    return torch.sigmoid(alpha - math.log(-low / high))


def saliency(weight: Tensor, curvature: Tensor) -> Tensor:
    """How much the loss grows when a weight is set to zero, to second order.

    Optimal Brain Damage (LeCun et al. 1989), its saliency: s_k = h_kk w_k^2 / 2, with the diagonal `curvature` h of the Hessian.
    """
    return curvature * weight**2 / 2


def taylor(weight: Tensor, gradient: Tensor) -> Tensor:
    """How much the loss changes when a weight is set to zero, to first order: |w dL/dw|.

    LLM-Pruner (Ma et al. 2023, arXiv:2305.11627), without the second-order term (the authors' `--taylor param_first`).
    """
    return (weight * gradient).abs()


class Fluctuation(NamedTuple):
    """FLAP's scores of one layer."""

    groups: Tensor
    """[G] of key-value groups of heads."""
    channels: Tensor
    """[C] of feed-forward channels."""


def fluctuation(weight: Tensor, variance: Tensor) -> Tensor:
    """Weighted variance of each input channel [N]: what is lost when the channel is replaced by its mean.

    FLAP (An et al. 2023, arXiv:2312.11983), the metric WIFV: S_j = Var(x_j) ||W_:j||^2.
    """
    return variance * weight.double().pow(2).sum(0)


def principal(gram: Tensor, damping: float) -> Tensor:
    """Directions [N, N], one a column, by how much of X X^T = `gram` [N, N] lies along them, the most first.

    SliceGPT (Ashkboos et al. 2024, arXiv:2401.15024), Section 3.3: the eigenvectors of the sum of x x^T, with a share `damping` of its mean diagonal
    added to its diagonal (the authors' src/slicegpt/rotate.py, pca_calc).
    """
    import torch

    damped = gram.double() + damping * gram.diagonal().mean() * torch.eye(
        len(gram), dtype=torch.double, device=gram.device
    )
    return torch.linalg.eigh(damped).eigenvectors.flip(1)


def standardised(scores: Tensor) -> Tensor:
    """Scores of one layer with mean 0 and standard deviation 1, to be compared across layers (FLAP)."""
    return (scores - scores.mean()) / scores.std()


def adaptive(layers: Sequence[Fluctuation], group_cost: float, sparsity: float) -> list[tuple[Tensor, Tensor]]:
    """Masks of groups [G] and channels [C] for each layer: one threshold over the whole model.

    FLAP, as its authors compute it (their lib/prune.py, AL-AM): from the best downwards, parts are kept until their weights are the share
    1 - sparsity of all; a group of heads costs `group_cost` channels. At least one part of each kind stays in a layer.
    """
    import torch

    scores = torch.cat([torch.cat([layer.groups, layer.channels]) for layer in layers])
    costs = torch.cat(
        [torch.cat([torch.full_like(layer.groups, group_cost), torch.ones_like(layer.channels)]) for layer in layers]
    )
    ranked, order = scores.sort(descending=True)
    spent = costs[order].cumsum(0)
    threshold = ranked[(spent - costs.sum() * (1 - sparsity)).abs().argmin()]
    return [(_above(layer.groups, threshold), _above(layer.channels, threshold)) for layer in layers]


def _above(scores: Tensor, threshold: Tensor) -> Tensor:
    mask = scores >= threshold
    mask[scores.argmax()] = True
    return mask

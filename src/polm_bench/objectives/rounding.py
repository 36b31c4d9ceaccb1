"""Weights [M, N] on a grid of few values, and what is done to them so that rounding hurts less."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from torch import Generator, Tensor


class Grid(NamedTuple):
    """Scales and zero points [M, N / g] of groups of g weights: w is about (code - zero) scale, with code from 0 to 2^bits - 1."""

    scale: Tensor
    zero: Tensor
    bits: int

    def codes(self, weight: Tensor) -> Tensor:
        """Whole numbers [M, N]."""
        group = weight.shape[1] // self.scale.shape[1]
        scale, zero = self.scale.repeat_interleave(group, 1), self.zero.repeat_interleave(group, 1)
        return (weight / scale + zero).round().clamp(0, 2**self.bits - 1)

    def values(self, codes: Tensor) -> Tensor:
        group = codes.shape[1] // self.scale.shape[1]
        return (codes - self.zero.repeat_interleave(group, 1)) * self.scale.repeat_interleave(group, 1)


def grid(weight: Tensor, bits: int, group: int) -> Grid:
    """Asymmetric min-max grid of each group of `group` columns in a row; zero lies on it."""
    parts = weight.view(len(weight), -1, group)
    low, high = parts.amin(2).clamp(max=0), parts.amax(2).clamp(min=0)
    scale = ((high - low) / (2**bits - 1)).clamp(min=1e-9)
    return Grid(scale, (-low / scale).round(), bits)


def rounded(weight: Tensor, bits: int, group: int) -> Tensor:
    """The nearest values on the min-max grid."""
    found = grid(weight, bits, group)
    return found.values(found.codes(weight))


def error(difference: Tensor, gram: Tensor) -> Tensor:
    """Squared error of the output, ||D X||^2 = trace(D X X^T D^T), for a difference D [M, N] of weights."""
    return ((difference @ gram) * difference).sum()


def awq_scale(weights: Sequence[Tensor], gram: Tensor, mean: Tensor, bits: int, group: int, steps: int) -> Tensor:
    """Factors [N] on the input channels of weights [M, N] that read the same input, under which rounding costs the output least.

    AWQ (Lin et al. 2023, arXiv:2306.00978): s = mean(|x|)^alpha, with alpha searched over a grid of `steps` in [0, 1); s is divided by
    sqrt(max s * min s), as the authors do (their awq/quantize/auto_scale.py). The error is that of these weights' own outputs; the authors take the whole
    attention or feed-forward block's.
    """
    import torch

    best, least = torch.ones_like(mean), None
    for step in range(steps):
        scale = mean.clamp(min=1e-4) ** (step / steps)
        scale = scale / (scale.max() * scale.min()).sqrt()
        cost = sum(float(error(rounded(w * scale, bits, group) / scale - w, gram)) for w in weights)
        if least is None or cost < least:
            best, least = scale, cost
    return best


def awq_clipped(weight: Tensor, gram: Tensor, bits: int, group: int, steps: int, most: float) -> Tensor:
    """The weight with each group cut to the range under which rounding costs the output least.

    AWQ's weight clipping (the authors' awq/quantize/auto_clip.py): ranges of 1, 1 - 1/steps, ... down to 1 - `most` of the largest
    absolute weight of the group.
    """
    import torch

    rows = len(weight)
    parts = weight.view(rows, -1, group)
    blocks = torch.stack([gram[start : start + group, start : start + group] for start in range(0, len(gram), group)])
    largest = parts.abs().amax(2, keepdim=True)
    best, least = parts, torch.full(parts.shape[:2], torch.inf, dtype=weight.dtype, device=weight.device)
    for step in range(int(most * steps)):
        bound = largest * (1 - step / steps)
        cut = parts.clamp(-bound, bound)
        difference = rounded(cut.reshape(rows, -1), bits, group).view_as(parts) - parts
        cost = (torch.einsum("rgi,gij->rgj", difference, blocks) * difference).sum(2)
        better = cost < least
        best = torch.where(better[..., None], cut, best)
        least = torch.where(better, cost, least)
    return best.reshape(weight.shape)


def range_scale(inputs: Tensor, weight: Tensor, bits: int, steps: int, least: float) -> Tensor:
    """Factors [N] on the channels of inputs [M, N] that go beyond a range, which is chosen so that rounding inputs and weight [K, N] costs the output least.

    OS+ (Wei et al. 2023, arXiv:2304.09145; the authors' quant_transformer/quantization/migration_llama.py): s_j = max(1, max_i |x_ij| / t) brings
    channel j into [-t, t] and leaves narrower channels as they are. t goes in `steps` equal steps from the largest input down to `least`. Inputs are
    rounded in each row (token) by itself, the weight in each row (output channel). The error is that of these weights' own outputs; the authors take
    attention's and the gated product's.
    """
    import torch

    reach = inputs.abs().amax(0)
    top, width = float(reach.max()), inputs.shape[1]
    said = inputs @ weight.T
    best, lowest = torch.ones_like(reach), None
    for step in range(steps if top > least else 0):
        scale = (reach / (top - (top - least) * step / steps)).clamp(min=1)
        lost = rounded(inputs / scale, bits, width) @ rounded(weight * scale, bits, width).T - said
        cost = float(lost.square().sum())
        if lowest is None or cost < lowest:
            best, lowest = scale, cost
    return best


def inverse_factor(gram: Tensor, damping: float) -> Tensor:
    """Upper Cholesky factor [N, N] of the inverse of 2 X X^T, damped by a share of its mean diagonal (GPTQ, the authors' gptq.py)."""
    import torch

    hessian = 2 * gram.double()
    hessian = hessian + damping * hessian.diagonal().mean() * torch.eye(
        len(gram), dtype=torch.double, device=gram.device
    )
    inverse = torch.cholesky_inverse(torch.linalg.cholesky(hessian))
    return torch.linalg.cholesky(inverse, upper=True)


class Compensated(NamedTuple):
    """What rounding column by column leaves."""

    codes: Tensor
    """[M, N]; 0 in columns that were not rounded."""
    weight: Tensor
    """[M, N] as each column was before it was rounded; what a column that was not rounded is in the end."""


def compensated(weight: Tensor, factor: Tensor, given: Grid, rounds: int | None = None) -> Compensated:
    """The first `rounds` columns are rounded in turn, and what a column's rounding costs the output is taken up by the columns after it.

    GPTQ (Frantar et al. 2022, arXiv:2210.17323; the authors' gptq.py, fasterquant), without its blocks, which change the speed and not the result.
    QuIP (Chee et al. 2023, arXiv:2307.13304): its LDLQ is the same procedure (their README).
    """
    import torch

    left = weight.double().clone()
    codes = torch.zeros_like(left)
    group = left.shape[1] // given.scale.shape[1]
    for column in range(left.shape[1] if rounds is None else rounds):
        scale, zero = given.scale[:, column // group], given.zero[:, column // group]
        code = (left[:, column] / scale + zero).round().clamp(0, 2**given.bits - 1)
        codes[:, column] = code
        lost = (left[:, column] - (code - zero) * scale) / factor[column, column]
        left[:, column + 1 :] -= lost[:, None] * factor[column, column + 1 :]
    return Compensated(codes, left)


def orthogonal(size: int, generator: Generator) -> Tensor:
    """A random orthogonal matrix [size, size], uniformly distributed; double precision."""
    import torch

    q, r = torch.linalg.qr(torch.randn(size, size, generator=generator, dtype=torch.double))
    return q * r.diagonal().sign()


def divisors(size: int) -> tuple[int, int]:
    """Two factors of `size`, as near to each other as can be."""
    first = next(n for n in range(int(size**0.5), 0, -1) if size % n == 0)
    return first, size // first


def turned(matrix: Tensor, first: Tensor, second: Tensor) -> Tensor:
    """(first kron second) @ matrix, for matrix [P Q, N], first [P, P], second [Q, Q], without the big product."""
    import torch

    parts = matrix.reshape(len(first), len(second), -1)
    return torch.einsum("ap,bq,pqn->abn", first, second, parts).reshape(matrix.shape)


def balance(weight: Tensor, gram: Tensor) -> Tensor:
    """QuIP's rescaling [N] (the authors' method.py, preproc), by which columns of W are multiplied before they are rounded.

    (diag(H) / diag(W^T W))^(1/4) for H of largest entry 1, with 1e-8 as the least of both, so that a channel that is never seen has a scale too.
    """
    seen = (gram.diagonal() / gram.abs().max()).clamp(min=1e-8)
    return (seen / weight.double().pow(2).sum(0).clamp(min=1e-8)) ** 0.25


def sensitivity(weight: Tensor, rounded: Tensor, gram: Tensor) -> Tensor:
    """What rounding a column costs the output [N].

    OWQ (Lee et al. 2023, arXiv:2306.02272; the authors' owq/recon.py): lambda_j ||dW_:j||^2, with lambda_j on the diagonal of the Hessian 2 X X^T.
    """
    return 2 * gram.diagonal() * (weight - rounded).double().pow(2).sum(0)

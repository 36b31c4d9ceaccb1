"""Weights [M, N] as products of two matrices of low rank: truncated singular value decompositions."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from torch import Tensor


class Factors(NamedTuple):
    """W is about left @ right; double precision."""

    left: Tensor
    """[M, K]"""
    right: Tensor
    """[K, N]"""
    dropped: Tensor
    """[min(M, N) - K] singular values that were dropped, of what was decomposed."""


def rank_for(rows: int, columns: int, kept: float) -> int:
    """The rank K at which K (M + N) is the share `kept` of the M N weights; at least 1."""
    return max(1, int(rows * columns * kept / (rows + columns)))


def scaled(weight: Tensor, scale: Tensor, rank: int) -> Factors:
    """The best W of rank K where column j counts scale_j: SVD of W diag(scale), then diag(scale)^-1 on the right.

    ASVD (Yuan et al. 2023, arXiv:2312.05821; the authors' act_aware_utils.py and modules/svd_linear.py): scale_j = (mean |x_j|)^alpha. FWSVD (Hsu et
    al. 2022, arXiv:2207.00112): scale_j is the square root of column j's Fisher information, summed over its weights. scale [N] must be positive.
    """
    import torch

    u, sigma, v = torch.linalg.svd(weight.double() * scale.double(), full_matrices=False)
    root = sigma[:rank].sqrt()
    return Factors(u[:, :rank] * root, root[:, None] * v[:rank] / scale.double(), sigma[rank:])


def whitened(weight: Tensor, gram: Tensor, rank: int) -> Factors:
    """The W of rank K with the least error of W X for X X^T = `gram` [N, N].

    SVD-LLM (Wang et al. 2024, arXiv:2403.07378; the authors' SVDLLM.py): S is the Cholesky factor of X X^T, the SVD is that of W S, and dropping
    sigma_i costs exactly sigma_i in the Frobenius norm of the output.
    """
    import torch

    factor = torch.linalg.cholesky(positive(gram.double()))
    u, sigma, v = torch.linalg.svd(weight.double() @ factor, full_matrices=False)
    root = sigma[:rank].sqrt()
    right = torch.linalg.solve_triangular(factor, root[:, None] * v[:rank], upper=False, left=False)
    return Factors(u[:, :rank] * root, right, sigma[rank:])


def refitted(weight: Tensor, right: Tensor, gram: Tensor) -> Tensor:
    """The left factor [M, K] with the least error of left right X against W X for X X^T = `gram`, in closed form.

    SVD-LLM, the update of the paper's first version: W X X^T R^T (R X X^T R^T)^-1, with X what comes out of the layers compressed before.
    """
    import torch

    seen = gram.double() @ right.T  # [N, K]
    return torch.linalg.solve(positive(right @ seen), (weight.double() @ seen).T).T


def positive(matrix: Tensor) -> Tensor:
    """A symmetric matrix with so much added to its diagonal that it is safely positive definite; as it is where it already is.

    The authors of SVD-LLM add the smallest eigenvalue's deficit and 1e-6 (their SVDLLM.py); here the amount follows the matrix's size.
    """
    import torch

    floor = float(matrix.diagonal().mean()) * 1e-9
    least = float(torch.linalg.eigvalsh(matrix)[0])
    if least > floor:
        return matrix
    return matrix + (floor - least) * torch.eye(len(matrix), dtype=matrix.dtype, device=matrix.device)

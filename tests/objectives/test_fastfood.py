"""The Fastfood transform beside the matrices that it stands for."""

from __future__ import annotations

import pytest
import torch

from polm_bench.objectives.fastfood import fastfood, hadamard, walsh_hadamard


def test_hadamard_of_four_is_the_one_of_two_twice():
    assert hadamard(4).tolist() == [[1, 1, 1, 1], [1, -1, 1, -1], [1, 1, -1, -1], [1, -1, -1, 1]]


@pytest.mark.parametrize("length", [1, 8, 64, 256, 1024])
def test_the_fast_transform_is_the_product_with_the_matrix(length):
    x = torch.randn(length, dtype=torch.double, generator=torch.Generator().manual_seed(0))
    assert torch.allclose(walsh_hadamard(x), hadamard(length).double() @ x)


def test_fastfood_is_the_product_of_its_five_matrices():
    drawing = torch.Generator().manual_seed(0)
    signs, order, gauss = (
        torch.tensor([1.0, -1, -1, 1, 1, 1, -1, 1]),
        torch.randperm(8, generator=drawing),
        torch.randn(8),
    )
    x = torch.tensor([1.0, 2.0, -1.0])
    whole = hadamard(8) @ gauss.diag() @ torch.eye(8)[order] @ hadamard(8) @ signs.diag()
    expected = (whole[:, :3] @ x)[:6] / (8 * gauss.square().sum()).sqrt() / (6 / 8) ** 0.5
    assert torch.allclose(fastfood(x, signs, order, gauss, 6), expected, atol=1e-6)


def test_lengths_stay_as_they_are_on_average():
    drawing = torch.Generator().manual_seed(0)
    x = torch.randn(100, generator=drawing)
    signs = torch.randint(0, 2, (4096,), generator=drawing) * 2.0 - 1
    out = fastfood(x, signs, torch.randperm(4096, generator=drawing), torch.randn(4096, generator=drawing), 3000)
    assert out.norm() == pytest.approx(float(x.norm()), rel=0.1)

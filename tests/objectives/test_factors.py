"""Low-rank factors: what their papers promise of them."""

from __future__ import annotations

import pytest
import torch

from polm_bench.objectives.factors import positive, rank_for, refitted, scaled, whitened


@pytest.fixture
def problem():
    generator = torch.Generator().manual_seed(0)
    weight = torch.randn(6, 8, generator=generator).double()
    inputs = torch.randn(8, 40, generator=generator).double() * torch.arange(1, 9).double()[:, None]
    return weight, inputs


def test_the_rank_keeps_the_share_of_weights():
    assert rank_for(256, 256, 0.8) == 102  # 102 * 512 = 52224 of 52428.8
    assert rank_for(2, 2, 0.1) == 1


def test_dropping_singular_values_of_the_whitened_weight_costs_exactly_them(problem):
    weight, inputs = problem
    for rank in (5, 3, 1):
        found = whitened(weight, inputs @ inputs.T, rank)
        lost = torch.linalg.norm((weight - found.left @ found.right) @ inputs)
        assert lost.item() == pytest.approx(found.dropped.pow(2).sum().sqrt().item(), rel=1e-9)


def test_whitening_is_the_best_of_its_rank_and_plain_scaling_is_not(problem):
    weight, inputs = problem
    best = torch.linalg.svdvals(weight @ inputs)[3:].pow(2).sum()  # Eckart-Young on the outputs
    found = whitened(weight, inputs @ inputs.T, 3)
    assert torch.linalg.norm((weight - found.left @ found.right) @ inputs).pow(2).item() == pytest.approx(best.item())
    plain = scaled(weight, torch.ones(8), 3)
    assert torch.linalg.norm((weight - plain.left @ plain.right) @ inputs).pow(2) > best


def test_a_scaled_column_is_kept_before_the_others():
    weight = torch.eye(3)
    found = scaled(weight, torch.tensor([1.0, 10.0, 1.0]), 1)
    assert (found.left @ found.right).allclose(torch.diag(torch.tensor([0.0, 1.0, 0.0])).double(), atol=1e-12)


def test_full_rank_gives_the_weight_back(problem):
    weight, inputs = problem
    for found in (whitened(weight, inputs @ inputs.T, 6), scaled(weight, inputs.abs().mean(1), 6)):
        assert (found.left @ found.right).allclose(weight)
        assert len(found.dropped) == 0


def test_refitting_is_least_squares_on_the_new_inputs(problem):
    weight, inputs = problem
    drifted = inputs + torch.randn(8, 40, generator=torch.Generator().manual_seed(1)).double()
    found = whitened(weight, inputs @ inputs.T, 3)
    left = refitted(weight, found.right, drifted @ drifted.T)
    expected = torch.linalg.lstsq((found.right @ drifted).T, (weight @ drifted).T).solution.T
    assert left.allclose(expected)


def test_a_singular_gram_matrix_is_made_positive_and_another_stays():
    seen = torch.ones(4, 1).double()
    torch.linalg.cholesky(positive(seen @ seen.T))
    assert positive(torch.eye(3).double()).equal(torch.eye(3).double())

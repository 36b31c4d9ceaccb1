"""Rounding to few values: the grid, AWQ's search, and GPTQ's compensation."""

from __future__ import annotations

import pytest
import torch

from polm_bench.objectives.rounding import (
    awq_clipped,
    awq_scale,
    balance,
    compensated,
    divisors,
    error,
    grid,
    inverse_factor,
    orthogonal,
    range_scale,
    rounded,
    sensitivity,
    turned,
)


@pytest.fixture
def problem():
    generator = torch.Generator().manual_seed(0)
    weight = torch.randn(8, 16, generator=generator).double()
    inputs = torch.randn(16, 64, generator=generator).double()
    inputs[3] *= 30  # an outlier channel
    inputs[5] += inputs[4]  # correlated ones
    return weight, inputs @ inputs.T, inputs.abs().mean(1)


def test_the_ends_of_a_group_and_zero_lie_on_the_grid():
    weight = torch.tensor([[-1.0, 0.0, 0.4, 2.0]])
    assert rounded(weight, 2, 4).tolist() == [[-1.0, 0.0, 0.0, 2.0]]  # steps of 1


def test_groups_have_scales_of_their_own():
    weight = torch.tensor([[0.0, 3.0, 0.0, 30.0]])
    assert grid(weight, 2, 2).scale.tolist() == [[1.0, 10.0]]
    assert rounded(weight, 2, 2).equal(weight)


def test_only_channels_beyond_the_range_are_scaled_and_just_into_it():
    inputs = torch.tensor([[0.5, -8.0, 1.0], [-0.5, 2.0, 0.75]]).repeat(4, 1)
    scale = range_scale(inputs, torch.eye(3), bits=4, steps=4, least=1.0)
    assert scale[0] == 1
    tried = [8 / t for t in (8.0, 6.25, 4.5, 2.75)]
    assert min(abs(float(scale[1]) - s) for s in tried) < 1e-6
    assert scale[1] > 1


def test_a_range_is_chosen_that_costs_less_than_none(problem):
    weight, _, _ = problem
    inputs = torch.randn(64, 16, generator=torch.Generator().manual_seed(1)).double()
    inputs[:, 3] *= 30
    scale = range_scale(inputs, weight, bits=4, steps=20, least=0.1)

    def cost(scale):
        lost = rounded(inputs / scale, 4, 16) @ rounded(weight * scale, 4, 16).T - inputs @ weight.T
        return float(lost.square().sum())

    assert cost(scale) < cost(torch.ones(16))
    assert scale.argmax() == 3


def test_more_bits_cost_less(problem):
    weight, gram, _ = problem
    costs = [error(rounded(weight, bits, 8) - weight, gram).item() for bits in (2, 3, 4, 8)]
    assert costs == sorted(costs, reverse=True)


def test_scaling_by_activations_helps_where_a_channel_stands_out(problem):
    weight, gram, mean = problem
    scale = awq_scale([weight], gram, mean, 3, 8, 20)
    assert scale.argmax() == 3
    plain, better = (error(rounded(weight * s, 3, 8) / s - weight, gram) for s in (torch.ones(16), scale))
    assert better < plain


def test_clipping_is_never_worse_than_none_within_a_group(problem):
    weight, gram, _ = problem
    cut = awq_clipped(weight, gram, 3, 16, 20, 0.5)  # one group: its block of the gram matrix is all of it
    assert error(rounded(cut, 3, 16) - weight, gram) <= error(rounded(weight, 3, 16) - weight, gram)


def test_uncorrelated_inputs_need_no_compensation():
    weight = torch.randn(4, 8, generator=torch.Generator().manual_seed(0)).double()
    given = grid(weight, 3, 8)
    found = given.values(compensated(weight, inverse_factor(torch.eye(8).double(), 0.01), given).codes)
    assert found.allclose(rounded(weight, 3, 8))


def test_compensation_beats_rounding(problem):
    weight, gram, _ = problem
    given = grid(weight, 2, 16)
    found = given.values(compensated(weight, inverse_factor(gram, 0.01), given).codes)
    assert error(found - weight, gram) < error(rounded(weight, 2, 16) - weight, gram)


def test_the_second_column_takes_up_what_the_first_lost():
    """By hand (GPTQ, Eq. 2): with H = [[2, 1], [1, 2]] the second weight moves by what the first lost times H_12 / H_22 = 1 / 2."""
    gram = torch.tensor([[1.0, 0.5], [0.5, 1.0]]).double()
    given = grid(torch.tensor([[0.0, 3.0]]).double(), 2, 2)  # values 0, 1, 2, 3
    found = compensated(torch.tensor([[0.4, 0.35]]).double(), inverse_factor(gram, 0.0), given)
    assert found.codes.tolist() == [[0.0, 1.0]]  # 0.4 is lost, so 0.35 becomes 0.55; alone it would be 0
    assert found.weight[0, 1].item() == pytest.approx(0.55)


def test_a_column_that_is_not_rounded_takes_up_the_loss_of_all_others(problem):
    weight, gram, _ = problem
    given = grid(weight, 2, 16)
    found = compensated(weight, inverse_factor(gram, 0.0), given, rounds=15)
    whole = given.values(found.codes)
    whole[:, 15] = found.weight[:, 15]
    left = whole[:, :15] - weight[:, :15]
    best = weight[:, 15] - left @ gram[:15, 15] / gram[15, 15]  # least squares in the last column alone
    assert found.weight[:, 15].allclose(best)


def test_random_turns_are_orthogonal_and_undone_by_their_transpose(problem):
    weight, _, _ = problem
    generator = torch.Generator().manual_seed(0)
    first, second = orthogonal(2, generator), orthogonal(4, generator)
    assert (first @ first.T).allclose(torch.eye(2).double())
    there = turned(weight, first, second)
    assert there.allclose(torch.kron(first, second) @ weight)
    assert turned(there, first.T, second.T).allclose(weight)
    assert divisors(640) == (20, 32)


def test_turning_spreads_an_outlier():
    weight = torch.zeros(16, 16).double()
    weight[3, 5] = 1.0
    generator = torch.Generator().manual_seed(0)
    spread = turned(weight, *(orthogonal(4, generator) for _ in range(2)))
    assert spread.abs().max() < 0.9
    assert spread.norm().item() == pytest.approx(1.0)


def test_a_balanced_column_weighs_as_much_in_the_weight_as_in_the_input(problem):
    weight, gram, _ = problem
    scale = balance(weight, gram)
    assert (weight * scale).pow(2).sum(0).allclose(gram.diagonal() / gram.max() / scale**2)


def test_a_channel_that_is_never_seen_has_a_scale(problem):
    weight, gram, _ = problem
    gram[7], gram[:, 7] = 0.0, 0.0
    scale = balance(weight, gram)
    assert scale[7].item() == pytest.approx((1e-8 / weight[:, 7].pow(2).sum().item()) ** 0.25)


def test_the_column_with_the_loudest_input_is_the_most_sensitive(problem):
    weight, gram, _ = problem
    assert sensitivity(weight, rounded(weight, 3, 16), gram).argmax() == 3


@pytest.mark.slow
def test_it_is_what_llmcompressor_computes(problem):
    """The library's GPTQ of one weight, on the same grid (its zero points begin at -4)."""
    pytest.importorskip("llmcompressor")
    from compressed_tensors.quantization import QuantizationArgs
    from llmcompressor.modifiers.gptq.gptq_quantize import quantize_weight

    weight, gram, _ = problem
    given = grid(weight, 3, 16)
    how = QuantizationArgs(num_bits=3, type="int", strategy="group", group_size=16, symmetric=False)
    theirs, _, fallback = quantize_weight(
        weight.float()[None],
        (2 * gram).float()[None],
        given.scale.float()[None],
        given.zero.float()[None] - 4,
        None,
        how,
    )
    assert not fallback.any()
    ours = given.values(compensated(weight, inverse_factor(gram, 0.01), given).codes)
    assert theirs[0].double().allclose(ours, atol=1e-5)

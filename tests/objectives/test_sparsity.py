"""Scores and masks of pruning, on numbers to be checked by hand."""

from __future__ import annotations

import math

import pytest
import torch

from polm_bench.objectives.sparsity import (
    Fluctuation,
    adaptive,
    expected_nonzero,
    fluctuation,
    hard_concrete,
    keep_largest,
    principal,
    saliency,
    standardised,
    taylor,
)


def test_the_smallest_scores_go():
    mask = keep_largest(torch.tensor([[4.0, 1.0], [3.0, 2.0]]), 0.5)
    assert mask.tolist() == [[True, False], [True, False]]


def test_of_equal_scores_exactly_the_share_goes():
    assert keep_largest(torch.ones(10), 0.3).sum() == 7


def test_the_principal_direction_is_that_along_which_the_most_lies():
    signals = torch.tensor([[3.0, 3.0], [1.0, -1.0]])  # 18 along (1, 1), 2 along (1, -1)
    first, second = principal(signals.T @ signals, damping=0.01).T
    assert first.abs().tolist() == pytest.approx([0.5**0.5] * 2)
    assert first[0] == pytest.approx(float(first[1]))
    assert second[0] == pytest.approx(-float(second[1]))


def test_a_hard_concrete_number_is_stretched_and_cut():
    alpha = torch.tensor([0.0, math.log(3), -math.log(3), 5.0])
    z = hard_concrete(alpha, 0.5, low=-0.5, high=1.5)  # sigmoid: 1/2, 3/4, 1/4, nearly 1
    assert z.tolist() == pytest.approx([0.5, 1.0, 0.0, 1.0], abs=1e-6)


def test_it_is_not_zero_as_often_as_expected():
    alpha = torch.full((20_000,), 0.4)
    uniform = torch.rand(20_000, generator=torch.Generator().manual_seed(0))
    seen = (hard_concrete(alpha, uniform, -1.5, 1.2) > 0).float().mean().item()
    assert expected_nonzero(alpha[0], -1.5, 1.2).item() == pytest.approx(seen, abs=0.01)
    assert expected_nonzero(torch.tensor(0.0), -1.5, 1.5).item() == 0.5


def test_saliency_is_the_second_order_loss_of_a_quadratic():
    curvature, weight = torch.tensor([4.0, 1.0]), torch.tensor([1.0, 3.0])
    assert saliency(weight, curvature).tolist() == [2.0, 4.5]  # 0.5 h w^2: the second weight is worth more


def test_taylor_is_the_size_of_the_first_order_change():
    assert taylor(torch.tensor([2.0, -3.0]), torch.tensor([-1.0, 0.5])).tolist() == [2.0, 1.5]


def test_a_constant_input_can_go_whatever_its_weights():
    weight, variance = torch.tensor([[3.0, 1.0], [4.0, 0.0]]), torch.tensor([0.0, 2.0]).double()
    assert fluctuation(weight, variance).tolist() == [0.0, 2.0]


def test_standard_scores_have_mean_zero_and_deviation_one():
    found = standardised(torch.tensor([1.0, 2.0, 3.0]))
    assert found.tolist() == [-1.0, 0.0, 1.0]


def test_parts_are_kept_from_the_best_until_the_weights_are_spent():
    # two layers of one group that costs 2 channels, and two channels: 8 channels' worth in all, half of it stays
    layers = [
        Fluctuation(torch.tensor([3.0]), torch.tensor([2.0, -1.0])),
        Fluctuation(torch.tensor([-2.0]), torch.tensor([1.0, -3.0])),
    ]
    (first, second) = adaptive(layers, group_cost=2.0, sparsity=0.5)
    assert [mask.tolist() for mask in first] == [[True], [True, False]]
    assert [mask.tolist() for mask in second] == [
        [True],
        [True, False],
    ]  # its only group stays: no layer is left without


def test_a_threshold_over_all_layers_takes_more_from_the_flat_one():
    flat, steep = torch.tensor([0.0, 0.1, 0.2, 0.3]), torch.tensor([1.0, 2.0, 3.0, 4.0])
    one = torch.tensor([9.0])
    masks = adaptive([Fluctuation(one, flat), Fluctuation(one, steep)], group_cost=1.0, sparsity=0.4)
    assert [int(channels.sum()) for _, channels in masks] == [1, 4]


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
def test_the_share_is_met_to_a_weight(share):
    scores = torch.rand(37, 11, generator=torch.Generator().manual_seed(0))
    assert (~keep_largest(scores, share)).sum() == round(share * scores.numel())

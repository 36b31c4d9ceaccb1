"""Bradley-Terry against numbers worked by hand."""

from __future__ import annotations

import math

import pytest
from torch import tensor

from polm_bench.objectives.reward import BradleyTerry

PLAIN = BradleyTerry(centre=0.0, margin=0.0)
ONE = tensor([1.0])


def test_an_equal_pair_costs_log_two_whatever_the_share():
    for share in (0.0, 0.3, 1.0):
        assert PLAIN(tensor([3.0]), tensor([3.0]), tensor([share]), None).item() == pytest.approx(math.log(2))


def test_a_pair_worked_by_hand():
    assert PLAIN(tensor([math.log(3.0)]), tensor([0.0]), ONE, None).item() == pytest.approx(-math.log(0.75))
    half = PLAIN(tensor([math.log(3.0)]), tensor([0.0]), tensor([0.5]), None).item()
    assert half == pytest.approx(-(math.log(0.75) + math.log(0.25)) / 2)


def test_only_the_difference_of_rewards_counts_until_they_are_centred():
    for shift in (0.0, 5.0):
        moved = PLAIN(tensor([1.0 + shift]), tensor([0.0 + shift]), ONE, None)
        assert moved.item() == pytest.approx(math.log1p(math.exp(-1)))
    centred = BradleyTerry(centre=0.01, margin=0.0)(tensor([6.0]), tensor([5.0]), ONE, None)
    assert centred.item() == pytest.approx(math.log1p(math.exp(-1)) + 0.01 * 121)


def test_a_margin_must_be_passed_before_the_pair_is_free():
    loss = BradleyTerry(centre=0.0, margin=1.0)
    assert loss(tensor([2.0]), tensor([0.0]), ONE, tensor([2.0])).item() == pytest.approx(math.log(2))
    with pytest.raises(ValueError, match="margin"):
        loss(tensor([2.0]), tensor([0.0]), ONE, None)


def test_gradients_raise_the_first_and_lower_the_second():
    first, second = tensor([0.0], requires_grad=True), tensor([0.0], requires_grad=True)
    PLAIN(first, second, ONE, None).sum().backward()
    assert first.grad.item() == pytest.approx(-0.5)
    assert second.grad.item() == pytest.approx(0.5)

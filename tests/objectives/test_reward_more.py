"""Regularised and regressing reward losses against numbers worked by hand."""

from __future__ import annotations

import math

import pytest
from torch import tensor

from polm_bench.objectives.reward import KeepWriting, SquaredError


def test_grm_weighs_the_reward_and_the_writing():
    loss = KeepWriting(alpha=0.25, beta=0.5)
    writing = math.log1p(math.exp(1.0))  # -log sigmoid(0.5 * -2)
    assert loss(tensor([0.8]), tensor([-2.0])).item() == pytest.approx(0.75 * 0.8 + 0.25 * writing)


def test_grm_raises_the_log_prob_of_the_preferred_answer():
    logps = tensor([-2.0], requires_grad=True)
    KeepWriting(alpha=0.25, beta=0.5)(tensor([0.8]), logps).sum().backward()
    assert logps.grad.item() == pytest.approx(-0.25 * 0.5 * (1 - 1 / (1 + math.e)))


def test_a_surely_written_answer_leaves_the_reward_alone_with_its_share():
    assert KeepWriting(alpha=0.01, beta=0.1)(tensor([1.0]), tensor([0.0])).item() == pytest.approx(
        0.99 + 0.01 * math.log(2)
    )


def test_regression_costs_the_square_of_the_distance():
    rewards = tensor([1.0, -2.0], requires_grad=True)
    found = SquaredError()(rewards, tensor([3.0, -2.0]))
    assert found.tolist() == [4.0, 0.0]
    found.sum().backward()
    assert rewards.grad.tolist() == [-4.0, 0.0]

"""Advantages against numbers worked by hand."""

from __future__ import annotations

import pytest
import torch
from torch import tensor

from polm_bench.objectives.advantages import (
    GAE,
    BatchWhitened,
    GreedyBaseline,
    GroupRelative,
    LeaveOneOut,
    Scored,
    to_come,
)


def scored(scores, mask=None, penalty=None, group=1, **rest):
    mask = torch.ones(len(scores), 1, dtype=torch.bool) if mask is None else mask
    penalty = torch.zeros(mask.shape) if penalty is None else penalty
    return Scored(tensor(scores), penalty, mask, group, **rest)


def test_gae_of_three_tokens_worked_by_hand():
    """Deltas: 1*0.5 - 0.2 - 0.1 = 0.2, 0.4 - 0.5 - 0.1 = -0.2, 1.0 - 0.4 - 0.1 = 0.5; with gamma*lam = 0.5 backwards 0.5, 0.05, 0.225."""
    given = scored(
        [1.0],
        mask=torch.ones(1, 3, dtype=torch.bool),
        penalty=tensor([[0.1, 0.1, 0.1]]),
        values=tensor([[0.2, 0.5, 0.4]]),
    )
    found = GAE(gamma=1.0, lam=0.5, whiten=False)(given)
    assert found[0].tolist() == pytest.approx([0.225, 0.05, 0.5])


def test_gae_discounts_what_comes_later():
    given = scored([2.0], mask=torch.ones(1, 2, dtype=torch.bool), values=tensor([[0.0, 1.0]]))
    assert GAE(gamma=0.5, lam=1.0, whiten=False)(given)[0].tolist() == pytest.approx([1.0, 1.0])  # 0.5 + 0.5 * 1, 2 - 1


def test_gae_with_lambda_one_is_the_return_less_the_value():
    values = torch.rand(2, 4)
    mask = tensor([[True] * 4, [True, True, False, False]])
    found = GAE(gamma=1.0, lam=1.0, whiten=False)(scored([3.0, -1.0], mask=mask, values=values))
    torch.testing.assert_close(found, (tensor([[3.0], [-1.0]]) - values) * mask)


def test_gae_does_not_see_what_stands_on_padding():
    mask = tensor([[True, True, False]])
    some, other = (scored([1.0], mask=mask, values=tensor([[0.1, 0.2, junk]])) for junk in (0.0, 99.0))
    estimate = GAE(gamma=0.9, lam=0.9, whiten=False)
    assert estimate(some).equal(estimate(other))
    assert estimate(some)[0, 2] == 0


def test_whitened_advantages_have_mean_zero_and_variance_one_over_the_tokens():
    mask = torch.arange(6)[None] < tensor([[6], [3], [1]])
    given = scored([1.0, 0.0, 5.0], mask=mask, values=torch.rand(3, 6))
    found = GAE(gamma=1.0, lam=0.95, whiten=True)(given)[mask]
    assert found.mean().item() == pytest.approx(0, abs=1e-6)
    assert found.var(unbiased=False).item() == pytest.approx(1, abs=1e-3)


def test_leave_one_out_compares_with_the_mean_of_the_others():
    found = LeaveOneOut()(scored([1.0, 2.0, 6.0, 0.0, 0.0, 3.0], group=3))
    assert found[:, 0].tolist() == pytest.approx([-3.0, -1.5, 4.5, -1.5, -1.5, 3.0])


def test_leave_one_out_charges_the_whole_penalty_to_the_answer():
    mask = torch.ones(2, 2, dtype=torch.bool)
    found = LeaveOneOut()(scored([1.0, 1.0], mask=mask, penalty=tensor([[0.5, 0.5], [0.0, 0.0]]), group=2))
    assert found.tolist() == [[-1.0, -1.0], [1.0, 1.0]]


def test_group_relative_advantages_by_hand():
    given = scored([0.0, 1.0, 2.0, 5.0, 5.0, 5.0], group=3)
    assert GroupRelative(scale="none")(given)[:, 0].tolist() == pytest.approx([-1, 0, 1, 0, 0, 0])
    assert GroupRelative(scale="group")(given)[:, 0].tolist() == pytest.approx([-1, 0, 1, 0, 0, 0], abs=2e-4)
    spread = tensor([0.0, 1, 2, 5, 5, 5]).std().item()
    assert GroupRelative(scale="batch")(given)[2, 0].item() == pytest.approx(1 / spread, abs=1e-4)


def test_a_group_of_equal_rewards_teaches_nothing():
    for estimate in (GroupRelative(scale="group"), GroupRelative(scale="none"), LeaveOneOut()):
        assert not estimate(scored([0.7] * 4, group=4)).any()


def test_a_greedy_baseline_is_shared_by_the_answers_to_one_prompt():
    found = GreedyBaseline()(scored([1.0, 2.0, 3.0, 4.0], group=2, greedy=tensor([1.0, 5.0])))
    assert found[:, 0].tolist() == [0, 1, -2, -1]


def test_a_token_answers_for_its_own_and_later_penalties():
    assert to_come(tensor([[1.0, 2.0, 4.0]])).tolist() == [[7, 6, 4]]
    mask = torch.ones(1, 3, dtype=torch.bool)
    given = scored([10.0], mask=mask, penalty=tensor([[1.0, 2.0, 4.0]]), greedy=tensor([0.0]))
    assert GreedyBaseline()(given).tolist() == [[3, 4, 6]]


def test_batch_whitened_returns_forget_the_scale_of_the_reward():
    mask = torch.ones(3, 2, dtype=torch.bool)
    small, large = (BatchWhitened()(scored([s, 2 * s, 6 * s], mask=mask)) for s in (1.0, 1000.0))
    torch.testing.assert_close(small, large, atol=2e-4, rtol=1e-3)


@pytest.mark.parametrize("estimate", [GAE(gamma=1.0, lam=1.0, whiten=False), GreedyBaseline()])
def test_an_estimator_says_what_it_lacks(estimate):
    with pytest.raises(ValueError, match="needs"):
        estimate(scored([1.0]))

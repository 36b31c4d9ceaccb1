"""Closed forms, limits and gradients of the listwise objectives."""

from __future__ import annotations

import math

import pytest
import torch

from polm_bench.objectives import D2O, DPO, PRO, RRHF, TDPO1, TPO, WPO, LiPO, ListLogps, PairLogps, PlackettLuce, SimPO

LOG2 = math.log(2)


def lists(logps, scores, lengths=None, mask=None) -> ListLogps:
    logps = torch.tensor(logps, dtype=torch.float64, requires_grad=True)
    lengths = torch.ones(logps.shape, dtype=torch.int64) if lengths is None else torch.tensor(lengths)
    mask = torch.ones(logps.shape, dtype=torch.bool) if mask is None else torch.tensor(mask)
    return ListLogps(logps, lengths, torch.tensor(scores, dtype=torch.float64), mask)


def softplus(x: float) -> float:
    return math.log1p(math.exp(x))


ALL = [
    RRHF(rank_weight=1.0),
    PRO(sft_weight=0.05),
    LiPO(beta=0.5),
    PlackettLuce(beta=0.5),
    D2O(beta=0.5, alpha=0.25),
    TPO(pair=DPO(beta=0.5), sft_weight=1.0),
    TPO(pair=SimPO(beta=2.0, gamma=0.5), sft_weight=1.0),
]


def test_rrhf_charges_for_every_pair_the_wrong_way_round_and_trains_the_best():
    # Per token -2, -1, -3: the second stands above the first, by 1.
    policy = lists([[-4.0, -3.0, -3.0]], [[1.0, 0.5, 0.0]], lengths=[[2, 3, 1]])
    assert RRHF(rank_weight=0.5)(policy, None).item() == pytest.approx(0.5 * 1 + 2)


def test_rrhf_leaves_equal_scores_alone():
    policy = lists([[-4.0, -3.0]], [[1.0, 1.0]])
    assert RRHF(rank_weight=1.0)(policy, None).item() == pytest.approx(4.0)


def test_pro_tells_each_answer_from_those_after_it():
    # 1/T: 1 and 3 for the first answer, 2 for the second.
    policy = lists([[-1.0, -2.0, -0.5]], [[3.0, 2.0, 0.0]])
    first = math.log(math.exp(-3) + math.exp(-2) + math.exp(-1.5)) + 3
    second = math.log(math.exp(-4) + math.exp(-1)) + 4
    assert PRO(sft_weight=0.1)(policy, None).item() == pytest.approx(first + second + 0.1 * 4 * 1.0)


def test_pro_of_two_equal_answers_is_log_2_without_its_supervised_term():
    policy = lists([[-2.0, -2.0]], [[1.0, 0.0]])
    assert PRO(sft_weight=0.0)(policy, None).item() == pytest.approx(LOG2)


def test_lipo_weighs_a_pair_by_its_gains_and_places():
    # Rewards 0.5 * (0, 2, -2): places 2, 1, 3.
    policy, reference = (lists([row], [[1.0, 0.5, 0.0]]) for row in ([-3.0, -1.0, -6.0], [-3.0, -3.0, -4.0]))
    s, gain = [0.0, 1.0, -1.0], [2.0, 2**0.5, 1.0]
    discount = [1 / math.log(1 + place) for place in (2, 1, 3)]
    expected = sum(
        abs(gain[i] - gain[j]) * abs(discount[i] - discount[j]) * softplus(s[j] - s[i])
        for i, j in ((0, 1), (0, 2), (1, 2))
    )
    assert LiPO(beta=0.5)(policy, reference).item() == pytest.approx(expected)


def test_plackett_luce_is_the_chance_of_this_order():
    # Rewards 1, 0, -1.
    policy, zero = lists([[2.0, 0.0, -2.0]], [[3.0, 2.0, 1.0]]), lists([[0.0] * 3], [[3.0, 2.0, 1.0]])
    first = math.e / (math.e + 1 + 1 / math.e)
    second = 1 / (1 + 1 / math.e)
    assert PlackettLuce(beta=0.5)(policy, zero).item() == pytest.approx(-math.log(first * second))


def test_plackett_luce_of_equal_answers_is_the_log_of_the_number_of_orders():
    same = lists([[-3.0, -3.0, -3.0, -3.0]], [[4.0, 3.0, 2.0, 1.0]])
    assert PlackettLuce(beta=0.5)(same, same).item() == pytest.approx(math.log(24))
    assert PlackettLuce(beta=1e-9)(
        lists([[5.0, -3.0, 9.0]], [[3.0, 2.0, 1.0]]), lists([[0.0] * 3], [[3.0, 2.0, 1.0]])
    ).item() == pytest.approx(math.log(6))


def test_plackett_luce_of_two_answers_is_dpo():
    policy, reference = lists([[-5.0, -7.0]], [[1.0, 0.0]]), lists([[-8.0, -6.0]], [[1.0, 0.0]])
    ones = torch.ones(1)
    pair, other = (PairLogps(view.logps[:, 0], view.logps[:, 1], ones, ones) for view in (policy, reference))
    assert PlackettLuce(beta=0.5)(policy, reference).item() == pytest.approx(DPO(beta=0.5)(pair, other).item())


def test_d2o_sets_the_mean_of_own_answers_against_the_rejected_one():
    # Log-ratios 1 and 3 of own answers, -2 of the rejected one.
    policy, zero = lists([[1.0, 3.0, -2.0]], [[1.0, 1.0, 0.0]]), lists([[0.0] * 3], [[1.0, 1.0, 0.0]])
    expected = softplus(-(0.5 * 2 + 0.25 * 2))
    assert D2O(beta=0.5, alpha=0.25)(policy, zero).item() == pytest.approx(expected)


def test_tpo_prefers_the_second_to_the_worst_and_trains_the_best():
    policy = lists([[-4.0, -3.0, -5.0, -9.0]], [[3.0, 2.0, 1.0, 0.0]], lengths=[[2, 3, 1, 4]])
    found = TPO(pair=DPO(beta=0.5), sft_weight=0.1)(policy, None)
    assert found.item() == pytest.approx(softplus(-0.5 * (9 - 3)) + 0.1 * 4 / 2)
    found.sum().backward()
    assert policy.logps.grad[0, 2] == 0  # neither best nor next nor worst
    per_token = TPO(pair=SimPO(beta=2.0, gamma=0.5), sft_weight=0.0)(policy, None)
    assert per_token.item() == pytest.approx(softplus(-(2 * (-3 / 3 + 9 / 4) - 0.5)))


def test_tpo_of_two_answers_prefers_the_best_that_it_trains():
    policy = lists([[-4.0, -3.0, 0.0]], [[1.0, 0.0, 0.0]], mask=[[True, True, False]])
    assert TPO(pair=DPO(beta=0.5), sft_weight=0.0)(policy, None).item() == pytest.approx(softplus(0.5))


@pytest.mark.parametrize("pair", [WPO(beta=0.1), TDPO1(beta=0.1)], ids=lambda value: type(value).__name__)
def test_tpo_takes_no_pair_that_reads_more_than_log_probs(pair):
    with pytest.raises(ValueError, match="reads more than log-probs of a pair"):
        TPO(pair=pair, sft_weight=1.0)


@pytest.mark.parametrize("objective", ALL, ids=lambda value: type(value).__name__)
def test_a_missing_answer_changes_nothing(objective):
    scores = [[1.0, 0.6, 0.0]]
    policy, reference = lists([[-4.0, -2.0, -1.0]], scores), lists([[-3.0, -2.5, -2.0]], scores)
    mask = [[True, True, True, False, False]]
    wide = [
        lists([[*row, 0.0, 0.0]], [[*scores[0], 0.0, 0.0]], mask=mask)
        for row in ([-4.0, -2.0, -1.0], [-3.0, -2.5, -2.0])
    ]
    needed = objective.needs_reference
    short, padded = objective(policy, reference if needed else None), objective(wide[0], wide[1] if needed else None)
    assert padded.item() == pytest.approx(short.item())
    short.sum().backward()
    padded.sum().backward()
    assert wide[0].logps.grad[0, :3].tolist() == pytest.approx(policy.logps.grad[0].tolist())
    assert wide[0].logps.grad[0, 3:].tolist() == [0.0, 0.0]
    found = objective.metrics(wide[0], wide[1] if needed else None)
    expected = objective.metrics(policy, reference if needed else None)
    assert {key: value.tolist() for key, value in found.items()} == {
        key: pytest.approx(value.tolist()) for key, value in expected.items()
    }


@pytest.mark.parametrize("objective", ALL, ids=lambda value: type(value).__name__)
def test_the_best_answer_gains_and_the_worst_loses(objective):
    scores = [[1.0, 0.5, 0.0]]
    policy, reference = lists([[-4.0, -2.0, -1.0]], scores), lists([[-3.0, -2.5, -2.0]], scores)
    objective(policy, reference if objective.needs_reference else None).sum().backward()
    assert policy.logps.grad[0, 0] < 0
    assert policy.logps.grad[0, -1] > 0


@pytest.mark.parametrize("objective", [LiPO(beta=0.5), PlackettLuce(beta=0.5)], ids=lambda value: type(value).__name__)
def test_rewards_may_shift_together(objective):
    scores, zero = [[1.0, 0.5, 0.0]], lists([[0.0] * 3], [[1.0, 0.5, 0.0]])
    one, other = (objective(lists([row], scores), zero) for row in ([-4.0, -2.0, -1.0], [3.0, 5.0, 6.0]))
    assert one.item() == pytest.approx(other.item())


def test_accuracy_is_the_share_of_pairs_in_order():
    policy = lists([[-4.0, -2.0, -5.0]], [[1.0, 0.5, 0.0]])
    assert RRHF(rank_weight=1.0).metrics(policy, None)["reward_accuracy"].item() == pytest.approx(2 / 3)

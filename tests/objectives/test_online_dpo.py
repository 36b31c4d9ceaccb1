"""Online DPO as a policy gradient: the same gradient as DPO's loss on the best and the worst answer, and nothing for the others."""

from __future__ import annotations

import pytest
import torch
from torch import tensor

from polm_bench.objectives import DPO, PairLogps
from polm_bench.objectives.advantages import OnlineDPO, Scored
from polm_bench.objectives.ppo import Reinforce, TokenLogps

BETA = 0.1
LOSS = Reinforce(average="answer", kl=0.0, entropy=0.0)


def answers(prompts: int, group: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Log-probs of sampled tokens under policy and reference [N, T], and the mask of their places."""
    random = torch.Generator().manual_seed(0)
    shape = (prompts * group, 5)
    mask = torch.arange(5) < torch.randint(1, 6, (shape[0], 1), generator=random)
    policy, reference = (-3 * torch.rand(shape, generator=random) * mask for _ in range(2))
    return policy.requires_grad_(), reference, mask


def policy_gradient(policy, reference, mask, scores, group):
    penalty = (policy.detach() - reference) * mask
    advantages = OnlineDPO(beta=BETA)(Scored(scores, penalty, mask, group))
    costs = LOSS.costs(TokenLogps(policy, policy.detach(), reference, None, mask), advantages)
    (costs * LOSS.weights(mask, 5)).sum().backward()
    return policy.grad.clone()


@pytest.mark.parametrize("group", [2, 4])
def test_its_gradient_is_that_of_dpo_on_the_best_and_the_worst(group):
    policy, reference, mask = answers(3, group)
    scores = torch.rand(3 * group, generator=torch.Generator().manual_seed(1))
    ours = policy_gradient(policy, reference, mask, scores, group)
    rows = torch.arange(3) * group
    best, worst = rows + scores.view(3, group).argmax(1), rows + scores.view(3, group).argmin(1)
    policy.grad = None
    sums, known, lengths = (policy * mask).sum(1), (reference * mask).sum(1), mask.sum(1)
    pair = PairLogps(sums[best], sums[worst], lengths[best], lengths[worst])
    DPO(beta=BETA)(pair, pair._replace(chosen=known[best], rejected=known[worst])).mean().backward()
    assert ours == pytest.approx(policy.grad, abs=1e-7)


def test_a_pair_worked_by_hand():
    mask = torch.ones(2, 1, dtype=torch.bool)
    found = OnlineDPO(beta=0.5)(Scored(tensor([0.0, 1.0]), tensor([[2.0], [0.0]]), mask, 2))
    pull = 0.5 * torch.sigmoid(tensor(1.0)).item() * 2  # h = 0.5 * (0 - 2)
    assert found[:, 0].tolist() == pytest.approx([-pull, pull])


def test_answers_of_one_reward_teach_nothing():
    mask = torch.ones(2, 3, dtype=torch.bool)
    assert not OnlineDPO(beta=0.1)(Scored(tensor([0.5, 0.5]), torch.zeros(2, 3), mask, 2)).any()


def test_an_answer_counts_as_the_sum_of_its_tokens():
    mask = tensor([[True, True, False], [True, True, True]])
    assert LOSS.weights(mask, 99).tolist() == [[0.5, 0.5, 0.0], [0.5, 0.5, 0.5]]

"""Policy losses: closed forms, limits, masking, the bias of KL estimators, and a bandit with a known optimum."""

from __future__ import annotations

import math

import pytest
import torch
from torch import tensor

from polm_bench.objectives.advantages import GAE, Scored
from polm_bench.objectives.ppo import Clipped, ClippedWeight, Critic, Reinforce, TokenLogps, kl


def logps(policy, old=None, reference=None, entropy=None, mask=None):
    policy = torch.as_tensor(policy)
    old = policy.detach() if old is None else torch.as_tensor(old)
    mask = torch.ones(policy.shape, dtype=torch.bool) if mask is None else mask
    return TokenLogps(policy, old, reference, entropy, mask)


def clipped(ratio="token", average="token", kl=0.0, entropy=0.0, low=0.2, high=0.2):
    return Clipped(average=average, kl=kl, entropy=entropy, low=low, high=high, ratio=ratio)


@pytest.mark.parametrize(
    ("ratio", "advantage", "cost"),
    [(1.1, 2.0, -2.2), (1.5, 2.0, -2.4), (0.5, 2.0, -1.0), (0.5, -2.0, 1.6), (1.5, -2.0, 3.0)],
)
def test_the_clipped_surrogate_is_the_worse_of_the_two(ratio, advantage, cost):
    found = clipped().costs(logps([[math.log(ratio)]], [[0.0]]), tensor([[advantage]]))
    assert found.item() == pytest.approx(cost)


def test_the_two_bounds_are_apart():
    loss = clipped(high=0.28)
    found = loss.costs(logps([[math.log(2.0), math.log(0.1)]], [[0.0, 0.0]]), tensor([[1.0, -1.0]]))
    assert found.tolist() == [[pytest.approx(-1.28), pytest.approx(0.8)]]


def test_beyond_the_bound_there_is_no_gradient_but_a_clipped_weight_keeps_one():
    for loss, moves in (
        (clipped(), False),
        (ClippedWeight(average="token", kl=0.0, entropy=0.0, high=1.2), True),
    ):
        policy = tensor([[1.0]], requires_grad=True)
        loss.costs(logps(policy, [[0.0]]), tensor([[1.0]])).sum().backward()
        assert (policy.grad.item() != 0) is moves


def test_on_the_samples_own_policy_every_surrogate_is_reinforce():
    advantages = tensor([[1.0, 1.0, 1.0], [-2.0, -2.0, -2.0]])
    grads = []
    for loss in (
        clipped(average="token"),
        ClippedWeight(average="token", kl=0.0, entropy=0.0, high=5.0),
        Reinforce(average="token", kl=0.0, entropy=0.0),
    ):
        policy = tensor([[-1.0, -2.0, -3.0], [-0.5, -0.1, -4.0]], requires_grad=True)
        view = logps(policy)
        (loss.costs(view, advantages) * loss.weights(view.mask, 3)).sum().backward()
        grads.append(policy.grad)
    torch.testing.assert_close(grads[0], -advantages / 6)
    torch.testing.assert_close(grads[1], grads[0])
    torch.testing.assert_close(grads[2], grads[0])


def test_the_whole_answers_ratio_is_the_product_and_the_sequences_its_geometric_mean():
    view = logps([[0.1, 0.3]], [[0.0, 0.0]])
    one = tensor([[1.0, 1.0]])
    assert clipped("answer", low=9, high=9).costs(view, one)[0, 0].item() == pytest.approx(-math.exp(0.4))
    assert clipped("sequence", low=9, high=9).costs(view, one)[0, 1].item() == pytest.approx(-math.exp(0.2))


def test_weights_of_the_three_averages():
    mask = tensor([[True, True, True], [True, False, False]])
    found = {kind: clipped(average=kind).weights(mask, 10) for kind in ("sequence", "token", "length")}
    assert found["sequence"].tolist() == [[pytest.approx(1 / 6)] * 3, [0.5, 0, 0]]
    assert found["token"].tolist() == [[0.25] * 3, [0.25, 0, 0]]
    assert found["length"].tolist() == [[pytest.approx(0.05)] * 3, [pytest.approx(0.05), 0, 0]]


def test_padding_has_no_part_in_any_loss():
    mask = tensor([[True, False]])
    for loss in (clipped("sequence"), clipped("answer"), clipped(kl=0.1)):
        costs = []
        for junk in (0.0, -7.0):
            view = logps([[-1.0, junk]], [[-1.2, -0.3]], tensor([[-1.1, 0.0]]), mask=mask)
            costs.append((loss.costs(view, tensor([[1.0, 1.0]])) * loss.weights(mask, 2)).sum())
        assert costs[0].item() == pytest.approx(costs[1].item())


def test_a_loss_says_what_it_lacks():
    with pytest.raises(ValueError, match="needs a reference"):
        clipped(kl=0.1).costs(logps([[0.0]]), tensor([[1.0]]))
    with pytest.raises(ValueError, match="needs the entropy"):
        clipped(entropy=0.1).costs(logps([[0.0]]), tensor([[1.0]]))


def test_k1_and_k3_are_unbiased_and_k2_is_not():
    p, q = tensor([0.7, 0.2, 0.1]), tensor([0.2, 0.3, 0.5])
    truth = (p * (p / q).log()).sum()
    expected = {name: (p * kl(p.log(), q.log(), name)).sum() for name in ("k1", "k2", "k3")}
    assert expected["k1"].item() == pytest.approx(truth.item())
    assert expected["k3"].item() == pytest.approx(truth.item())
    assert abs(expected["k2"].item() - truth.item()) > 0.05
    assert (kl(p.log(), q.log(), "k3") >= 0).all()
    assert (kl(p.log(), q.log(), "k1") < 0).any()
    # k3 varies less than k1 where the two are close
    near = (0.9 * p + 0.1 * q).log()
    spread = {name: (p * kl(p.log(), near, name).square()).sum() for name in ("k1", "k3")}
    assert spread["k3"] < spread["k1"]


def test_the_critics_clip_keeps_the_worse_of_the_two_squares():
    critic = Critic(weight=1.0, clip=0.2, own=True)
    old, returns = tensor([[0.0, 0.0]]), tensor([[1.0, 1.0]])
    found = critic.costs(tensor([[0.9, 0.1]]), old, returns)
    assert found[0].tolist() == pytest.approx([0.8**2 / 2, 0.9**2 / 2])
    assert Critic(weight=1.0, clip=None, own=True).costs(tensor([[0.9, 0.1]]), old, returns)[
        0, 0
    ].item() == pytest.approx(0.005)


def test_ppo_with_a_kl_penalty_finds_the_known_optimum_of_a_bandit():
    """The best policy under reward r and penalty beta is proportional to reference * exp(r / beta) (Rafailov et al. 2023, Eq. 4)."""
    beta, reward = 0.5, tensor([0.0, 0.5, 1.0])
    reference = tensor([0.5, 0.3, 0.2]).log()
    best = (reference + reward / beta).softmax(0)
    generator = torch.Generator().manual_seed(0)
    theta, value = reference.clone().requires_grad_(), torch.zeros(1, requires_grad=True)
    optimiser = torch.optim.Adam([theta, value], lr=0.02)
    loss, critic, estimate = (
        clipped(average="token"),
        Critic(weight=0.5, clip=None, own=False),
        GAE(gamma=1.0, lam=0.95, whiten=False),
    )
    for _ in range(150):
        with torch.no_grad():
            known = theta.log_softmax(0)
            arms = torch.multinomial(known.exp(), 512, replacement=True, generator=generator)
            old, mask = known[arms][:, None], torch.ones(512, 1, dtype=torch.bool)
            values = value.detach().expand(512, 1)
            given = Scored(reward[arms], beta * kl(old, reference[arms][:, None], "k1"), mask, 1, values)
            advantages, returns = estimate(given), values + estimate.raw(given)
        for _ in range(2):
            view = TokenLogps(theta.log_softmax(0)[arms][:, None], old, None, None, mask)
            total = (loss.costs(view, advantages) * loss.weights(mask, 1)).sum()
            total = total + critic.weight * critic.costs(value.expand(512, 1), values, returns).mean()
            optimiser.zero_grad()
            total.backward()
            optimiser.step()
    torch.testing.assert_close(theta.detach().softmax(0), best, atol=0.03, rtol=0)
    # at the optimum every arm's reward less its penalty is the same: the value is beta * log sum reference * exp(r / beta)
    assert value.item() == pytest.approx((beta * torch.logsumexp(reference + reward / beta, 0)).item(), abs=0.05)

"""Editing's arithmetic against closed forms."""

from __future__ import annotations

import math

import pytest
import torch

from polm_bench.objectives.editing import (
    Likelihood,
    OverTone,
    PatchLoss,
    essence_drift,
    ngram_entropy,
    rank_one,
    spread,
)


def test_likelihood_of_a_fair_choice_of_four_is_two_bits():
    assert Likelihood()(torch.zeros(1, 4), torch.tensor([2])).item() == pytest.approx(2 * math.log(2))


def test_overtone_asks_for_the_token_alone_while_the_model_prefers_another():
    loss = OverTone(mix=0.1, sigmas=10.0, floor=0.0)
    wrong = torch.tensor([[3.0, 0.0, 0.0]])
    assert loss.target(wrong, torch.tensor([1]))[0].tolist() == [0.0, 1.0, 0.0]
    assert torch.allclose(loss(wrong, torch.tensor([1])), Likelihood()(wrong, torch.tensor([1])))


def test_overtone_follows_the_model_once_it_agrees():
    loss = OverTone(mix=0.1, sigmas=10.0, floor=0.0)
    right = torch.tensor([[0.6, 0.3, 0.1]]).log()
    assert loss.target(right, torch.tensor([0]))[0].tolist() == pytest.approx([0.1 + 0.9 * 0.6, 0.27, 0.09])


def test_overtone_leaves_unlikely_tokens_out_of_the_target():
    loss = OverTone(mix=0.5, sigmas=1.0, floor=0.0)
    logits = torch.tensor([[2.0, 1.5, -5.0, -5.0]])  # the standard deviation is about 3.9
    target = loss.target(logits, torch.tensor([0]))[0]
    assert target[2:].tolist() == [0.0, 0.0]
    assert target.sum().item() == pytest.approx(1.0)


def test_overtone_has_no_gradient_once_a_token_is_fitted_well_enough():
    logits = torch.tensor([[4.0, 0.0, 0.0]], requires_grad=True)
    loss = OverTone(mix=0.1, sigmas=10.0, floor=0.05)
    loss(logits, torch.tensor([0])).sum().backward()
    assert logits.grad is not None
    assert logits.grad.abs().max() == 0


def test_drift_is_measured_from_what_the_edited_model_says():
    """KL(after || before): ROME, Eq. 4."""
    even, sure = torch.tensor([[0.5, 0.5]]).log(), torch.tensor([[0.99, 0.01]]).log()
    assert essence_drift(sure, even).item() == pytest.approx(0.99 * math.log(1.98) + 0.01 * math.log(0.02))
    assert essence_drift(even, sure).item() == pytest.approx(0.5 * math.log(0.5 / 0.99) + 0.5 * math.log(50))


def test_a_rank_one_change_writes_the_value_and_leaves_orthogonal_keys_alone():
    torch.manual_seed(0)
    weight, key, value = torch.randn(4, 6), torch.randn(6), torch.randn(4)
    moment = torch.eye(6)
    change = rank_one(weight, key, value, moment)
    assert torch.allclose((weight + change) @ key, value, atol=1e-5)
    other = torch.randn(6)
    other -= key * (other @ key) / (key @ key)
    assert torch.allclose(change @ other, torch.zeros(4), atol=1e-5)
    assert torch.linalg.matrix_rank(change) == 1


def test_a_rank_one_change_is_the_smallest_in_the_norm_of_the_other_keys():
    """ROME minimises |dW C^(1/2)| subject to (W + dW) k = v: any other change that writes the value has a larger norm."""
    torch.manual_seed(1)
    keys = torch.randn(50, 5)
    moment = keys.T @ keys / 50
    weight, key, value = torch.zeros(3, 5), torch.randn(5), torch.randn(3)
    change = rank_one(weight, key, value, moment)
    null = torch.randn(3, 5)
    null -= torch.outer(null @ key, key) / (key @ key)  # writes nothing at the key
    sizes = [torch.trace(other @ moment @ other.T) for other in (change, change + 0.1 * null, change - 0.1 * null)]
    assert sizes[0] < min(sizes[1:])


def test_spread_solves_memits_normal_equations():
    torch.manual_seed(2)
    keys, residuals, old = torch.randn(6, 3), torch.randn(4, 3), torch.randn(40, 6)
    moment, weight = old.T @ old / 40, 7.0
    change = torch.zeros(4, 6, requires_grad=True)
    found = spread(keys, residuals, moment, weight).float()
    loss = (change @ keys - residuals).square().sum() + weight * torch.trace(change @ moment @ change.T)
    (gradient,) = torch.autograd.grad(loss, change)
    assert torch.allclose(gradient, -2 * residuals @ keys.T, atol=1e-4)  # at zero
    at = found.clone().requires_grad_()
    loss = (at @ keys - residuals).square().sum() + weight * torch.trace(at @ moment @ at.T)
    (gradient,) = torch.autograd.grad(loss, at)
    assert torch.allclose(gradient, torch.zeros_like(gradient), atol=1e-4)


def test_spread_with_no_other_text_writes_all_residuals():
    torch.manual_seed(3)
    keys, residuals = torch.randn(6, 3), torch.randn(4, 3)
    change = spread(keys, residuals, torch.eye(6), 1e-9).float()
    assert torch.allclose(change @ keys, residuals, atol=1e-4)


def test_a_text_that_repeats_itself_has_no_entropy():
    assert ngram_entropy(["word"] * 20) == 0
    # eight different words: seven pairs and six triples, all different
    assert ngram_entropy(list("abcdefgh")) == pytest.approx((2 / 3 * math.log2(7) + 4 / 3 * math.log2(6)) / 2)
    assert ngram_entropy(["one"]) == 0


def test_a_patch_costs_by_hand():
    """Two patches, three memories, the two largest of each count."""
    loss = PatchLoss(active=2.0, memory=10.0, quiet=-3.0, margin=3.0, own_top=5, memory_top=2)
    own, other = torch.tensor([1.0, 0.0]), torch.tensor([[-3.0, -9.0], [-9.0, -4.0], [-9.0, -9.0]])
    activation = (math.exp(-1) + 1) / 2
    loud, near = (math.exp(0) + math.exp(-1)) / 2, (math.exp(-3 - 1 + 3) + math.exp(-4 - 0 + 3)) / 2
    assert loss.activation(own).item() == pytest.approx(activation)
    assert loss.disturbance(own, other).item() == pytest.approx(loud + near)
    assert loss(own, other).item() == pytest.approx(2 * activation + 10 * (loud + near))

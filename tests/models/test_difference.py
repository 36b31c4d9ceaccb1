"""A sparse difference under a learned mask, and the plain model it ends as."""

from __future__ import annotations

import math

import pytest
import torch
from tests.models.test_adapter import logits

from polm_bench.errors import BadBudget
from polm_bench.models.difference import DiffPruning
from polm_bench.models.load import load_model
from polm_bench.models.reparameterized import Difference
from polm_bench.models.tuning import Training

DIFF = DiffPruning(density=0.01, share=0.5, l0=2.0, alpha=5.0, alpha_rate=400, low=-1.5, high=1.5)


@pytest.fixture
def toy(toy_model):
    torch.manual_seed(0)
    return load_model(toy_model)


def parts(model):
    return [module for module in model.modules() if isinstance(module, Difference)]


def changed(model, std=0.01):
    with torch.no_grad():
        for part in parts(model):
            part.change.normal_(std=std)
    return model


def test_it_starts_as_the_model_whatever_mask_is_drawn(toy):
    before = logits(toy)
    model = DIFF.attach(toy)
    assert logits(model).equal(before)
    assert not logits(changed(model)).equal(logits(model))  # another mask for each forward pass


def test_the_penalty_is_the_expected_share_of_changed_weights(toy):
    model = DIFF.attach(toy)
    assert DIFF.penalty(model).item() == pytest.approx(2.0 / (1 + math.exp(-5)), rel=1e-5)


def test_after_its_share_of_the_steps_the_largest_changes_stay(toy, toy_model):
    model = changed(DIFF.attach(toy))
    sizes = torch.cat([part.change.detach().abs().flatten() for part in parts(model)])
    DIFF.begin(model, Training(steps=10, accumulation=1, timed=False, seen=[]))
    for step in range(4):
        DIFF.after_step(model, step)
    assert all(part.mask is None for part in parts(model))
    DIFF.after_step(model, 4)
    kept = torch.cat([part.mask.flatten() for part in parts(model)])
    count = int(0.01 * len(sizes))
    assert kept.sum() == count == DIFF.trained(model)
    assert sizes[kept == 1].min() >= sizes[kept == 0].max()  # masks of log odds 5 are ones
    assert DIFF.penalty(model) is None
    said = logits(model)
    assert logits(model).equal(said)  # nothing is drawn any more
    DIFF.finish(model)
    assert logits(model).equal(said)
    moved = [
        (after != before).sum().item()
        for after, before in zip(model.parameters(), load_model(toy_model).parameters(), strict=True)
    ]
    assert 0.99 * count <= sum(moved) <= count  # a change below a weight's last digit is lost


def test_a_fixed_mask_comes_back_with_a_checkpoint(toy, toy_model):
    model = changed(DIFF.attach(toy))
    DIFF.fix(model)
    again = DIFF.attach(load_model(toy_model))
    DIFF.restore(again, DIFF.state(model))
    assert logits(again).equal(logits(model))


def test_the_mask_learns_at_a_rate_of_its_own_and_seconds_are_refused(toy):
    assert DIFF.rate("model.norm.parametrizations.weight.0.alpha") == 400
    assert DIFF.rate("model.norm.parametrizations.weight.0.change") == 1
    with pytest.raises(BadBudget, match="give steps or tokens"):
        DIFF.begin(toy, Training(steps=9, accumulation=1, timed=True, seen=[]))

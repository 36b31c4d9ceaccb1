"""The learning rate over a budget."""

from __future__ import annotations

import pytest
import torch
from transformers import get_scheduler

from polm_bench.trainers.optim import Optim


@pytest.mark.parametrize("name", ["linear", "cosine", "constant_with_warmup"])
def test_a_share_of_the_budget_has_the_rate_that_transformers_gives_to_that_share_of_the_steps(name):
    optimiser = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=3e-4)
    scheduler = get_scheduler(name, optimiser, num_warmup_steps=5, num_training_steps=50)
    theirs = []
    for _ in range(51):
        theirs.append(optimiser.param_groups[0]["lr"])
        optimiser.step()
        scheduler.step()
    ours = Optim(lr=3e-4, schedule=name, warmup=0.1)
    assert [ours.rate(step / 50, ours.lr) for step in range(51)] == pytest.approx(theirs, abs=1e-12)
    assert [ours.rate(step / 50) for step in range(51)] == pytest.approx([rate / 3e-4 for rate in theirs], abs=1e-9)


def test_what_is_spent_beyond_the_budget_has_the_last_rate():
    assert Optim(lr=1.0, schedule="linear", warmup=0.0).rate(1.2) == 0.0

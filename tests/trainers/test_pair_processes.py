"""The pair trainer on two processes."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch
from tests.run import crew

BATCHES = [[0, 1], [2, 3], [4, 5], [6, 7], [8, 9], [10, 11], [12, 13], [14, 15]]


def measure(folder: str, accumulation: int) -> dict:
    """Losses and gradients of two steps of 8 rows each."""
    from tests.trainers.test_pair import losses, pair_rows, toy_model, train, with_reference

    from polm_bench.objectives import KTO

    rows = with_reference(pair_rows(16), toy_model(seed=1))
    objective = KTO(beta=0.1, desirable_weight=1.0, undesirable_weight=1.5)
    trainer, gradients = train(Path(folder), toy_model().double(), rows, BATCHES, objective, accumulation)
    kl = [entry["kl"] for entry in trainer.state.log_history if "kl" in entry]
    return {"processes": trainer.accelerator.num_processes, "losses": losses(trainer), "kl": kl, "gradients": gradients}


def one_of_two(folder: str) -> None:
    found = measure(folder, accumulation=2)
    if os.environ["RANK"] == "0":
        torch.save(found, Path(folder) / "found.pt")


@pytest.mark.slow
def test_two_processes_give_the_gradient_of_one(tmp_path):
    crew.by_two(one_of_two, str(tmp_path))
    two, one = torch.load(tmp_path / "found.pt"), measure(str(tmp_path), accumulation=4)
    assert (one["processes"], two["processes"]) == (1, 2)
    assert len(one["losses"]) == 2
    assert two["losses"] == pytest.approx(one["losses"], rel=1e-6)
    assert two["kl"] == pytest.approx(one["kl"], rel=1e-6)
    for mine, theirs in zip(two["gradients"], one["gradients"], strict=True):
        assert (mine - theirs).abs().max() <= 1e-9 * theirs.abs().max()

"""The pair trainer on two processes."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).parents[2]
BATCHES = [[0, 1], [2, 3], [4, 5], [6, 7], [8, 9], [10, 11], [12, 13], [14, 15]]
WORKER = """
import os, sys, torch
from tests.trainers.test_pair_processes import measure
found = measure(sys.argv[1], accumulation=2)
if os.environ["RANK"] == "0":
    torch.save(found, sys.argv[1] + "/found.pt")
"""


def measure(folder: str, accumulation: int) -> dict:
    """Losses and gradients of two steps of 8 rows each."""
    from tests.trainers.test_pair import losses, pair_rows, toy_model, train, with_reference

    from polm_bench.objectives import KTO

    rows = with_reference(pair_rows(16), toy_model(seed=1))
    objective = KTO(beta=0.1, desirable_weight=1.0, undesirable_weight=1.5)
    trainer, gradients = train(Path(folder), toy_model().double(), rows, BATCHES, objective, accumulation)
    kl = [entry["kl"] for entry in trainer.state.log_history if "kl" in entry]
    return {"processes": trainer.accelerator.num_processes, "losses": losses(trainer), "kl": kl, "gradients": gradients}


@pytest.mark.slow
def test_two_processes_give_the_gradient_of_one(tmp_path):
    (tmp_path / "worker.py").write_text(WORKER)
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    paths = os.pathsep.join([str(ROOT), str(ROOT / "src")])
    subprocess.run(
        [*launch, str(tmp_path / "worker.py"), str(tmp_path)],
        env={**os.environ, "PYTHONPATH": paths, "OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "lo"},
        check=True,
        capture_output=True,
        text=True,
        timeout=300,
    )
    two, one = torch.load(tmp_path / "found.pt"), measure(str(tmp_path), accumulation=4)
    assert (one["processes"], two["processes"]) == (1, 2)
    assert len(one["losses"]) == 2
    assert two["losses"] == pytest.approx(one["losses"], rel=1e-6)
    assert two["kl"] == pytest.approx(one["kl"], rel=1e-6)
    for mine, theirs in zip(two["gradients"], one["gradients"], strict=True):
        assert (mine - theirs).abs().max() <= 1e-9 * theirs.abs().max()

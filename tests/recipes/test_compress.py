"""What compression recipes plan."""

from __future__ import annotations

import pytest

from polm_bench.config import plan


def test_an_adapter_that_recovers_a_pruned_model_learns_at_an_adapters_rate():
    planned = plan(["+recipe=llm_pruner"])
    recovery, start = planned.graph.model.adapter, planned.graph.start
    assert recovery.optim.lr == pytest.approx(1e-4 * 10)  # model.adapter_lr_scale of nano, not model.lr_scale
    assert start.optim.lr == pytest.approx(5e-6 * 50)
    assert start.spend.amount + recovery.spend.amount == pytest.approx(planned.budget.amount)

"""Rules of the order of rows and of the budget's end."""

from __future__ import annotations

import numpy as np
import pytest

from polm_bench.budget import Budget, Spend
from polm_bench.trainers.schedule import largest_divisor, schedule

LENGTHS = np.random.default_rng(0).integers(10, 90, size=500).tolist()


def plan(unit="tokens", amount=20_000.0, batch=32, seed=0, micro=64, lengths=LENGTHS, cost=None):
    return schedule(lengths, lengths if cost is None else cost, Spend(unit, amount, batch, 128), seed, micro)


def test_training_stops_with_the_step_that_reaches_the_amount_of_tokens():
    made = plan()
    assert made.amount(LENGTHS, made.steps) >= 20_000
    assert made.amount(LENGTHS, made.steps - 1) < 20_000


def test_a_budget_in_steps_is_that_many_steps():
    assert plan("steps", 7).steps == 7


def test_a_dearer_row_ends_a_budget_in_flops_sooner():
    cheap = plan("flops", 1e6, cost=[10.0] * 500)
    dear = plan("flops", 1e6, cost=[100.0] * 500)
    assert cheap.steps == -(-1e6 // (32 * 10.0))
    assert dear.steps == -(-1e6 // (32 * 100.0))


def test_the_split_into_micro_batches_does_not_change_rows_or_their_order():
    whole, split = plan(micro=64), plan(micro=8)
    assert split.accumulation == 4
    assert whole.accumulation == 1
    assert [row for batch in split.micro_batches for row in batch] == [
        row for batch in whole.micro_batches for row in batch
    ]


def test_micro_batches_divide_the_batch():
    assert largest_divisor(32, 12) == 8
    assert largest_divisor(30, 64) == 30
    assert largest_divisor(7, 3) == 1


def test_the_same_seed_gives_the_same_order_and_another_seed_another():
    assert plan(seed=1).micro_batches == plan(seed=1).micro_batches
    assert plan(seed=1).micro_batches != plan(seed=2).micro_batches


def test_a_smaller_budget_sees_the_first_rows_of_a_larger_one():
    small, large = plan(amount=10_000), plan(amount=40_000)
    assert large.micro_batches[: len(small.micro_batches)] == small.micro_batches


def test_no_row_comes_again_before_every_row_has_come():
    made = plan("steps", 16, batch=25, lengths=[10] * 400)  # 16 batches are one megabatch
    rows = [row for batch in made.micro_batches for row in batch]
    assert sorted(rows) == list(range(400))


def test_fewer_rows_than_a_batch_are_repeated():
    made = plan("steps", 2, batch=8, lengths=[5, 6, 7])
    assert [len(batch) for batch in made.micro_batches] == [8, 8]
    assert made.rows() == [0, 1, 2]


def test_batches_are_nearly_full():
    lengths = np.array(LENGTHS)
    made = plan(amount=200_000)
    padded = sum(len(batch) * lengths[batch].max() for batch in made.micro_batches)
    assert sum(lengths[batch].sum() for batch in made.micro_batches) / padded > 0.9


def test_no_rows_is_an_error():
    with pytest.raises(ValueError, match="no rows"):
        plan(lengths=[])


def test_shares_of_a_budget_add_up():
    budget = Budget(name="b", unit="tokens", amount=100, batch=4, max_length=16, sft_share=0.25)
    assert budget.part(0.25).amount + budget.part(0.75).amount == 100

"""Graphs of preference optimisation in rounds: DNO's practical algorithm, and SPIN."""

from __future__ import annotations

import pytest

from polm_bench.config import plan
from polm_bench.data.derived import DerivedRows, JoinedRows
from polm_bench.data.nano import rows as nano_rows
from polm_bench.data.part import SampledRows
from polm_bench.stages.pairs import TrainPairs


def rounds(recipe: str = "dno") -> list[TrainPairs]:
    """The trainings of a recipe's rounds, the first one first."""
    model = plan([f"+recipe={recipe}"]).graph.model
    found = []
    while isinstance(model, TrainPairs):
        found.insert(0, model)
        model = model.init
    return found


def test_every_round_answers_other_prompts_with_the_last_rounds_model():
    made = [one.data.parts[0] if isinstance(one.data, JoinedRows) else one.data for one in rounds()]
    answers = [pairs.stage.answers[0] for pairs in made]
    assert [one.data.index for one in answers] == [0, 1, 2]
    assert [one.model for one in answers] == [one.init for one in rounds()]
    assert [one.reference.model for one in rounds()] == [one.init for one in rounds()]


def test_pairs_of_earlier_rounds_come_again_in_falling_shares():
    first, second, third = (one.data for one in rounds())
    assert isinstance(first, DerivedRows)
    assert [(part.whole, part.share) for part in second.parts[1:]] == [(first, 0.3)]
    assert [(part.whole, part.share) for part in third.parts[1:]] == [(second.parts[0], 0.3), (first, 0.15)]


def test_spin_trains_on_all_pairs_of_the_last_round_again():
    first, second = (one.data for one in rounds("spin"))
    assert isinstance(first, DerivedRows)
    assert [(part.whole, part.share) for part in second.parts[1:]] == [(first, 1.0)]


def test_the_rounds_share_the_budget():
    planned = plan(["+recipe=dno"])
    trained = sum(one.spend.amount for one in rounds())
    written = 0.0
    for one in rounds():
        pairs = one.data.parts[0] if isinstance(one.data, JoinedRows) else one.data
        written += pairs.stage.answers[0].spend.amount
    assert trained + written + planned.graph.start.spend.amount == pytest.approx(planned.budget.amount)


def test_a_sample_is_a_share_in_the_rows_order_and_the_same_each_time():
    from polm_bench.data import Nano

    whole = Nano("nano").role("preference")
    drawn = SampledRows("preference", whole, 0.1, 3)
    every = nano_rows("preference", "train")
    rows = drawn.load("train")
    places = [every.index(row) for row in rows]
    assert len(rows) == 300
    assert places == sorted(places)
    assert rows == drawn.load("train") != SampledRows("preference", whole, 0.1, 4).load("train")

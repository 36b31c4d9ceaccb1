"""Parts of a role's rows."""

from __future__ import annotations

import pytest

from polm_bench.budget import Budget
from polm_bench.config import plan
from polm_bench.data.part import ThinnedRows
from polm_bench.data.source import Rows


class Ten(Rows):
    def load(self, split):
        return [{"number": number} for number in range(10)]


@pytest.mark.parametrize(
    ("count", "kept"), [(1, [0]), (3, [0, 3, 6]), (5, [0, 2, 4, 6, 8]), (10, list(range(10))), (99, list(range(10)))]
)
def test_thinned_rows_are_evenly_spaced_and_in_their_order(count, kept):
    assert [row["number"] for row in ThinnedRows("sft", Ten("sft"), count).load("train")] == kept


def test_no_rows_stay_none():
    class Nothing(Rows):
        def load(self, split):
            return []

    assert ThinnedRows("sft", Nothing("sft"), 3).load("train") == []


def test_a_budget_of_rows_is_what_a_recipe_sees_of_each_role():
    seen = plan(["+recipe=sft", "budget=smoke", "budget.rows=100"]).graph.model.data
    assert len(seen.load("train")) == seen.count == 100
    assert Budget("all", "steps", 1, 1, 1).rows is None
    whole = plan(["+recipe=sft"]).graph.model.data
    assert seen.whole == whole
    assert len(whole.load("train")) > 100

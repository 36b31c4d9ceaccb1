"""What a preference recipe plans for each way to treat the reference."""

from __future__ import annotations

import dataclasses

import pytest

from polm_bench.config import plan
from polm_bench.data.part import PartRows
from polm_bench.data.source import Rows
from polm_bench.errors import BadData
from polm_bench.objectives import PairObjective
from polm_bench.paths import conf_dir
from polm_bench.settings import read_yaml


def model(*overrides: str):
    return plan(list(overrides)).graph.model


def test_a_fixed_reference_is_scored_beforehand_and_is_the_start():
    policy = model("+recipe=ipo")
    assert policy.reference.model is policy.init
    assert policy.live is None


def test_methods_share_the_scores_of_a_fixed_reference():
    assert (
        model("+recipe=ipo").reference.key == model("+recipe=dpo").reference.key == model("+recipe=aot").reference.key
    )


def test_mismatched_completions_are_paid_for_by_what_reads_them():
    row = {"first": [5, 6, 7], "first_len": 1, "second": [5, 6, 8, 9], "second_len": 2, "label": True}
    assert model("+recipe=kto")._scored(row) == [4]
    assert model("+recipe=apo_zero_unpaired")._scored(row) == []


def test_a_look_at_the_whole_batch_asks_the_policy_and_a_reference_in_memory():
    row = {"first": [5, 6, 7], "first_len": 1, "second": [5, 6, 8, 9], "second_len": 2}
    aot = model("+recipe=aot")
    assert aot._scored(row) == [3, 4]
    assert dataclasses.replace(aot, reference=None, live=aot.init)._scored(row) == [3, 4] * 3
    assert model("+recipe=tr_dpo")._scored(row) == [3, 4]


def test_rounds_start_from_and_compare_with_the_round_before():
    last = model("+recipe=sdpo")
    first = last.init
    assert last.reference.model is first
    assert first.reference.model is first.init
    assert [stage.data.index for stage in (first, last)] == [0, 1]
    assert first.spend.amount + last.spend.amount == pytest.approx(model("+recipe=dpo").spend.amount)


def test_a_moving_reference_stays_in_memory():
    policy = model("+recipe=tr_dpo")
    assert policy.reference is None
    assert policy.live is policy.init
    assert policy.moving.share == 0.6


def test_without_a_reference_nothing_is_scored():
    assert model("+recipe=dpo_no_reference").reference is None
    assert model("+recipe=dpo_no_reference").live is None
    assert model("+recipe=cpo").reference is None


def test_an_objective_that_reads_distributions_keeps_the_reference_in_memory():
    policy = model("+recipe=tdpo2")
    assert policy.reference is None
    assert policy.live is policy.init


def test_orpo_starts_from_the_base_with_the_whole_budget():
    planned = plan(["+recipe=orpo"])
    assert planned.graph.start is None
    assert planned.graph.model.spend.amount == planned.budget.amount


@pytest.mark.parametrize("recipe", ["rrhf", "lipo"])
def test_a_list_objective_is_scored_against_the_start_if_it_reads_one(recipe):
    policy = model(f"+recipe={recipe}")
    assert (policy.reference is not None) == policy.objective.needs_reference
    assert policy.data.role == "ranking"


def test_own_answers_are_paid_for_out_of_the_same_budget():
    planned = plan(["+recipe=d2o"])
    answers = planned.graph.model.data.stage.answers
    whole = planned.graph.model.spend.amount + answers.spend.amount + planned.graph.start.spend.amount
    assert whole == pytest.approx(planned.budget.amount)


def test_every_number_of_an_objective_stands_in_its_recipe():
    told = [read_yaml(path).get("loss") for path in (conf_dir() / "recipe").glob("*.yaml")]
    kinds = {kind for loss in told for kind in targets(loss)}
    concrete = {kind.__name__ for kind in leaves(PairObjective) if kind.__module__.startswith("polm_bench")}
    assert concrete <= kinds


def targets(value):
    """Names of the classes that a setting makes, at any depth: a weighted sum has losses among its terms."""
    if isinstance(value, dict):
        yield value.get("_target_", "").rpartition(".")[2]
    if isinstance(value, dict | list):
        for part in value.values() if isinstance(value, dict) else value:
            yield from targets(part)


def leaves(kind: type) -> list[type]:
    """Classes without a subclass of the package's own; DPO, NPO and the like."""
    below = [sub for sub in kind.__subclasses__() if sub.__module__.startswith("polm_bench")]
    return [leaf for sub in below for leaf in leaves(sub)] if below else [kind]


class Three(Rows):
    def load(self, split):
        return [{"margin": margin} for margin in (0.5, 2.0, 1.0)]


def test_easy_pairs_come_first():
    parts = [PartRows("preference", Three("preference"), index, 2, "easy_first").load("train") for index in (0, 1)]
    assert [[row["margin"] for row in part] for part in parts] == [[2.0], [1.0, 0.5]]


def test_rows_in_their_order_and_parts_that_would_be_empty():
    assert PartRows("preference", Three("preference"), 1, 3, "as_given").load("train") == [{"margin": 2.0}]
    with pytest.raises(BadData, match="3 rows of the role 'preference' can't be cut into 4 parts"):
        PartRows("preference", Three("preference"), 0, 4, "as_given").load("train")


def test_sharing_the_prompt_is_asked_of_both_passes():
    policy = model("+recipe=dpo", "+recipe.shared_prompt=true")
    assert policy.shared_prompt
    assert policy.reference.shared_prompt
    assert policy.key != model("+recipe=dpo").key

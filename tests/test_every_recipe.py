"""What holds for every recipe of conf/recipe/; a new one needs no change here."""

from __future__ import annotations

import json
import math
from functools import cache
from pathlib import Path

import pytest
from tests import golden

from polm_bench.cell import Plan
from polm_bench.config import cells, plan
from polm_bench.data.source import DataSource
from polm_bench.errors import MissingRole
from polm_bench.graph import Stage, identity, ordered
from polm_bench.paths import conf_dir
from polm_bench.recipes import Context
from polm_bench.report.facts import recipe_facts
from polm_bench.settings import options
from polm_bench.stages import TrainSFT

RECIPES = options("recipe")
FACTS = recipe_facts(conf_dir())
COSTS = {
    "wall_seconds", "device_seconds", "tokens_trained", "tokens_generated", "flops", "peak_host_bytes", "peak_device_bytes", "trainable_params",
    "served_bytes", "decode_tokens_per_second", "serve_peak_bytes", "tokens_per_answer", "load_seconds", "cache_bytes",
}  # fmt: skip
RECORD = {
    "schema", "id", "cell", "recipe", "status", "reason", "stages", "rows", "scores", "items", "curves", "cost", "contamination", "provenance",
}  # fmt: skip


@cache
def cell(recipe: str) -> Plan:
    return plan([f"+recipe={recipe}"])


def context(planned: Plan, data: DataSource, seed: int) -> Context:
    return Context(planned.names["recipe"], planned.evaluations["base"].model, data, planned.budget, seed, 1.0)


@pytest.mark.parametrize("recipe", RECIPES)
def test_it_composes_and_plans(recipe):
    planned = cell(recipe)
    assert planned.names["recipe"] == recipe
    assert planned.graph.model in planned.stages()
    assert ("self" in planned.evaluations) == planned.graph.judged
    assert planned.graph.judged or "self" in planned.graph.probes
    assert all(isinstance(stage, Stage) for stage in planned.stages())


@pytest.mark.parametrize("recipe", RECIPES)
def test_its_keys_are_the_golden_ones(recipe):
    assert golden.keys(cell(recipe)) == json.loads(golden.FILE.read_text())[recipe]


@pytest.mark.parametrize("recipe", RECIPES)
def test_it_says_what_it_is_and_where_it_comes_from(recipe):
    planned = cell(recipe)
    meta = planned.recipe.meta
    assert meta.title
    assert meta.family
    assert meta.cost
    assert meta.paper.startswith(("arXiv:", "https://", "none:"))
    if meta.paradigm != "baseline":
        assert meta.axes
        assert meta.claim is not None
        assert meta.claim.source
        tasks = {*planned.suite.headline, *(task for probe in planned.graph.probes.values() for task in probe.tasks)}
        assert meta.claim.metric.split("/")[0] in tasks | COSTS
        assert meta.claim.against in {"base", "start", *RECIPES}
        assert meta.claim.against != "start" or planned.graph.start is not None
        assert (meta.claim.saves in COSTS) == (meta.claim.kind == "keep")


def test_every_start_of_a_share_of_the_budget_is_one_training():
    starts: dict[object, set[str]] = {}
    for recipe in RECIPES:
        planned = cell(recipe)
        start = planned.graph.start
        if isinstance(start, TrainSFT) and start.init is planned.evaluations["base"].model:
            starts.setdefault((start.spend, start.data, start.adapter), set()).add(start.key)
    assert starts
    assert all(len(keys) == 1 for keys in starts.values())


def test_no_two_recipes_are_the_same_computation_unless_one_is_the_row_that_the_other_is_read_against():
    made: dict[tuple, list[str]] = {}
    for recipe in RECIPES:
        planned = cell(recipe)
        made.setdefault(tuple(stage.key for stage in planned.goals()), []).append(recipe)
    assert [names for names in made.values() if len(names) > 1] in ([], [["full_ft", "sft"]])


@pytest.mark.parametrize("recipe", RECIPES)
def test_another_seed_is_another_model_unless_nothing_is_drawn(recipe):
    planned = cell(recipe)
    first, second = (planned.recipe.plan(context(planned, planned.data, seed)).model for seed in (0, 1))
    draws = any(getattr(stage, "seed", None) is not None for stage in ordered(first))
    assert (first.key != second.key) == draws


@pytest.mark.parametrize("recipe", RECIPES)
def test_a_role_that_the_data_lacks_is_named_while_planning(recipe):
    class Empty(DataSource):
        def roles(self):
            return ()

    planned = cell(recipe)
    ctx = context(planned, Empty("empty"), 0)
    if '"role"' not in json.dumps([identity(stage) for stage in planned.stages()]):
        assert planned.recipe.plan(ctx).model is not None
        return
    with pytest.raises(MissingRole, match=rf"recipe '{recipe}' needs the data role '\w+', but data=empty has only: "):
        planned.recipe.plan(ctx)


def pytest_generate_tests(metafunc):
    """The tests of a class below run for each recipe of its paradigms."""
    if metafunc.cls is not None and "recipe" in metafunc.fixturenames:
        metafunc.parametrize("recipe", recipes_of(metafunc.cls.paradigms))


def recipes_of(paradigms):
    return [name for name in RECIPES if FACTS[name].paradigm in paradigms]


@pytest.fixture(scope="class")
def records(request, tmp_path_factory):
    """Every recipe of the class at budget=smoke in one process and one store; recipe -> its plan and its record."""
    from polm_bench.run.cell import run_cell
    from polm_bench.run.progress import PlainReporter

    home = tmp_path_factory.mktemp("home")
    made = {}
    words = ["-m", f"+recipe={','.join(recipes_of(request.cls.paradigms))}", "budget=smoke", "suite=smoke"]
    for planned in cells(words):
        made[planned.names["recipe"]] = planned, json.loads(run_cell(planned, home, PlainReporter()).read_text())
    return home, made


class Made:
    """What holds of a recipe's record and model."""

    paradigms: tuple[str, ...]

    def test_it_runs_and_leaves_a_whole_record(self, records, recipe):
        import pyarrow.parquet as pq

        home, made = records
        _, record = made[recipe]
        assert record["status"] == "ok", record["reason"]
        assert set(record) == RECORD
        assert all(math.isfinite(score["value"]) for score in record["scores"])
        judged = {score["task"] for score in record["scores"] if score["headline"] and score["row"] == "base"}
        assert judged >= set(record["cell"]["config"]["suite"]["tasks"])
        assert {score["row"] for score in record["scores"]} == set(record["rows"])
        for row in record["rows"]:
            items = pq.read_table(home / "records" / record["items"][row]).to_pylist()
            for score in record["scores"]:
                values = [
                    item["score"]
                    for item in items
                    if (item["task"], item["metric"]) == (score["task"], score["metric"])
                ]
                if score["row"] == row and score["headline"] and score["metric"] != "bits_per_byte":
                    assert sum(values) / len(values) == pytest.approx(score["value"])
        assert record["provenance"]["versions"]["torch"]
        assert record["cell"]["origins"]["seed"] == "conf/run.yaml"

    def test_what_it_changes_is_not_what_it_was_and_is_paid_for(self, records, recipe):
        from polm_bench.models.load import load_model
        from polm_bench.run.cell import store_of

        home, made = records
        planned, record = made[recipe]
        base = planned.evaluations["base"].model
        if planned.graph.model is base:
            assert record["cost"]["tokens_trained"] == 0
            return
        trained = [stage["ledger"] for stage in record["stages"] if "trainable_params" in stage["ledger"]]
        assert all(ledger["tokens_trained"] > 0 and ledger["flops"] > 0 for ledger in trained)
        assert record["cost"]["wall_seconds"] > 0
        assert all(
            math.isfinite(value) for curve in record["curves"] for point in curve["points"] for value in point.values()
        )
        if planned.graph.judged:
            store = store_of(home)
            before, after = _logits_of(str(store.path(base))), _logits(load_model(store.path(planned.graph.model)))
            assert after.shape == before.shape
            assert after.isfinite().all()
            assert not after.equal(before)


# Two classes, so that each of two cores makes one; recipes of a class share most of what they start from.


@pytest.mark.slow
class TestTunedAndCompressed(Made):
    paradigms = ("baseline", "fine_tuning", "efficiency")


@pytest.mark.slow
class TestAlignedReasoningAndMerged(Made):
    paradigms = ("alignment", "reasoning", "integration")

    def test_methods_share_their_sft_and_the_base_is_judged_once(self, records):
        _, made = records
        starts = {recipe: record["rows"].get("start") for recipe, (_, record) in made.items()}
        assert starts["dpo"] == starts["simpo"] == starts["kto"] is not None
        assert len({record["rows"]["base"] for _, record in made.values()}) == 1
        shared = {stage["kind"]: stage["shared"] for stage in made["simpo"][1]["stages"]}
        assert shared["TrainSFT"]
        assert not shared["TrainPairs"]


def test_every_recipe_is_of_one_of_the_classes():
    assert sorted(recipes_of(TestTunedAndCompressed.paradigms + TestAlignedReasoningAndMerged.paradigms)) == sorted(
        RECIPES
    )


@cache
def _logits_of(folder):
    from polm_bench.models.load import load_model

    return _logits(load_model(Path(folder)))


def _logits(model):
    import torch

    with torch.inference_mode():
        return model(input_ids=torch.arange(5, 29)[None]).logits[:, -24:].float()  # soft prompts stand before them

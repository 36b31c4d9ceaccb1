"""What holds for every recipe of conf/recipe/; a new one needs no change here."""

from __future__ import annotations

import json
import math

import pytest
from tests import golden

from polm_bench.config import each_cell, plan
from polm_bench.errors import MissingRole
from polm_bench.graph import Stage
from polm_bench.recipes import Context
from polm_bench.settings import options

RECIPES = options("recipe")
RECORD = {
    "schema", "id", "cell", "recipe", "status", "reason", "stages", "rows", "scores", "items", "curves", "cost", "provenance",
}  # fmt: skip


@pytest.mark.parametrize("recipe", RECIPES)
def test_it_composes_and_plans(recipe):
    planned = plan([f"+recipe={recipe}"])
    assert planned.names["recipe"] == recipe
    assert planned.evaluations["self"].key in {stage.key for stage in planned.stages()}
    assert all(isinstance(stage, Stage) for stage in planned.stages())


@pytest.mark.parametrize("recipe", RECIPES)
def test_its_keys_are_the_golden_ones(recipe):
    assert golden.keys()[recipe] == json.loads(golden.FILE.read_text())[recipe]


@pytest.mark.parametrize("recipe", RECIPES)
def test_it_says_what_it_is_and_where_it_comes_from(recipe):
    meta = plan([f"+recipe={recipe}"]).recipe.meta
    assert meta.title
    assert meta.family
    assert meta.cost
    assert meta.paper.startswith(("arXiv:", "https://", "none:"))
    if meta.paradigm != "baseline":
        assert meta.survey
        assert meta.axes
        assert meta.claim is not None
        assert meta.claim.metric.split("/")[0] in plan([f"+recipe={recipe}"]).suite.headline


@pytest.mark.parametrize("recipe", RECIPES)
def test_another_seed_is_another_model_unless_nothing_is_trained(recipe):
    first, second = (plan([f"+recipe={recipe}", f"seed={seed}"]) for seed in (0, 1))
    trains = first.graph.model is not first.evaluations["base"].model
    assert (first.graph.model.key != second.graph.model.key) == trains
    assert first.evaluations["base"].key == second.evaluations["base"].key


@pytest.mark.parametrize("recipe", RECIPES)
def test_a_role_that_the_data_lacks_is_named_while_planning(recipe):
    from polm_bench.data.source import DataSource

    class Empty(DataSource):
        def roles(self):
            return ("documents",)

    planned = plan([f"+recipe={recipe}"])
    ctx = Context(recipe, planned.evaluations["base"].model, Empty("empty"), planned.budget, 0, 1.0)
    if planned.graph.model is planned.evaluations["base"].model:
        assert planned.recipe.plan(ctx).model is ctx.base
        return
    with pytest.raises(
        MissingRole, match=f"recipe '{recipe}' needs the data role '.*', but data=empty has only: documents"
    ):
        planned.recipe.plan(ctx)


@pytest.fixture(scope="module")
def records(toy_model, tmp_path_factory):
    """Every recipe at budget=smoke in one process and one store; recipe -> record."""
    from polm_bench.run.cell import run_cell
    from polm_bench.run.progress import PlainReporter

    home = tmp_path_factory.mktemp("home")
    made = {}

    def do(planned):
        made[planned.names["recipe"]] = json.loads(run_cell(planned, home, PlainReporter()).read_text())

    each_cell(["-m", f"+recipe={','.join(RECIPES)}", f"model.path={toy_model}", "budget=smoke", "suite=smoke"], do)
    return home, made


@pytest.mark.slow
@pytest.mark.parametrize("recipe", RECIPES)
def test_it_runs_and_leaves_a_whole_record(records, recipe):
    import pyarrow.parquet as pq

    home, made = records
    record = made[recipe]
    assert record["status"] == "ok", record["reason"]
    assert set(record) == RECORD
    assert all(math.isfinite(score["value"]) for score in record["scores"])
    assert {score["task"] for score in record["scores"] if score["headline"]} == set(
        record["cell"]["config"]["suite"]["tasks"]
    )
    assert {score["row"] for score in record["scores"]} == set(record["rows"])
    for row in record["rows"]:
        items = pq.read_table(home / "records" / record["items"][row]).to_pylist()
        for score in record["scores"]:
            values = [
                item["score"] for item in items if (item["task"], item["metric"]) == (score["task"], score["metric"])
            ]
            if score["row"] == row and score["headline"] and score["metric"] != "bits_per_byte":
                assert sum(values) / len(values) == pytest.approx(score["value"])
    assert record["provenance"]["versions"]["torch"]
    assert record["cell"]["origins"]["seed"] == "conf/run.yaml"


@pytest.mark.slow
@pytest.mark.parametrize("recipe", RECIPES)
def test_what_it_trains_changes_and_is_paid_for(records, recipe):
    from safetensors.torch import load_file

    from polm_bench.run.cell import store_of

    home, _ = records
    made = records[1][recipe]
    if "TrainSFT" not in {stage["kind"] for stage in made["stages"]}:
        assert made["cost"]["tokens_trained"] == made["cost"]["flops"] == 0
        return
    assert made["cost"]["tokens_trained"] > 0
    assert made["cost"]["flops"] > 0
    assert made["cost"]["trainable_params"] > 0
    assert all(math.isfinite(point["loss"]) for curve in made["curves"] for point in curve["points"])
    store = store_of(home).root
    base = load_file(next(store.glob("FetchModel-*")) / "model.safetensors")
    model = next(stage for stage in reversed(made["stages"]) if stage["kind"] not in ("Evaluate", "ReferenceLogps"))
    after = load_file(store / f"{model['kind']}-{model['key']}" / "model.safetensors")
    assert set(after) == set(base)
    assert any(not after[name].equal(base[name]) for name in base)


@pytest.mark.slow
def test_methods_share_their_sft_and_the_base_is_judged_once(records):
    _, made = records
    starts = {recipe: record["rows"].get("start") for recipe, record in made.items()}
    assert starts["dpo"] == starts["simpo"] == starts["kto"] is not None
    assert len({record["rows"]["base"] for record in made.values()}) == 1
    shared = {stage["kind"]: stage["shared"] for stage in made["simpo"]["stages"]}
    assert shared["TrainSFT"]
    assert not shared["TrainPairs"]

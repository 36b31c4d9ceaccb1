"""Claims against records: direction, margins, saved costs, joins with other recipes, and what can't be read."""

from __future__ import annotations

import csv
import io

import numpy as np
import pytest
import yaml
from tests.report.conftest import make_spec
from tests.report.synthetic import key_of, make_record, score, write_items, write_json

from polm_bench.paths import conf_dir
from polm_bench.report.page import render
from polm_bench.report.records import load
from polm_bench.report.spec import load_spec
from polm_bench.report.table import make, save

approx = pytest.approx


@pytest.fixture
def world(tmp_path):
    """A folder of records and one of recipes, and what adds to them."""
    return World(tmp_path)


class World:
    def __init__(self, folder):
        self.conf, self.records = folder / "conf", folder / "records"
        (self.conf / "recipe").mkdir(parents=True)

    def recipe(self, name, **claim):
        meta = {"title": name.upper(), "paradigm": "alignment", "family": "x", "paper": "y", "claim": claim or None}
        (self.conf / "recipe" / f"{name}.yaml").write_text(yaml.safe_dump({"meta": meta}))

    def record(self, name, seed=0, *, gains=0.0, metric="quality", better_high=True, base=None, **cost):
        """A record of 200 items: the base's scores, and the same plus `gains` and a little luck."""
        made = make_record(name, seed)
        rng = np.random.default_rng([seed, *name.encode()])
        hard = np.random.default_rng(1).normal(size=200)
        values = {"base": hard, "self": hard + gains + rng.normal(0, 0.05, 200)}
        made["rows"] = {"base": key_of("base"), "self": key_of(name, seed)}
        for row, numbers in values.items():
            items = [
                {"task": "task", "item": f"{i:03}", "cluster": f"{i:03}", "prompt_hash": "p", "metric": metric}
                | {"score": float(number), "weight": 1.0, "output": ""}
                for i, number in enumerate(numbers)
            ]
            made["items"][row] = write_items(self.records, made["rows"][row], items)
            made["scores"].append(
                score(row, "task", metric, float(np.mean(numbers)), n=200, higher_is_better=better_high)
            )
        made["cost"] |= cost
        write_json(self.records, made)

    def effects(self, **changes):
        spec = make_spec(recipes=sorted(path.stem for path in (self.conf / "recipe").glob("*.yaml")), view="effects")
        made = make(spec, load(self.records), self.conf)
        return {row["recipe"]: row for row in made.page.rows}


def test_a_gain_is_confirmed_by_an_interval_above_zero(world):
    world.recipe("good", metric="task", against="base", kind="gain", source="Table 1")
    for seed in range(3):
        world.record("good", seed, gains=0.1)
    found = world.effects()["good"]
    assert found["verdict"] == "confirmed"
    assert 0 < found["low"] < found["effect"] < found["high"]
    assert found["effect"] == approx(0.1, abs=0.02)
    assert (found["metric"], found["items"], found["seeds"], found["cells"]) == ("task/quality", 200, 3, "3 ok")


def test_direction_comes_from_the_record_and_not_from_the_metrics_name(world):
    for name, better_high in (("up", True), ("down", False)):
        world.recipe(name, metric="task/loss", against="base", kind="gain", source="")
        world.record(name, gains=-0.1, metric="loss", better_high=better_high)
    found = world.effects()
    assert found["up"]["verdict"] == "reversed"
    assert found["down"]["verdict"] == "confirmed"


def test_an_interval_around_zero_confirms_nothing(world):
    world.recipe("idle", metric="task", against="base", kind="gain", source="", note="the nano base knows it already")
    world.record("idle")
    found = world.effects()["idle"]
    assert (found["verdict"], found["note"]) == ("not confirmed", "the nano base knows it already")


@pytest.mark.parametrize(
    ("gains", "served", "verdict", "why"),
    [
        (-0.005, 3e6, "confirmed", ""),
        (-0.005, 14e6, "not confirmed", "served size is not saved"),
        (-0.02, 3e6, "not confirmed", "the interval reaches beyond the margin"),
        (-0.2, 3e6, "reversed", "it loses more than the margin"),
        (+0.2, 3e6, "confirmed", ""),
    ],
)
def test_to_keep_is_to_stay_inside_the_margin_at_a_lower_cost(world, gains, served, verdict, why):
    world.recipe("full")
    world.recipe("small", metric="task", against="full", kind="keep", margin=0.02, saves="served_bytes", source="")
    for seed in range(3):
        world.record("full", seed, served_bytes=14e6)
        world.record("small", seed, gains=gains, served_bytes=served)
    found = world.effects()["small"]
    assert (found["verdict"], found["why"]) == (verdict, why)
    assert (found["saved"], found["saved_against"]) == (served, 14e6)


def test_what_serving_the_base_takes_stands_in_the_ledger_of_its_evaluation(world):
    world.recipe("small", metric="served_bytes", against="base", kind="gain", source="")
    world.record("small", served_bytes=3e6)
    assert world.effects()["small"]["verdict"] == "no data"
    path = next(world.records.glob("*.json"))
    record = yaml.safe_load(path.read_text())
    record["stages"].append(
        {"key": key_of("base"), "kind": "Evaluate", "shared": True, "ledger": {"served_bytes": 14e6}}
    )
    write_json(world.records, record)
    found = world.effects()["small"]
    assert (found["effect"], found["low"], found["verdict"]) == (-11e6, -11e6, "confirmed")  # bytes are counted


def test_a_clocked_cost_needs_more_than_one_seed(world):
    world.recipe("full")
    world.recipe("fast", metric="wall_seconds", against="full", kind="gain", source="")
    world.record("full", wall_seconds=80.0)
    world.record("fast", wall_seconds=40.0)
    assert world.effects()["fast"]["verdict"] == "not confirmed"
    for seed, seconds in ((1, 41.0), (2, 39.5)):
        world.record("full", seed, wall_seconds=80.0 + seed)
        world.record("fast", seed, wall_seconds=seconds)
    assert world.effects()["fast"]["verdict"] == "confirmed"


def test_what_cannot_be_read_says_why(world):
    world.recipe("absent", metric="task", against="base", kind="gain", source="")
    world.recipe("failed", metric="task", against="base", kind="gain", source="")
    world.recipe("alone", metric="task", against="absent", kind="gain", source="")
    world.recipe("other", metric="another_task", against="base", kind="gain", source="")
    write_json(world.records, make_record("failed", status="oom", reason="9 GB asked"))
    world.record("alone")
    world.record("other")
    found = world.effects()
    assert {row["verdict"] for row in found.values()} == {"no data"}
    assert found["absent"]["why"] == "no record yet"
    assert found["failed"]["why"] == "its cells ended as oom"
    assert found["alone"]["why"] == "no record of absent at the same seeds"
    assert found["other"]["why"] == "another_task stands not in both rows"


def test_a_recipes_own_probe_is_read_like_a_task(world):
    world.recipe("reward", metric="held_out_pairs", against="base", kind="gain", source="")
    for seed in range(2):
        made = make_record("reward", seed, rows={"base": key_of("b"), "self": key_of("r", seed)})
        for row, value in (("base", 0.5), ("self", 0.7 + seed / 100)):  # no items: the seeds alone tell
            made["scores"].append(score(row, "held_out_pairs", "acc", value))
        write_json(world.records, made)
    found = world.effects()["reward"]
    assert (found["effect"], found["items"], found["verdict"]) == (approx(0.205), 0, "confirmed")


def test_a_paradigm_may_have_more_seeds_than_the_table(world):
    for paradigm, name in (("alignment", "noisy"), ("reasoning", "quiet")):
        world.recipe(name, metric="task", against="base", kind="gain", source="Table 1")
        path = world.conf / "recipe" / f"{name}.yaml"
        path.write_text(path.read_text().replace("alignment", paradigm))
        for seed in range(5):
            world.record(name, seed, gains=0.1)
    content = {"name": "some", "title": "Some", "recipes": ["*"], "seeds": [0, 1, 2], "view": "effects"}
    content |= {group: ["nano"] for group in ("models", "data", "budgets", "suites")}
    (world.conf / "table").mkdir()
    (world.conf / "table" / "some.yaml").write_text(yaml.safe_dump(content | {"more_seeds": {"alignment": [3, 4]}}))
    spec = load_spec(world.conf, "some")
    assert [cell[-1] for cell in spec.cells() if cell[0] == "+recipe=noisy"] == [f"seed={seed}" for seed in range(5)]
    assert sum(cell[0] == "+recipe=quiet" for cell in spec.cells()) == 3
    names = spec.record_names()
    assert "noisy-nano-nano-nano-nano-s4-" in names
    assert "base-nano-nano-nano-nano-s4-" in names
    assert "quiet-nano-nano-nano-nano-s4-" not in names
    made = make(spec, load(world.records), world.conf)
    page = made.page
    assert len(made.records) == 8
    assert {row["recipe"]: row["seeds"] for row in page.rows} == {"noisy": 5, "quiet": 3}
    assert "seeds 0, 1, 2, 3, 4" in render(page, "md")


def test_the_page_reads_the_same_from_another_tables_records(world, tmp_path):
    world.recipe("good", metric="task", against="base", kind="gain", source="Table 1")
    world.recipe("quiet")
    world.record("good", gains=0.1)
    spec = make_spec(name="effects", view="effects", recipes=["good", "quiet"], records_of="all")
    made = make(spec, load(world.records), world.conf)
    folder = save(spec, made.page, made.records, tmp_path / "results")
    assert sorted(path.name for path in folder.iterdir()) == ["effects.csv", "effects.md", "reproduce.sh"]
    again = make(spec, load(tmp_path / "results" / "all" / "records"), world.conf)
    for style in ("md", "csv", "json", "latex", "html"):
        assert render(again.page, style) == render(made.page, style)
    text = (folder / "effects.md").read_text()
    assert "1 confirmed" in text
    assert "No claim is stated by: quiet." in text
    assert next(csv.DictReader(io.StringIO((folder / "effects.csv").read_text())))["source"] == "Table 1"


def test_the_table_of_effects_has_every_recipe():
    spec = load_spec(conf_dir(), "effects")
    assert set(spec.recipes) == {p.stem for p in (conf_dir() / "recipe").glob("[!_]*.yaml")}
    assert spec.recipes[0] == "base"

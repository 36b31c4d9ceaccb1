"""Reward against divergence: which record stands for a point, what is on the front, and the plots."""

from __future__ import annotations

import copy

import pytest
from tests.report.conftest import make_spec
from tests.report.synthetic import key_of, make_record, score, write_json

from polm_bench.paths import conf_dir
from polm_bench.report import page as pages
from polm_bench.report import table
from polm_bench.report.choose import Cells
from polm_bench.report.frontier import frontier
from polm_bench.report.records import load
from polm_bench.report.spec import load_spec

SETTING = "recipe.loss.beta"
MEASURED = {  # reward and nats of each beta
    "dpo": {0.1: (0.8, 4.0), 0.3: (0.5, 1.0)},
    "kto": {0.1: (0.7, 5.0), 0.3: (0.5, 2.0)},
}


def drift(reward: float, nats: float) -> list[dict]:
    values = {"reward": reward, "kl_k1": nats, "kl_k3": nats, "win_rate": 0.6, "win_rate_true": 0.7}
    return [score("self", "drift", name, value, n=200, stderr=0.02) for name, value in values.items()]


def write_point(folder, recipe, beta, reward, nats, seed=0, **changes):
    record = copy.deepcopy(make_record(recipe, seed))
    record["id"] += key_of(recipe, beta, seed, changes.get("status"))
    record["cell"]["config"] |= {"recipe": {"loss": {"beta": beta}}, "probe": {"count": 4}}
    record["cell"]["origins"] = {SETTING: "command line", "probe.count": "command line"}
    record["scores"] = drift(reward, nats)
    steps = [{"step": step, "logp_chosen": -9.0 - step, "logp_rejected": -9.0 - 2 * step} for step in (1, 2, 3)]
    learned = [{"step": step, "reward": 0.1 * step, "gold": 0.2 - 0.05 * step, "kl": 0.5 * step} for step in (1, 2)]
    record["curves"] = [
        {"stage": "a", "kind": "TrainPairs", "points": steps},
        {"stage": "b", "kind": "TrainPolicy", "points": learned},
    ]
    return write_json(folder, record | changes)


@pytest.fixture
def spec():
    return make_spec(
        name="frontier",
        view="frontier",
        recipes=["dpo", "kto"],
        seeds=[0],
        probe="drift",
        points={name: {SETTING: [0.1, 0.3]} for name in MEASURED},
        words={"kto": ["+recipe.watch=1"]},
    )


@pytest.fixture
def folder(tmp_path):
    for recipe, betas in MEASURED.items():
        for beta, (reward, nats) in betas.items():
            write_point(tmp_path, recipe, beta, reward, nats)
    return tmp_path


def test_every_setting_is_a_cell_of_its_own(spec):
    place = ["model=nano", "data=nano", "budget=nano", "suite=nano", "seed=0", "+probe=drift"]
    assert spec.cells() == [
        ["+recipe=dpo", *place, f"{SETTING}=0.1"],
        ["+recipe=dpo", *place, f"{SETTING}=0.3"],
        ["+recipe=kto", *place, f"{SETTING}=0.1", "+recipe.watch=1"],
        ["+recipe=kto", *place, f"{SETTING}=0.3", "+recipe.watch=1"],
    ]


def test_a_table_that_varies_nothing_has_the_cells_it_had():
    plain = make_spec(recipes=["dpo"], seeds=[0])
    assert plain.cells() == [["+recipe=dpo", "model=nano", "data=nano", "budget=nano", "suite=nano", "seed=0"]]


def test_points_hold_what_their_records_say_and_the_front_is_marked(spec, folder):
    page, used = frontier(spec, load(folder), {})
    rows = {(row["recipe"], row["value"]): row for row in page.rows}
    assert len(used) == 4
    assert [rows["dpo", "0.3"][name] for name in ("drift/reward", "drift/kl_k1")] == [0.5, 1.0]
    assert {point for point, row in rows.items() if row["front"]} == {("dpo", "0.1"), ("dpo", "0.3")}
    assert rows["dpo", "0.1"]["drift/win_rate_true.low"] == pytest.approx(0.7 - 1.96 * 0.02, abs=1e-4)


def test_a_run_with_other_settings_or_without_the_probe_stands_for_no_point(spec, folder):
    for path in folder.glob("*.json"):
        path.unlink()
    write_point(folder, "dpo", 0.5, 0.9, 1.0)
    plain = make_record("dpo", 0)
    write_json(folder, plain)
    page, used = frontier(spec, load(folder), {})
    assert used == ()
    assert {row["cells"] for row in page.rows} == {"1 missing"}


def test_seeds_are_averaged_and_a_failed_one_is_told(spec, folder):
    from dataclasses import replace

    write_point(folder, "dpo", 0.1, 0.6, 6.0, seed=1)
    write_point(folder, "kto", 0.1, 0.0, 0.0, seed=1, status="oom", scores=[])
    page, _ = frontier(replace(spec, seeds=(0, 1)), load(folder), {})
    rows = {(row["recipe"], row["value"]): row for row in page.rows}
    assert rows["dpo", "0.1"]["drift/reward"] == pytest.approx(0.7)
    assert rows["kto", "0.1"]["drift/reward"] == pytest.approx(0.7)
    assert rows["kto", "0.1"]["cells"] == "1 ok, 1 oom"


def test_what_seeds_differ_by_widens_the_rate_that_has_the_judges_noise(spec, folder):
    from dataclasses import replace

    rates = {0: 0.7, 1: 0.8}
    for seed, rate in rates.items():
        scores = [one | ({"value": rate} if one["metric"] == "win_rate_true" else {}) for one in drift(0.8, 4.0)]
        write_point(folder, "dpo", 0.1, 0.8, 4.0, seed=seed, scores=scores)
    page, _ = frontier(replace(spec, seeds=(0, 1)), load(folder), {})
    row = next(row for row in page.rows if (row["recipe"], row["value"]) == ("dpo", "0.1"))
    noise, seeds = 1.96 * 0.02, 12.706 * 0.05  # Student's 97.5 % point with one degree of freedom
    assert row["drift/win_rate_true"] == pytest.approx(0.75)
    assert row["drift/win_rate_true.low"] == pytest.approx(0.75 - (noise**2 + seeds**2) ** 0.5, abs=1e-3)
    assert row["drift/win_rate_true.high"] == 1.0
    assert not any(line.startswith("One seed") for line in page.legend)


def test_the_page_says_how_far_its_judge_agreed_with_people(spec, folder):
    assert not any("judge agreed" in line for line in frontier(spec, load(folder), {})[0].legend)
    for rate in (0.9, 0.95):
        stages = [{"key": f"drift{rate}", "kind": "Drift", "ledger": {"judge_agreement": rate}}]
        write_point(folder, "dpo", 0.1 if rate < 0.95 else 0.3, 0.8, 4.0, stages=stages)
    legend = frontier(spec, load(folder), {})[0].legend
    assert "The judge agreed with the labels on 90.0 % to 95.0 % of the held-out pairs." in legend
    assert legend[-1].startswith("One seed: ")


def test_a_frontier_run_never_stands_in_a_table_of_plain_cells(spec, folder):
    cells = Cells(load(folder))
    assert all(cells.at(place, recipe, 0) is None for place in spec.places() for recipe in spec.recipes)


def test_the_plot_has_its_panels_and_is_the_same_each_time(spec, folder):
    page, _ = frontier(spec, load(folder), {})
    drawing = page.drawings[0].svg()
    for title in (
        "Reward against divergence",
        "Reward against length",
        "Reward against repetition",
        "Proxy reward",
        "Gold reward",
        "Chosen (solid) and rejected",
    ):
        assert title in drawing
    assert drawing == page.drawings[0].svg()


def test_an_empty_frontier_is_still_a_page(spec, tmp_path):
    made = table.make(spec, load(tmp_path), conf_dir())
    assert "0 of 4 settings measured" in pages.render(made.page, "md")
    assert pages.render(made.page, "csv").count("\n") == 5
    assert "<svg" in made.page.drawings[0].svg()


def test_the_published_frontier_has_twelve_methods_and_several_settings_of_each():
    spec = load_spec(conf_dir(), "frontier")
    assert len(spec.recipes) >= 12
    assert set(spec.points) == set(spec.recipes)
    assert all(len(spec.settings(recipe)) >= 3 for recipe in spec.recipes)

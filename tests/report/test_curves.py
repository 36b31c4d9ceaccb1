"""What a table tells of training curves, and of wins against the start."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tests.report.conftest import make_spec
from tests.report.synthetic import write_record

from polm_bench.paths import conf_dir
from polm_bench.report.curves import ends, wins
from polm_bench.report.items import Evaluation
from polm_bench.report.page import render
from polm_bench.report.records import load
from polm_bench.report.table import read

PAIRS = {"kind": "TrainPairs", "stage": "aaaaaaaaaaaa"}
FALLING = [
    {"step": 1, "logp_chosen": -8.0, "logp_rejected": -9.0},
    {"step": 9, "logp_chosen": -11.5, "logp_rejected": -14.0},
]
DRAWN = [{"step": 1, "reward": 0.25, "gold": 0.5, "kl": 0.0}, {"step": 9, "reward": 1.5, "gold": 0.75, "kl": 2.0}]


@pytest.fixture
def records(tmp_path) -> Path:
    folder = tmp_path / "records"
    for recipe in ("base", "sft"):
        write_record(folder, recipe, 0)
    sft = {"kind": "TrainSFT", "stage": "bbbbbbbbbbbb", "points": [{"step": 1, "loss": 3.0}]}
    for seed in (0, 1):
        write_record(folder, "dpo", seed, curves=[sft, PAIRS | {"points": FALLING}])
    write_record(folder, "kto", 0, curves=[sft, {"kind": "TrainPolicy", "stage": "cccccccccccc", "points": DRAWN}])
    return folder


def evaluations(folder: Path, recipe: str) -> list[Evaluation]:
    return [Evaluation(one, "self") for one in load(folder) if one.cell["recipe"] == recipe]


def test_a_curve_is_told_by_its_ends_whatever_stood_before_it(records):
    assert ends(evaluations(records, "dpo"), "logp_chosen") == (-8.0, -11.5)
    assert ends(evaluations(records, "dpo"), "gold") is None
    assert ends(evaluations(records, "kto"), "gold") == (0.5, 0.75)


def test_wins_are_the_share_of_items_that_are_better_than_the_starts(records):
    own = evaluations(records, "dpo")
    found = wins(tuple(own), "steering/reward", 1)
    mine, start = (Evaluation(own[0].record, row).items("steering/reward").scores for row in ("self", "start"))
    assert wins(tuple(own[:1]), "steering/reward", 1).share == pytest.approx((mine > start).mean())
    assert 0.5 < found.low < found.share < found.high < 1
    turned = wins(tuple(own), "steering/reward", -1)
    assert turned.share == pytest.approx(1 - found.share)
    assert wins(tuple(evaluations(records, "sft")), "steering/reward", 1) is None, "it has no start"


def test_a_table_that_asks_for_it_has_the_sheet(records):
    spec = make_spec(recipes=["base", "sft", "dpo", "kto"], seeds=[0, 1], along=True, wins="steering/reward")
    page = read(spec, records, conf_dir()).page
    sheet = next(one for one in page.parts[0].sheets if one.title == "Along training")
    assert sheet.keys == ("dpo", "kto")
    dpo, kto = (dict(zip(sheet.head, line, strict=True)) for line in sheet.lines)
    assert dpo["log-prob of chosen, nats"] == "-3.500"
    assert dpo["... of rejected"] == "-5.000"
    assert dpo["gold reward"] == ""
    assert kto["gold reward"] == "0.500 → 0.750"
    assert "[" in dpo["wins against the start (steering/reward)"]
    assert "displacement" in render(page, "md")
    row = next(one for one in page.rows if one["recipe"] == "dpo" and "logp_chosen.last" in one)
    assert row["logp_chosen.last"] == -11.5
    assert json.loads(render(page, "json"))


def test_a_table_that_does_not_ask_has_none(records):
    page = read(make_spec(recipes=["base", "dpo"], seeds=[0, 1]), records, conf_dir()).page
    assert "Along training" not in [sheet.title for sheet in page.parts[0].sheets]

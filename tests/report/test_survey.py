"""The survey's tables as data: whole, verbatim, and joined with recipes and records."""

from __future__ import annotations

import json
import math

import pytest
from tests.report.conftest import make_spec
from tests.report.synthetic import write_record

from polm_bench.paths import conf_dir
from polm_bench.report.choose import Cells
from polm_bench.report.facts import Facts, recipe_facts
from polm_bench.report.page import render
from polm_bench.report.records import load
from polm_bench.report.spec import Printed, load_spec
from polm_bench.report.survey_page import NONE_YET, covering, survey_page
from polm_bench.report.table import make, save

approx = pytest.approx
ROWS = {2: 22, 4: 30, 5: 30, 6: 31, 8: 17, 9: 29}


@pytest.mark.parametrize("number", ROWS)
def test_a_printed_table_has_all_its_rows_and_builds_without_records(number):
    spec = load_spec(conf_dir(), f"survey_table{number}")
    assert len(spec.printed.rows) == ROWS[number]
    known = {"key", "doubts", *spec.printed.columns}
    for row in spec.printed.rows:
        assert set(row) <= known
        assert set(row.get("doubts", ())) <= set(spec.printed.doubts)
    page = make(spec, [], conf_dir()).page
    assert {row["method"] for row in page.rows} == {row["method"] for row in spec.printed.rows}
    for style in ("md", "csv", "json", "latex", "html"):
        assert render(page, style)


def test_printed_figures_stand_as_printed():
    rows = {row["method"]: row for row in load_spec(conf_dir(), "survey_table5").printed.rows}
    assert (rows["GPTQ"]["bits"], rows["GPTQ"]["wiki"], rows["GPTQ"]["speed"]) == ("3/16/16", 0.34, "3.24x")
    assert rows["EasyQuant"]["c4"] == "6.30"
    rows = {row["method"]: row for row in load_spec(conf_dir(), "survey_table2").printed.rows}
    assert (rows["GRPO"]["policy"], rows["GRPO"]["doubts"]) == ("off", ["a"])
    assert rows["InstructGPT"]["policy"] == "on"


def test_only_recipes_of_a_printed_method_are_cells_of_its_table():
    spec, facts = load_spec(conf_dir(), "survey_table2"), recipe_facts(conf_dir())
    keys = {row.get("key") for row in spec.printed.rows}
    assert {"base", "dpo", "simpo"} <= set(spec.recipes)
    for name in spec.recipes[1:]:
        assert keys & {*facts[name].survey, name}


def test_a_row_stands_beside_what_was_measured_of_each_of_its_recipes(tmp_path):
    for seed in (0, 1):
        write_record(tmp_path, "dpo", seed)
        write_record(tmp_path, "base", seed)
    facts = {
        name: Facts(
            name, {"survey": [key], "axes": {"survey": {"F": "human"}, "ours": {"F": "rule", "arity": "pair"}}}, None
        )
        for name, key in (("dpo", "dpo"), ("dpo_two", "dpo"))
    }
    rows = [
        {"method": "DPO", "key": "dpo", "F": "human"},
        {"method": "PRO", "key": "pro", "F": "human", "doubts": ["a"]},
    ]
    printed = Printed(
        2, "a survey", {"method": "method", "F": "F"}, tuple(rows), {"a": "doubtful"},
        measured=("arithmetic/exact_match", "flops"), ratios=("served_bytes",),
    )  # fmt: skip
    spec = make_spec(recipes=["base", "dpo"], seeds=[0, 1], printed=printed)
    assert covering(rows[0], facts) == ["dpo", "dpo_two"]
    page = survey_page(spec, Cells(load(tmp_path)), facts)
    first, second, third = page.rows
    assert (first["recipe"], first["ours"], first["cells"]) == ("dpo", "F rule, arity pair", "2 ok")
    assert first["arithmetic/exact_match"] > 0.1  # a difference from the base
    assert first["arithmetic/exact_match.low"] < first["arithmetic/exact_match"] < first["arithmetic/exact_match.high"]
    assert first["flops"] == approx(400_000 * 2.1e7 * 2)
    assert (second["recipe"], second["cells"]) == ("dpo_two", "2 missing")
    assert (third["recipe"], third["doubts"]) == (NONE_YET, "a")
    assert "1 of 2 rows have a recipe" in render(page, "md")
    [picks] = [block["rows"] for block in page.charts()["blocks"]]  # what a reader filters by
    assert picks[0]["axes"] == {"F": "rule", "arity": "pair"}
    assert page.parts[0].sheets[0].keys == tuple(one["name"] for one in picks) == ("dpo", "dpo_two", "printed PRO")


def test_a_data_set_stands_beside_the_configuration_that_reads_it():
    page = make(load_spec(conf_dir(), "survey_table9"), [], conf_dir()).page
    row = next(row for row in page.rows if row["method"] == "HH-RLHF")
    assert (row["configuration"], row["licence"], row["read from"]) == ("hh_rlhf", "mit", "Anthropic/hh-rlhf")
    assert "preference" in row["roles"]


def test_bits_and_the_change_of_perplexity_are_made_of_measured_figures(tmp_path):
    for recipe in ("base", "sft"):
        write_record(tmp_path, recipe)
    printed = Printed(
        5,
        "a survey",
        {"method": "method"},
        ({"method": "SFT", "key": "sft"},),
        derived=("bits_per_weight", "perplexity"),
    )
    spec = make_spec(recipes=["base", "sft"], seeds=[0], printed=printed)
    row = survey_page(spec, Cells(load(tmp_path)), {"sft": Facts("sft", {}, None)}).rows[0]
    assert row["bits per weight"] == approx(8 * 7_100_000 / 3_500_000)
    values = {one["row"]: one["value"] for one in load(tmp_path)[-1].scores if one["task"] == "text"}
    assert row["change in perplexity per byte"] == approx(2 ** values["self"] - 2 ** values["base"])
    low, high = (row[f"change in perplexity per byte.{end}"] for end in ("low", "high"))
    assert low < row["change in perplexity per byte"] < high < 0


def test_what_was_compressed_is_read_against_the_model_before(tmp_path):
    """Speeds of twice and of eight times the start's: four times as fast, in the geometric mean."""
    for seed, times in ((0, 2), (1, 8)):
        path = write_record(tmp_path, "dpo", seed)
        record = json.loads(path.read_text())
        before = {"prefill_tokens_per_second": 1000.0, "served_bytes": 14_200_000}
        record["stages"].append({"key": record["rows"]["start"], "kind": "Evaluate", "shared": False, "ledger": before})
        record["cost"]["prefill_tokens_per_second"] = 1000.0 * times
        path.write_text(json.dumps(record))
    printed = Printed(
        5, "a survey", {"method": "method"}, ({"method": "DPO", "key": "dpo"},), measured=("text/bits_per_byte",),
        against="start", ratios=("served_bytes", "prefill_tokens_per_second"),
    )  # fmt: skip
    spec = make_spec(recipes=["dpo"], seeds=[0, 1], printed=printed)
    page = survey_page(spec, Cells(load(tmp_path)), {"dpo": Facts("dpo", {}, None)})
    row, speed = page.rows[0], "prefill_tokens_per_second, times the start's"
    gaps = []
    for record in load(tmp_path):
        values = {one["row"]: one["value"] for one in record.scores if one["task"] == "text"}
        gaps.append(values["self"] - values["start"])
    assert row["text/bits_per_byte"] == approx(sum(gaps) / 2)
    assert row["served_bytes, times the start's"] == approx(0.5)
    assert row[speed] == approx(4)
    reach = 12.7062 * math.log(2)  # Student's 97.5 % point with one degree of freedom; log 2 is the standard error
    assert (row[f"{speed}.low"], row[f"{speed}.high"]) == approx((4 / math.exp(reach), 4 * math.exp(reach)), rel=1e-4)
    head = page.parts[0].sheets[0].head
    assert "text/bits_per_byte ↓" in head
    assert "prefill tokens/s, times the start's" in head
    assert "difference from the model that it starts from" in render(page, "md")


def test_data_that_is_said_to_have_been_checked_is_read_by_a_test():
    spec = load_spec(conf_dir(), "survey_table9")
    tests = (conf_dir().parent / "tests" / "data" / "test_hub.py").read_text()
    rows = {row["configuration"]: row["loading"] for row in make(spec, [], conf_dir()).page.rows}
    for name in spec.printed.checked:
        assert rows[name] == "rows of its layout"
        assert f'"{name}"' in tests


def test_a_table_of_data_says_that_it_stands_on_configurations_and_runs_nothing(tmp_path):
    spec = load_spec(conf_dir(), "survey_table9")
    folder = save(spec, make(spec, [], conf_dir()).page, [], tmp_path)
    assert spec.cells() == []
    assert "Built from `conf/data/`" in (folder / "survey_table9.md").read_text()
    assert "records" not in (folder / "reproduce.sh").read_text()
    assert (folder / "reproduce.sh").read_text().endswith("polm-bench table survey_table9 --save\n")

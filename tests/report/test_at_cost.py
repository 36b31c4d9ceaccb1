"""A table at equal cost: measured scores where the model was finished by then, its training curve where it was not, nothing in between."""

from __future__ import annotations

import json

import pytest
from tests.report.conftest import make_spec
from tests.report.synthetic import make_record, write_record

from polm_bench.cli.app import main
from polm_bench.errors import PolmError
from polm_bench.paths import conf_dir
from polm_bench.report.at_cost import Cost, Stood, at_page, cost_of_words, spent, stood_at
from polm_bench.report.records import Record, load
from polm_bench.report.spec import load_spec

OVERVIEW = conf_dir().parent / "results" / "overview" / "records"


def two_stages(**cost) -> Record:
    """SFT of 100 tokens in ten points, then pairs of 200 tokens in four; 3 FLOPs a token there."""

    def stage(key, kind, tokens, flops):
        return {
            "key": key,
            "kind": kind,
            "ledger": {"tokens_trained": tokens, "flops": flops, "wall_seconds": tokens / 10},
        }

    def points(count, each):
        return [{"step": i, "tokens": i * each, "loss": 1.0 / i, "learning_rate": 0.1} for i in range(1, count + 1)]

    record = make_record("dpo")
    record["stages"] = [
        stage("f", "FetchModel", 0, 0),
        stage("a", "TrainSFT", 100, 100),
        stage("b", "ReferenceLogps", 0, 50),
        stage("c", "TrainPairs", 200, 600),
        stage(record["rows"]["self"], "Evaluate", 0, 10_000),
    ]
    record["curves"] = [
        {"stage": "a", "kind": "TrainSFT", "points": points(10, 10)},
        {"stage": "c", "kind": "TrainPairs", "points": points(4, 50)},
    ]
    record["cost"] = {"tokens_trained": 300, "tokens_generated": 0, "flops": 750, "wall_seconds": 30.0} | cost
    return Record(None, record)


@pytest.mark.parametrize(
    ("unit", "amount", "kind", "step", "at"),
    [
        ("tokens", 55, "TrainSFT", 5, 50),
        ("tokens", 100, "TrainPairs", None, None),  # the SFT is finished, the pairs have no point yet
        ("tokens", 210, "TrainPairs", 2, 200),
        ("flops", 150 + 310, "TrainPairs", 2, 450),
        ("seconds", 10 + 16, "TrainPairs", 3, 25),
    ],
)
def test_a_curve_is_read_at_its_last_point_within_the_cost(unit, amount, kind, step, at):
    found = stood_at(two_stages(), Cost(unit, amount))
    if step is None:
        assert found == f"before the first point of {kind}"
    else:
        assert found == Stood(kind, step, at, {"loss": 1.0 / step})


def test_a_stage_without_a_curve_says_so():
    assert stood_at(two_stages(), Cost("flops", 120)) == "inside ReferenceLogps, which has no curve"


def test_tokens_are_those_trained_and_those_generated():
    assert spent(two_stages(tokens_generated=40), "tokens") == 340


def test_memory_is_the_devices_and_the_hosts_where_there_is_none():
    assert spent(two_stages(peak_host_bytes=7, peak_device_bytes=0), "memory") == 7
    assert spent(two_stages(peak_host_bytes=7, peak_device_bytes=9), "memory") == 9


def test_only_finished_models_have_scores(tmp_path):
    for recipe in ("base", "sft", "dpo"):
        write_record(tmp_path, recipe)
    spec = make_spec(recipes=["base", "sft", "dpo", "kto"], seeds=[0])
    page = at_page(spec, load(tmp_path), {}, Cost("flops", 400_000 * 2.1e7))
    rows = {row["recipe"]: row for row in page.rows}
    [sheet] = page.parts[0].sheets
    assert sheet.title == "2 of 3 methods were finished within 8.40e+12 FLOPs; without a record yet: 1"
    assert [line[0] for line in sheet.lines] == ["base", "sft", "dpo"]
    assert "text/bits_per_byte ↓" in sheet.head
    assert {name: row["finished"] for name, row in rows.items()} == {
        "base": True,
        "sft": True,
        "dpo": False,
        "kto": False,
    }
    measured = next(s for s in load(tmp_path)[-1].scores if s["row"] == "self" and s["task"] == "arithmetic")
    assert rows["sft"]["arithmetic/exact_match"] == pytest.approx(measured["value"])
    assert rows["dpo"]["arithmetic/exact_match"] is None
    assert rows["dpo"]["curve"].startswith("no score at this cost")
    assert rows["kto"]["curve"] == "no record that ended well"


def test_a_method_over_the_cap_is_shown_without_scores(tmp_path):
    write_record(tmp_path, "dpo")
    page = at_page(make_spec(recipes=["dpo"], seeds=[0]), load(tmp_path), {}, Cost("bytes", 7e6))
    assert page.rows[0]["curve"] == "needs 7.1 MB"
    assert page.parts[0].sheets[0].title == "0 of 1 methods needed no more than 7 MB of served size"
    assert at_page(make_spec(recipes=["dpo"], seeds=[0]), load(tmp_path), {}, Cost("bytes", 7.1e6)).rows[0]["finished"]


@pytest.mark.parametrize("text", ["tokens", "tokens=", "tokens=-1", "steps=3", "flops=inf", "flops=nan"])
def test_a_cost_that_is_none_is_the_users_mistake(text):
    with pytest.raises(PolmError, match="tokens=100000"):
        cost_of_words(text)


def test_a_table_without_scores_is_refused():
    with pytest.raises(PolmError, match="no scores of its own"):
        at_page(load_spec(conf_dir(), "effects"), [], {}, Cost("tokens", 1))


def test_the_command_reads_published_records(capfd):
    assert main(["table", "overview", "--at", "tokens=100000", "--json", "--records", str(OVERVIEW)]) == 0
    rows = {row["recipe"]: row for row in json.loads(capfd.readouterr().out)["rows"]}
    assert rows["base"]["finished"]
    assert not rows["dpo"]["finished"]
    assert "training curve of TrainPairs" in rows["dpo"]["curve"]
    assert main(["table", "overview", "--at", "tokens=100000", "--save"]) == 2

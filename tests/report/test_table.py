from __future__ import annotations

import random
import shlex

import numpy as np
import pytest
from tests.report.conftest import make_spec
from tests.report.synthetic import make_record, score, stage, write_json, write_record

from polm_bench.errors import BadData, UnknownName
from polm_bench.paths import conf_dir
from polm_bench.report import ranking
from polm_bench.report.items import Evaluation, read_items
from polm_bench.report.measure import bootstrap
from polm_bench.report.parts import Entry
from polm_bench.report.records import load
from polm_bench.report.render import render
from polm_bench.report.sharing import sharing
from polm_bench.report.spec import load_spec
from polm_bench.report.table import build, records_folder
from polm_bench.stats import benjamini_hochberg, holm

approx = pytest.approx
ARITHMETIC, TEXT = "arithmetic/exact_match", "text/bits_per_byte"


def rows_of(table):
    return {row.name: row for block in table.blocks for row in block.rows}


@pytest.fixture(scope="module")
def table(spine):
    return build(make_spec(), load(spine))


@pytest.mark.parametrize("path", sorted((conf_dir() / "table").glob("*.yaml")), ids=lambda path: path.stem)
def test_every_table_of_conf_reads_and_carries_its_own_name(path):
    spec = load_spec(conf_dir(), path.stem)
    assert spec.name == path.stem
    assert "base" in spec.recipes or spec.view == "frontier"  # whose points are read against their own start
    for cell in spec.cells():
        assert cell[0].startswith("+recipe=")


def test_cells_are_the_overrides_of_a_run_and_all_seeds_of_a_recipe_come_together():
    cells = make_spec(recipes=["base", "dpo"], seeds=[0, 1]).cells()
    assert [shlex.join(cell) for cell in cells[:2]] == [
        "+recipe=base model=nano data=nano budget=nano suite=nano seed=0",
        "+recipe=base model=nano data=nano budget=nano suite=nano seed=1",
    ]
    assert len(cells) == 4


def test_an_unknown_table_is_answered_with_near_names():
    with pytest.raises(UnknownName, match=r"no table named 'spin'\. Did you mean spine"):
        load_spec(conf_dir(), "spin")


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("name: x\ntitle: X\nrecipe: [base]\n", "recipe: Unexpected keyword argument"),
        ("- a\n", "holds no mapping"),
        ("name: [\n", "no YAML"),
    ],
)
def test_a_faulty_table_file_is_named_with_its_fault(tmp_path, text, fault):
    (tmp_path / "table").mkdir()
    (tmp_path / "table" / "x.yaml").write_text(text)
    with pytest.raises(BadData, match=r"table/x\.yaml") as error:
        load_spec(tmp_path, "x")
    assert fault in str(error.value)


def test_a_rows_score_is_the_mean_over_seeds_of_the_records(spine, table):
    values = [Evaluation(r, "self").scores[ARITHMETIC]["value"] for r in load(spine) if r.cell["recipe"] == "dpo"]
    measure = rows_of(table)["dpo"].measures[ARITHMETIC]
    assert measure.value == approx(np.mean(values))
    assert measure.low < measure.value < measure.high
    assert (measure.seeds, measure.items) == (3, 120)


def test_a_difference_is_paired_with_the_base_of_the_same_record(spine, table):
    gaps = []
    for record in load(spine):
        if record.cell["recipe"] == "sft":
            own, base = (read_items(record.items_path(row))[TEXT] for row in ("self", "base"))
            gaps.append(np.average(own.scores - base.scores, weights=own.weights))
    found = rows_of(table)["sft"].measures[TEXT].difference
    assert found.mean == approx(np.mean(gaps))
    assert found.seeds == 3


def test_the_base_is_one_model_however_many_seeds_it_stands_beside(table):
    base = rows_of(table)["base"]
    assert base.measures[ARITHMETIC].seeds == 1
    assert base.statuses == {"ok": 3}
    assert base.measures[ARITHMETIC].difference is None


def test_p_values_are_corrected_over_the_whole_table(table):
    measures = [m for row in table.blocks[0].rows for m in row.measures.values() if m.difference]
    assert len(measures) == 5 * 4
    raw = [m.difference.p for m in measures]
    assert [m.p_holm for m in measures] == approx(holm(raw))
    assert [m.p_bh for m in measures] == approx(benjamini_hochberg(raw))
    assert all(p <= m.p_bh + 1e-12 <= m.p_holm + 2e-12 for p, m in zip(raw, measures))


def test_ranks_put_the_methods_that_move_the_score_before_those_that_do_not(table):
    ranks = {name: row.ranks[ARITHMETIC] for name, row in rows_of(table).items()}
    assert ranks["dpo"][0] == ranks["simpo"][0] == 1  # two that can't be told apart
    assert ranks["base"] == (6, 6)
    lower_is_better = {name: row.ranks[TEXT][0] for name, row in rows_of(table).items()}
    assert lower_is_better["dpo"] < lower_is_better["base"]


def test_all_pairs_at_once_and_pair_by_pair_give_the_same_p_values(spine, monkeypatch):
    entries = [
        Entry(name, found, {}, tuple(Evaluation(one, "self") for one in found), {})
        for name in ("base", "sft", "dpo", "kto")
        if (found := tuple(record for record in load(spine) if record.cell["recipe"] == name))
    ]
    for column in (ARITHMETIC, TEXT, "steering/reward"):
        at_once = ranking._p_values(entries, column, bootstrap())
        with monkeypatch.context() as patch:
            patch.setattr(ranking, "_has_items", lambda entry, column: False)
            one_by_one = ranking._p_values(entries, column, bootstrap())
        assert at_once[np.triu_indices(4, 1)] == approx(one_by_one[np.triu_indices(4, 1)], rel=1e-6)


def test_rows_stand_under_their_paradigms_with_one_figure_over_all_tasks(spine):
    table = build(make_spec(grouped=True, overall=True), load(spine))
    whole = table.blocks[0].overall
    assert table.blocks[0].proportions == (ARITHMETIC, "instructions/prompt_acc")
    assert whole["base"].improves is None
    assert whole["dpo"].improves.value == 1.0  # every seed beats the base on every task
    assert 0 < whole["base"].middle.value < whole["dpo"].middle.value
    text = render(table, "md")
    assert "| **Alignment**" in text
    assert "**All 4 tasks**" in text


def test_a_score_of_one_method_alone_keeps_nobody_from_a_figure_over_all_tasks(spine):
    records = load(spine)
    for record in records:
        if record.cell["recipe"] == "dpo":
            record.scores.append(score("self", "probe", "likelihood", -2.0, n=9))
    block = build(make_spec(overall=True), records).blocks[0]
    assert "probe/likelihood" in [column.name for column in block.columns]
    assert set(block.overall) == {"base", "sft", "lora", "dpo", "simpo", "kto"}
    assert "**All 4 tasks**" in render(build(make_spec(overall=True), records), "md")


def test_a_table_tells_what_its_cells_shared(tmp_path):
    for seed in (0, 1):
        record = make_record("dpo", seed)
        record["stages"] = [stage("TrainSFT", 0, seed > 0, 40.0), stage("TrainPairs", seed, False, 10.0)]
        write_json(tmp_path, record)
    found = sharing(load(tmp_path))
    assert found == (4, 3, 60.0, 40.0)


def test_the_front_holds_what_no_cheaper_row_equals(table):
    rows = rows_of(table)
    assert rows["base"].costs["flops"] == 0
    assert rows["base"].measures[ARITHMETIC].front  # nothing is cheaper
    for name, row in rows.items():
        measure, cost = row.measures[ARITHMETIC], row.costs["flops"]
        beaten = any(
            other.costs["flops"] <= cost and other.measures[ARITHMETIC].value > measure.value for other in rows.values()
        )
        assert not (measure.front and beaten), name


def test_only_headline_scores_are_shown_unless_others_are_asked_for(spine, table):
    assert "steering/distinct_2" not in [column.name for column in table.blocks[0].columns]
    asked = build(make_spec(scores=["steering/distinct_2"]), load(spine))
    assert rows_of(asked)["dpo"].measures["steering/distinct_2"].value == 0.4


def test_a_figure_that_no_item_has_is_compared_by_its_seeds_and_by_nothing_where_there_is_one(spine):
    records, name = load(spine), "steering/distinct_2"
    for record in records:
        if record.cell["recipe"] == "dpo":
            for score in record.scores:
                if score["row"] == "self" and score["metric"] == "distinct_2":
                    score["value"] = 0.5 + 0.1 * record.cell["seed"]
    row = rows_of(build(make_spec(scores=[name]), records))["dpo"]
    half = 4.302653 * 0.1 / 3**0.5  # Student's 97.5 % point with two degrees of freedom
    measure = row.measures[name]
    assert (measure.value, measure.low, measure.high) == approx((0.6, 0.6 - half, 0.6 + half), rel=1e-5)
    assert measure.difference[:3] == approx((0.2, 0.2 - half, 0.2 + half), rel=1e-5)
    assert measure.difference.test == "t"
    assert row.ranks[name][0] == 1
    alone = rows_of(build(make_spec(scores=[name], seeds=[1]), records))["dpo"]
    assert (alone.measures[name].low, alone.measures[name].difference, alone.ranks) == (None, None, {})


def test_a_table_of_one_seed_says_what_its_intervals_do_not_tell(spine):
    told = render(build(make_spec(seeds=[0]), load(spine)), "md")
    assert "One seed: intervals and tests tell what other items could change" in told
    assert "over all 20 differences" in told
    assert "One seed:" not in render(build(make_spec(), load(spine)), "md")


def test_costs_are_means_over_seeds(table):
    assert rows_of(table)["dpo"].costs["wall_seconds"] == approx(81.0)  # 80, 81, 82
    assert rows_of(table)["dpo"].costs["served_bytes"] == 7_100_000


def test_base_and_sft_rows_stand_in_a_table_of_other_recipes(spine):
    rows = rows_of(build(make_spec(recipes=["dpo"]), load(spine)))
    assert list(rows) == ["base", "sft (start)", "dpo"]
    assert rows["sft (start)"].title == "SFT that dpo starts from"
    assert rows["sft (start)"].measures[ARITHMETIC].difference.mean > 0
    assert rows["base"].costs["flops"] is None  # the records of dpo don't tell


def test_failed_cells_are_counted_noted_and_ranked_last(tmp_path):
    for recipe in ("base", "sft", "dpo"):
        write_record(tmp_path, recipe)
    write_record(tmp_path, "kto", status="oom", reason="out of memory: 9 GB asked,\n 2 GB there")
    table = build(make_spec(recipes=["base", "sft", "dpo", "kto"], seeds=[0]), load(tmp_path))
    row = rows_of(table)["kto"]
    assert row.statuses == {"oom": 1}
    assert row.measures == {}
    assert row.ranks[ARITHMETIC] == (4, 4)
    assert "seed 0 oom: out of memory: 9 GB asked, 2 GB there" in row.notes


def test_cells_without_a_record_are_named(tmp_path):
    write_record(tmp_path, "dpo", 0)
    table = build(make_spec(recipes=["dpo", "kto"], seeds=[0, 1]), load(tmp_path))
    assert [shlex.join(cell) for cell in table.missing] == [
        "+recipe=dpo model=nano data=nano budget=nano suite=nano seed=1",
        "+recipe=kto model=nano data=nano budget=nano suite=nano seed=0",
        "+recipe=kto model=nano data=nano budget=nano suite=nano seed=1",
    ]
    assert rows_of(table)["dpo"].statuses == {"ok": 1, "missing": 1}


def test_a_table_of_no_records_has_its_rows_and_nothing_in_them():
    table = build(make_spec(), [])
    assert list(rows_of(table)) == list(make_spec().recipes)
    assert len(table.missing) == 18


def test_a_run_with_settings_of_its_own_never_stands_for_the_cell(tmp_path):
    changed = make_record("dpo")
    changed["cell"]["origins"]["recipe.lr"] = "command line"
    write_json(tmp_path, changed)
    assert len(build(make_spec(recipes=["dpo"], seeds=[0]), load(tmp_path)).missing) == 1
    launched = make_record("dpo")
    launched["cell"]["origins"]["launch.threads"] = "command line"
    write_json(tmp_path, launched)
    assert build(make_spec(recipes=["dpo"], seeds=[0]), load(tmp_path)).missing == ()


def test_the_newest_record_of_a_cell_stands_for_it(tmp_path):
    for number, minute in enumerate((5, 9, 7)):
        record = make_record("dpo", status="failed", id=f"dpo-{number}")
        record["provenance"] = {**record["provenance"], "finished": f"2026-11-20T10:{minute:02}:00+00:00"}
        write_json(tmp_path, record)
    table = build(make_spec(recipes=["dpo"], seeds=[0]), load(tmp_path))
    assert [record.id for record in table.records] == ["dpo-1"]


def test_a_row_says_what_sets_it_apart(tmp_path):
    for recipe in ("base", "sft", "dpo"):
        write_record(tmp_path, recipe)
    odd = make_record("kto")
    odd["cell"]["config"]["budget"] |= {"amount": 400.0}
    odd["tuning"] = {"trials": 8}
    odd["provenance"] |= {"versions": {**odd["provenance"]["versions"], "torch": "2.12.0"}}
    odd["provenance"] |= {"git": {"commit": "fedcba9876543210", "dirty": True}}
    write_record(tmp_path, "kto", **{name: odd[name] for name in ("cell", "provenance", "tuning")})
    rows = rows_of(build(make_spec(recipes=["base", "sft", "dpo", "kto"], seeds=[0], trials=8), load(tmp_path)))
    assert rows["base"].notes == ()
    assert rows["dpo"].notes == ("untuned: 1 of 8 trials of its settings",)
    assert rows["kto"].notes == (
        "other budget than most rows: amount 400.0 instead of 200.0",
        "other software than most rows: torch 2.12.0 instead of 2.13.0",
        "made with uncommitted changes on commit fedcba9876",
    )


def test_the_order_of_the_records_does_not_matter(spine, table):
    records = load(spine)
    random.Random(3).shuffle(records)
    assert build(make_spec(), records).blocks == table.blocks


def test_records_are_read_where_the_user_says_else_beside_the_table_else_at_home(tmp_path):
    results, home, given = tmp_path / "results", tmp_path / "home", tmp_path / "given"
    spec, reader = make_spec(), make_spec(name="effects", records_of="spine")
    assert records_folder(spec, results, home) == home / "records"
    (results / "spine" / "records").mkdir(parents=True)
    assert records_folder(spec, results, home) == records_folder(reader, results, home) == results / "spine" / "records"
    assert records_folder(spec, results, home, given) == given


def test_a_tuned_record_stands_in_a_table_that_asks_for_its_trials_only(tmp_path):
    for recipe in ("base", "dpo"):
        write_record(tmp_path, recipe)
    told = {"trials": 2, "by": "pairs", "chosen": {"loss.beta": 0.1}}
    told["best_after"] = [{"trials": k, "best": 0.5, "expected": 0.4 + k / 10, "spread": 0.05} for k in (1, 2)]
    write_record(tmp_path, "dpo", id="dpo-nano-nano-nano-nano-s0-tuned", tuning=told)
    spec = make_spec(recipes=["base", "dpo"], seeds=[0], trials=2)
    tuned, plain = build(spec, load(tmp_path)), build(make_spec(recipes=["base", "dpo"], seeds=[0]), load(tmp_path))
    assert rows_of(tuned)["dpo"].records == ("dpo-nano-nano-nano-nano-s0-tuned",)
    assert rows_of(tuned)["dpo"].notes == ()
    assert "tuned" not in rows_of(plain)["dpo"].records[0]
    text = render(tuned, "md")
    assert "| pairs " in text
    assert "0.500 ± 0.050" in text
    assert "0.600 ± 0.050" in text
    assert "Best of k" not in render(plain, "md")

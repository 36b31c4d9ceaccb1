from __future__ import annotations

import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from tests.report.conftest import make_spec
from tests.report.synthetic import key_of, make_record, write_json, write_record

from polm_bench.errors import StoreError, UnknownName
from polm_bench.report.items import Evaluation, align, column_of, read_items
from polm_bench.report.records import find, load, read


def test_records_come_in_order_of_their_ids(spine):
    ids = [record.id for record in load(spine)]
    assert len(ids) == 18
    assert ids == sorted(ids)


def test_a_folder_that_is_not_there_has_no_records(tmp_path):
    assert load(tmp_path / "nowhere") == []


def test_a_record_gives_its_parts(spine):
    record = find(load(spine), "dpo-nano-nano-nano-nano-s1")
    assert (record.cell["recipe"], record.cell["seed"], record.status) == ("dpo", 1, "ok")
    assert {score["row"] for score in record.scores} == {"self", "base", "start"}
    assert record.items("self").num_rows == 4 * 120


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ('{"schema": 1, "id":', "can't be read"),
        ("[]", "holds no mapping"),
        (json.dumps(make_record(schema=2)), "schema is 2, and this version reads 1"),
        (json.dumps({**make_record(), "cost": None}), "'cost' is not a dict"),
        (json.dumps({name: part for name, part in make_record().items() if name != "rows"}), "'rows' is missing"),
        (json.dumps(make_record(status="fine")), "'status' is 'fine'"),
        (json.dumps(make_record(scores=[{"row": "self"}])), "score 0 lacks"),
        (json.dumps(make_record(cell={"recipe": "dpo"})), "'cell' lacks model"),
    ],
)
def test_a_broken_record_is_refused_by_name(tmp_path, text, fault):
    (tmp_path / "broken.json").write_text(text)
    with pytest.raises(StoreError, match=r"broken\.json") as error:
        load(tmp_path)
    assert fault in str(error.value)


def test_a_record_is_found_by_id_prefix_key_and_path(spine):
    records = load(spine)
    wanted = next(record for record in records if record.id.startswith("simpo") and record.cell["seed"] == 2)
    assert find(records, wanted.id) is wanted
    assert find(records, wanted.id[:-6]) is wanted
    assert find(records, wanted.id[-12:]) is wanted
    assert find(records, str(wanted.path)).id == wanted.id


def test_an_unknown_record_is_answered_with_near_names(spine):
    with pytest.raises(UnknownName, match=r"Did you mean .*simpo-nano-nano-nano-nano-s0"):
        find(load(spine), "simop-nano-nano-nano-nano-s0")


def test_a_name_that_several_records_share_is_refused_with_their_number(spine):
    with pytest.raises(UnknownName, match="3 records start so: give more of the name"):
        find(load(spine), "dpo-")


def test_missing_items_are_named(tmp_path):
    record = read(write_record(tmp_path))
    path = record.items_path("self")
    path.unlink()
    with pytest.raises(StoreError, match=path.name):
        record.items("self")
    with pytest.raises(StoreError, match="no items of row 'other'; it has: self, base, start"):
        record.items("other")


def test_a_column_names_the_filter_only_where_it_is_not_the_plain_one():
    score = {"task": "gsm8k", "metric": "exact_match"}
    assert column_of(score | {"filter": "strict-match"}) == "gsm8k/exact_match"
    assert column_of(score | {"filter": "none"}) == "gsm8k/exact_match"
    assert column_of(score | {"filter": "flexible-extract"}) == "gsm8k/exact_match,flexible-extract"


def item(name, score=1.0, prompt="p", **changes):
    found = {"task": "t", "item": name, "cluster": name, "prompt_hash": prompt, "metric": "acc", "score": score}
    return found | {"weight": 1.0, "output": ""} | changes


def items_file(folder, *rows):
    path = folder / f"{key_of(rows)}.parquet"
    pq.write_table(pa.Table.from_pylist(list(rows)), path)
    return path


def test_items_are_split_by_column_and_sorted_by_id(tmp_path):
    path = items_file(tmp_path, item("b", 0.0), item("a", 1.0), item("a", 7.0, metric="words"))
    found = read_items(path)
    assert sorted(found) == ["t/acc", "t/words"]
    assert list(found["t/acc"].ids) == ["a", "b"]
    assert list(found["t/acc"].scores) == [1.0, 0.0]
    assert list(found["t/acc"].lines) == [1, 0]


def test_an_item_that_comes_twice_is_refused(tmp_path):
    with pytest.raises(StoreError, match="an item of t/acc twice"):
        read_items(items_file(tmp_path, item("a"), item("a")))


def test_items_with_an_empty_cell_are_refused(tmp_path):
    with pytest.raises(StoreError, match="empty cells in the column score"):
        read_items(items_file(tmp_path, item("a"), item("b", None)))


def test_evaluations_are_aligned_by_item_not_by_place(tmp_path):
    first = read_items(items_file(tmp_path, item("c", 0.3), item("a", 0.1), item("b", 0.2)))["t/acc"]
    second = read_items(items_file(tmp_path, item("b", 20.0, "other"), item("d", 40.0), item("a", 10.0)))["t/acc"]
    side = align([first, second])
    assert side.scores.tolist() == [[0.1, 0.2], [10.0, 20.0]]
    assert (side.left_out, side.other_prompts) == (1, 1)


def test_an_evaluation_knows_the_scores_of_its_own_row(spine):
    record = find(load(spine), "dpo-nano-nano-nano-nano-s0")
    own, base = Evaluation(record, "self"), Evaluation(record, "base")
    assert own.key != base.key
    assert own.scores["arithmetic/exact_match"]["value"] > base.scores["arithmetic/exact_match"]["value"]
    assert own.items("steering/distinct_2") is None


def test_only_the_files_that_are_asked_for_are_opened(tmp_path):
    write_json(tmp_path, make_record("dpo", 0))
    (tmp_path / "kto-nano-nano-nano-nano-s0-0123456789ab.json").write_text("no record")
    names = make_spec(recipes=["dpo"], seeds=[0]).record_names()
    assert [record.cell["recipe"] for record in load(tmp_path, names)] == ["dpo"]

"""The contamination gate: test items that stand in training text are found, and nano has none."""

from __future__ import annotations

import json

import pyarrow.parquet as pq
import pytest

from polm_bench.config import plan
from polm_bench.data import nano
from polm_bench.data.gate import clean_scores, result, training_rows
from polm_bench.data.overlap import NGRAM, Index, SuiteItem, row_texts, words
from polm_bench.paths import conf_dir
from polm_bench.report.notes import notes_of
from polm_bench.report.records import load

LONG = "Anna has twelve red apples and gives five of them to her brother before lunch, how many are left?"
SHORT = "What is the capital of Chad?"
OVERVIEW = conf_dir().parent / "results" / "overview" / "records"


def base():
    """The record of nano's base."""
    return next(one for one in load(OVERVIEW) if one.cell["recipe"] == "base")


def items_of(record, folder):
    """Its items as a stage writes them: the published ones share what was asked."""
    pq.write_table(record.items("self"), folder / "items.parquet")
    return folder / "items.parquet"


def found(items, *texts):
    return [(one.task, one.item) for one in Index(items).found(texts)]


def test_thirteen_words_in_a_row_are_found_in_a_longer_text_whatever_their_case_and_stops():
    item = SuiteItem("sums", "7", LONG)
    kept = " ".join(words(LONG)[:NGRAM]).upper()
    assert found([item], f"Once upon a time {kept}! The end.") == [("sums", "7")]
    assert found([item], " ".join(words(LONG)[: NGRAM - 1])) == []


def test_a_short_question_is_found_only_as_a_whole_text():
    item = SuiteItem("facts", "3", SHORT)
    assert found([item], "what is the capital of CHAD") == [("facts", "3")]
    assert found([item], f"They asked: {SHORT}") == []


def test_a_long_answer_counts_and_a_short_one_does_not():
    assert found([SuiteItem("text", "1", "", (LONG,))], f"He said: {LONG}") == [("text", "1")]
    assert found([SuiteItem("facts", "1", SHORT, ("Yes",))], "yes") == []


def test_an_item_is_told_once_with_the_passage_that_told():
    told = Index([SuiteItem("sums", "7", LONG)]).found([LONG, LONG])
    assert [one.passage for one in told] == [" ".join(words(LONG)[:NGRAM])]


def test_all_texts_of_a_row_are_read_but_not_who_speaks():
    row = {"prompt": [{"role": "user", "content": "a"}], "responses": ["b", "c"], "scores": [1.0, 2.0]}
    assert list(row_texts(row)) == ["a", "b", "c"]


@pytest.mark.parametrize("role", ["sft", "facts", "documents"])
def test_nano_is_clean_by_construction(role):
    items = [
        SuiteItem(task, str(number), one.prompt, (one.answer,))
        for task in nano.TEST_SIZES
        for number, one in enumerate(nano.test_items(task))
    ]
    told = result(items, nano.rows(role, "train"))
    assert told["rows"] == len(nano.rows(role, "train"))
    assert {task: own["found"] for task, own in told["tasks"].items()} == {task: {} for task in nano.TEST_SIZES}
    assert sum(own["items"] for own in told["tasks"].values()) == sum(nano.TEST_SIZES.values())


def test_what_a_graph_trains_on_is_found_at_any_depth():
    roles = {
        name: [rows.role for rows in training_rows(plan([f"+recipe={name}"]).evaluations["self"])]
        for name in ("base", "dpo", "ties", "best_of_n", "few_shot", "rag")
    }
    assert roles == {
        "base": [],
        "dpo": ["sft", "preference"],
        "ties": ["domains"],
        "best_of_n": ["sft", "preference"],  # of the reward model that chooses
        "few_shot": ["sft"],  # examples in the prompt
        "rag": ["sft", "documents"],
    }


@pytest.fixture(scope="module")
def planted(tmp_path_factory):
    """A cell whose training file holds 3 of the 500 questions of nano_arithmetic, and what the gate says of it."""
    folder = tmp_path_factory.mktemp("planted")
    items = nano.test_items("arithmetic")[:3]
    rows = [{"prompt": one.prompt, "completion": one.answer} for one in items]
    rows += [{"prompt": f"Say {number}.", "completion": f"Here: {number}"} for number in range(40)]
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    cell = plan(
        ["+recipe=sft", "data=path", "data.role=sft", f"data.path={folder / 'rows.jsonl'}", "data.validation_share=0.1"]
    )
    record = base()
    told = cell.contamination(folder / "overlap", record.scores, {"self": items_of(record, folder)})
    return folder, cell, record, told


@pytest.mark.slow
def test_a_planted_overlap_is_found_and_scored_without_it(planted):
    _, _, record, told = planted
    kept = told["tasks"]["nano_arithmetic"]["found"]
    assert 1 <= len(kept) <= 3  # a share of the rows is kept apart for validation
    assert set(kept) <= {"arithmetic-0000", "arithmetic-0001", "arithmetic-0002"}
    assert [task for task, own in told["tasks"].items() if own["found"]] == ["nano_arithmetic"]
    clean = next(one for one in told["clean"] if one["metric"] == "exact_match")
    items = {
        line["item"]: line["score"]
        for line in record.items("self").to_pylist()
        if line["task"] == "nano_arithmetic" and line["metric"] == "exact_match"
    }
    rest = [value for name, value in items.items() if name not in kept]
    assert (clean["n"], clean["value"]) == (len(rest), pytest.approx(sum(rest) / len(rest)))


@pytest.mark.slow
def test_what_was_looked_up_is_not_looked_up_again(planted, monkeypatch):
    folder, cell, record, told = planted
    monkeypatch.setattr("polm_bench.data.gate.suite_items", lambda suite: pytest.fail("looked up again"))
    again = cell.contamination(folder / "overlap", record.scores, {"self": folder / "items.parquet"})
    assert again == told


@pytest.mark.slow
def test_a_look_up_that_fails_does_not_cost_the_run(planted, tmp_path, monkeypatch):
    _, cell, record, _ = planted

    def gone(suite):
        raise OSError("no route to the hub")

    monkeypatch.setattr("polm_bench.data.gate.suite_items", gone)
    told = cell.contamination(tmp_path, record.scores, {"self": tmp_path / "items.parquet"})
    assert told["unchecked"] == "sft: OSError: no route to the hub"
    assert told["clean"] == []


def test_a_row_of_a_table_says_how_many_items_it_had_seen(tmp_path):
    record = next(one for one in load(OVERVIEW) if one.cell["recipe"] == "sft")
    tasks = {
        "nano_arithmetic": {"items": 500, "found": {"arithmetic-0000": "x"}},
        "nano_facts": {"items": 504, "found": {}},
    }
    clean = [{"row": "self", "task": "nano_arithmetic", "metric": "exact_match", "value": 0.25, "n": 499}]
    record.data["contamination"] = {"tasks": tasks, "clean": clean}
    notes = notes_of([record], [record])
    assert "1 of 500 items of nano_arithmetic stand in its training rows; on the others: exact_match 0.250" in notes
    assert not any("nano_facts" in note for note in notes)


def test_clean_scores_leave_out_figures_that_no_item_has(tmp_path):
    record = base()
    told = {"tasks": {"nano_steering": {"items": 500, "found": {"steering-0000": "x"}}}}
    made = {one["metric"]: one for one in clean_scores(told, "self", record.scores, items_of(record, tmp_path))}
    assert made["reward"]["n"] == 499
    assert made["distinct_2"]["value"] is None

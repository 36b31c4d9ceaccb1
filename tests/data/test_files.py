"""Local files of every kind, by content and not by place; what is wrong is named by file and line."""

from __future__ import annotations

import csv
import json

import pyarrow
import pyarrow.parquet
import pytest

from polm_bench.data.path import path_data
from polm_bench.errors import BadData, UnknownName
from polm_bench.graph import identity

PAIRS = [{"prompt": f"Question {n}?", "chosen": f"good {n}", "rejected": f"bad {n}"} for n in range(20)]


def source(path, role="preference", **settings):
    given = {
        "layout": "columns",
        "columns": {},
        "roles": {},
        "train": "train",
        "validation": None,
        "validation_share": 0.1,
        "revision": None,
        "config": None,
        "files": {},
        "limit": None,
        "max_bad": 0.02,
        "license": "unknown",
    }
    return path_data("path", None if path is None else str(path), role, **{**given, **settings})


def write_jsonl(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


@pytest.fixture
def kinds(tmp_path):
    """The same rows as JSON lines, a JSON list, CSV, TSV and Parquet."""
    paths = [write_jsonl(tmp_path / "a.jsonl", PAIRS), tmp_path / "a.json", tmp_path / "a.csv", tmp_path / "a.tsv"]
    paths[1].write_text(json.dumps(PAIRS), encoding="utf-8")
    for path, mark in ((paths[2], ","), (paths[3], "\t")):
        with path.open("w", newline="", encoding="utf-8") as handle:
            writer = csv.DictWriter(handle, list(PAIRS[0]), delimiter=mark)
            writer.writeheader()
            writer.writerows(PAIRS)
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(PAIRS), tmp_path / "a.parquet")
    return [*paths, tmp_path / "a.parquet"]


def test_all_kinds_of_file_give_the_same_rows(kinds):
    found = [source(path).role("preference") for path in kinds]
    assert len(found[0].load("train")) == 18
    assert len(found[0].load("validation")) == 2
    assert all(rows.load("train") == found[0].load("train") for rows in found)


def test_splits_share_no_prompt_and_lose_no_row(tmp_path):
    rows = PAIRS + [{**row, "chosen": "other"} for row in PAIRS]
    data = source(write_jsonl(tmp_path / "a.jsonl", rows)).role("preference")
    train, validation = ({row["prompt"][0]["content"] for row in data.load(split)} for split in ("train", "validation"))
    assert train.isdisjoint(validation)
    assert len(data.load("train")) + len(data.load("validation")) == 40


def test_identity_is_content_and_not_place(tmp_path):
    (tmp_path / "b").mkdir()
    here, there = write_jsonl(tmp_path / "a.jsonl", PAIRS), write_jsonl(tmp_path / "b" / "c.jsonl", PAIRS)
    assert identity(source(here).role("preference")) == identity(source(there).role("preference"))
    write_jsonl(there, PAIRS[:-1])
    assert identity(source(here).role("preference")) != identity(source(there).role("preference"))


def test_columns_are_mapped_and_margins_are_kept(tmp_path):
    rows = [{"q": row["prompt"], "good": row["chosen"], "bad": row["rejected"], "margin": 2} for row in PAIRS]
    columns = {"prompt": "q", "chosen": "good", "rejected": "bad", "margin": None}
    data = source(write_jsonl(tmp_path / "a.jsonl", rows), columns=columns)
    first = data.role("preference").load("train")[0]
    assert first == {
        "prompt": [{"role": "user", "content": "Question 0?"}],
        "chosen": "good 0",
        "rejected": "bad 0",
        "margin": 2.0,
    }


def test_roles_that_follow_from_preferences_are_there(tmp_path):
    data = source(write_jsonl(tmp_path / "a.jsonl", PAIRS))
    assert data.roles() == ("corpus", "preference", "prompts", "sft", "unpaired")
    assert data.role("sft").load("train")[0]["completion"] == "good 0"
    labels = [row["label"] for row in data.role("unpaired").load("train")]
    assert labels == [True, False] * 18


def test_a_folder_and_a_file_for_validation_are_splits(tmp_path):
    (tmp_path / "d").mkdir()
    write_jsonl(tmp_path / "d" / "train.jsonl", PAIRS[:15])
    write_jsonl(tmp_path / "d" / "validation.jsonl", PAIRS[15:])
    folder = source(tmp_path / "d").role("preference")
    files = source(tmp_path / "d" / "train.jsonl", validation=str(tmp_path / "d" / "validation.jsonl")).role(
        "preference"
    )
    assert [len(folder.load(split)) for split in ("train", "validation")] == [15, 5]
    assert identity(folder) == identity(files)


def test_chat_layouts_are_read(tmp_path):
    said = [{"role": "user", "content": "Hi there?"}, {"role": "assistant", "content": "Yes."}]
    rows = [{"messages": [{"role": "system", "content": str(n)}, *said]} for n in range(3)]
    found = source(write_jsonl(tmp_path / "a.jsonl", rows), role="sft", layout="messages").role("sft").load("train")
    assert found[0] == {"prompt": [{"role": "system", "content": "0"}, said[0]], "completion": "Yes."}


def test_csv_cells_hold_lists_truth_values_and_numbers(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text('prompt,completion,label\n"one, two",a,true\nthree,b,FALSE\nfour,c,True\n', encoding="utf-8")
    rows = source(path, role="unpaired").role("unpaired")
    labels = {row["completion"]: row["label"] for split in ("train", "validation") for row in rows.load(split)}
    assert labels == {"a": True, "b": False, "c": True}


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("a.jsonl", b"", "the file is empty"),
        ("a.jsonl", b"\n\n", "no rows"),
        ("a.jsonl", b'{"prompt": "a b"}\n{"prompt": \n', "a.jsonl, line 2: not JSON"),
        ("a.jsonl", b'{"prompt": "a b"}\n\n[1]\n', "a.jsonl, line 3: a row must be a JSON object"),
        ("a.jsonl", b'{"prompt": "a b"}\n{"prompt": "\xff"}\n', "a.jsonl, line 2: not UTF-8"),
        ("a.jsonl", b'{"prompt": "a b"}\n{"prompt": ""}\n', "a.jsonl, line 2, field 'prompt': empty"),
        ("a.jsonl", b'{"prompt": "a b"}\n{"question": "c"}\n', "a.jsonl, line 2, field 'prompt': missing"),
        ("a.json", b"[1", "not JSON"),
        ("a.json", b'"text"', "must hold a list of rows"),
        ("a.csv", b"prompt,id\na b,1\nc\n", "a.csv, line 3: fewer cells than the header has columns (2)"),
        ("a.parquet", b"nonsense", "not a Parquet file"),
        ("a.txt", b"text", "no data file"),
        ("a.jsonl", b'{"prompt": "a b"}\n', "one and the same prompt"),
    ],
)
def test_a_bad_file_is_refused_while_planning(tmp_path, name, content, says):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(BadData) as caught:
        source(tmp_path / name, role="prompts").role("prompts")
    assert says in str(caught.value)


def test_what_is_missing_or_unknown_is_said(tmp_path):
    with pytest.raises(BadData, match=r"needs data\.path="):
        source(None)
    with pytest.raises(BadData, match="no such file or folder"):
        source(tmp_path / "none.jsonl").role("preference")
    with pytest.raises(UnknownName, match="Did you mean preference"):
        source(tmp_path, role="preferences")
    (tmp_path / "empty").mkdir()
    with pytest.raises(BadData, match="no data file"):
        source(tmp_path / "empty").role("preference")

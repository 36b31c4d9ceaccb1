"""A glance at a record finds what parsing the whole finds."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from polm_bench.files import write_json
from polm_bench.run import glance

RECORD = {
    "id": "dpo-x",
    "cell": {"recipe": 'a "quoted" one', "seed": 3, "config": {"id": "not this", "status": "nor this"}},
    "status": "failed",
    "reason": 'line 1\n "status": "ok"\n "id": "trap"',
    "scores": [
        {"row": "base", "task": "a", "value": 0.25, "headline": True},
        {"row": "self", "task": 'a "row": "base"', "value": 0.5, "headline": True},
        {"row": "self", "task": "b", "value": 0.75, "headline": False},
        {"row": "start", "task": '"row": "self"', "value": 0.5, "headline": True},
    ],
    "items": {},
}


@pytest.fixture
def text(tmp_path) -> bytes:
    write_json(tmp_path / "record.json", RECORD)
    return (tmp_path / "record.json").read_bytes()


def test_each_part_is_the_one_at_the_top(text):
    for name in ("id", "cell", "status", "reason", "scores"):
        assert glance.part(text, name) == RECORD[name]
    assert glance.cell(text) == {"recipe": 'a "quoted" one', "seed": 3}
    assert glance.headlines(text) == [RECORD["scores"][1]]


def test_a_record_without_scores_has_no_headlines(tmp_path):
    write_json(tmp_path / "failed.json", RECORD | {"scores": [], "curves": [{"row": "self", "headline": True}]})
    assert glance.headlines((tmp_path / "failed.json").read_bytes()) == []


@pytest.mark.parametrize("other", [b"", b"[]", json.dumps(RECORD).encode(), json.dumps(RECORD, indent=4).encode()])
def test_another_layout_is_a_value_error_and_never_a_wrong_value(other):
    with pytest.raises(ValueError):
        glance.part(other, "id")
    with pytest.raises(ValueError):
        glance.cell(other)
    with pytest.raises(ValueError):
        glance.headlines(other)


def test_published_records_are_found_by_a_glance():
    records = Path(__file__).parents[2] / "results"
    paths = sorted(records.glob("*/records/*.json"))[:20]
    for path in paths:
        text = path.read_bytes()
        whole = json.loads(text)
        own = [score for score in whole["scores"] if score["row"] == "self" and score["headline"]]
        assert glance.headlines(text) == own
        assert glance.cell(text) == {
            name: value for name, value in whole["cell"].items() if name not in ("config", "origins")
        }

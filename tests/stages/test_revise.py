"""Answers that a model revises by its own critique: what is asked, what is kept, and that a killed one goes on."""

from __future__ import annotations

import json

import pytest
from tests.stages.test_training import Given, Sums, run

from polm_bench.budget import Spend
from polm_bench.data.derived import read_rows, write_rows
from polm_bench.decoding.sampling import Sampling
from polm_bench.stages.generate import Generate
from polm_bench.stages.revise import Revise

pytestmark = pytest.mark.slow

HOW = Sampling(max_new_tokens=6)


def revise(rounds=1):
    answers = Generate(Given(), Sums("sft"), HOW, 1, Spend("steps", 1, 4, 64), 0)
    return Revise(
        answers.model,
        answers,
        "Points? {prompt} {answer}",
        "{critique} points. Better: {prompt} {answer}",
        rounds,
        HOW,
        0,
    )


@pytest.fixture
def answered(tmp_path):
    """Answers to two prompts."""
    folder = tmp_path / "answers"
    folder.mkdir()
    rows = Sums("sft").load("train")[:2]
    lines = [
        {"number": n, "row": row, "answers": [{"text": f"It is {n}.", "tokens": 4, "ended": True}]}
        for n, row in enumerate(rows)
    ]
    write_rows(folder / "answers.jsonl", lines)
    return folder


def test_a_revision_that_does_not_end_leaves_the_answer(toy_model, tmp_path, answered):
    stage = revise()
    job = run(stage, tmp_path, {stage.model.key: toy_model, stage.answers.key: answered})
    rows = read_rows(job.out / "rows.jsonl")
    assert [row["prompt"] for row in rows] == [row["prompt"] for row in Sums("sft").load("train")[:2]]
    asked = [json.loads((job.scratch / f"asked-0-{part}.json").read_text()) for part in (0, 1)]
    for n, row in enumerate(rows):
        _, text, ended = asked[1][n]
        assert row["completion"] == (text.strip() if ended and text.strip() else f"It is {n}.")
    assert job.ledger.amounts["tokens_generated"] == sum(len(one[0]) for part in asked for one in part)
    assert job.ledger.notes["harvest"]["answers"] == 2


def test_what_was_asked_before_a_kill_is_not_asked_again(toy_model, tmp_path, answered):
    stage = revise(rounds=2)
    paths = {stage.model.key: toy_model, stage.answers.key: answered}
    job = run(stage, tmp_path, paths)
    kept = {place.name: place.read_text() for place in job.scratch.glob("asked-*.json")}
    assert len(kept) == 4
    place = job.scratch / "asked-0-1.json"
    told = json.loads(place.read_text())
    told[0] = [[5], "A better one.", True]
    place.write_text(json.dumps(told))
    for later in ("asked-1-0.json", "asked-1-1.json"):
        (job.scratch / later).unlink()
    stage.run(job)
    assert json.loads(place.read_text())[0][1] == "A better one."
    assert (job.scratch / "asked-1-1.json").exists()

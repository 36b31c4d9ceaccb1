"""Pairs of a model's own answers that a corrector learns from, worked by hand."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
from tests.stages.test_filter import GENERATE, ROW, said
from tests.stages.test_training import Given, Sums

from polm_bench.budget import Spend
from polm_bench.data.derived import read_rows
from polm_bench.decoding.sampling import Sampling
from polm_bench.errors import EmptyHarvest
from polm_bench.rewards import Checked
from polm_bench.run.job import Job
from polm_bench.run.launch import Launch
from polm_bench.stages.filter import Scored
from polm_bench.stages.generate import Generate
from polm_bench.stages.improve import Hypotheses, ImprovingPairs, alike, improving

LATER = Generate(Given(), Sums("sft"), Sampling(max_new_tokens=4), 1, Spend("steps", 1, 2, 64), 1)
ASK = "Better: {prompt} {answer}"


def made(stage, tmp_path, **lines):
    """Rows of the stage after these lines of the first and of the second stage of answers."""
    paths = {}
    for generate, (name, found) in zip((GENERATE, LATER), lines.items(), strict=False):
        folder = tmp_path / name
        folder.mkdir()
        (folder / "answers.jsonl").write_text("".join(json.dumps(line) + "\n" for line in found))
        paths[generate.key] = folder
    out = tmp_path / "out"
    out.mkdir()
    stage.run(Job(out, tmp_path, paths, Launch(name="test", device="cpu"), "cpu"))
    return read_rows(out / "rows.jsonl")


def test_a_pair_asks_with_a_worse_answer_and_a_later_corrector_adds_to_its_prompts_pool(tmp_path):
    asked = [{"role": "user", "content": "Better: 2+3? Answer: 6"}]
    first = [said("Answer: 6", "Answer: 7", "Answer: 6"), said("Answer: 8", ended=False)]
    second = [{**said("Answer: 5"), "row": {**ROW, "prompt": asked, "asked": ROW["prompt"]}}]
    stage = ImprovingPairs((GENERATE, LATER), Checked(), ASK, 1.0, 1.0, 0)
    rows = made(stage, tmp_path, first=first, second=second)
    assert [(row["prompt"][0]["content"], row["completion"]) for row in rows] == [
        ("Better: 2+3? Answer: 6", "Answer: 5"),
        ("Better: 2+3? Answer: 7", "Answer: 5"),
    ]


def test_answers_that_are_all_as_good_are_an_empty_harvest(tmp_path):
    with pytest.raises(EmptyHarvest, match="1 prompts has a better one"):
        made(
            ImprovingPairs((GENERATE,), Checked(), ASK, 1.0, 1.0, 0),
            tmp_path,
            first=[said("Answer: 5", "5. Answer: 5")],
        )


def test_improvements_are_drawn_by_value_and_likeness():
    pool = [Scored("aa", 0.0), Scored("ab", 1.0), Scored("bbb", 2.0)]
    assert (alike("aa", "ab"), alike("aa", "bbb")) == (0.5, 0.0)
    rng = np.random.default_rng(0)

    def share(alpha, beta):
        drawn = [dict(improving(pool, alpha, beta, rng)) for _ in range(2000)]
        assert all(one["ab"] == "bbb" and "bbb" not in one for one in drawn)
        return sum(one["aa"] == "bbb" for one in drawn) / len(drawn)

    assert share(0.0, 0.0) == pytest.approx(1 / 2, abs=0.04)
    assert share(1.0, 0.0) == pytest.approx(math.e**2 / (math.e + math.e**2), abs=0.04)
    assert share(0.0, 4.0) == pytest.approx(1 / (math.e**2 + 1), abs=0.04)


def test_a_hypothesis_is_asked_about_and_scored_as_the_prompt_it_answers(tmp_path):
    rows = made(Hypotheses((GENERATE,), ASK, 0), tmp_path, first=[said("Answer: 6"), said("cut off", ended=False)])
    (row,) = rows
    assert row["prompt"] == [{"role": "user", "content": "Better: 2+3? Answer: 6"}]
    assert (row["asked"], row["answer"]) == (ROW["prompt"], "5")

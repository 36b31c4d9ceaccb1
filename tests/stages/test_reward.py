"""Scores of reward models, worked by hand; judges; labels of a judge."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest

from polm_bench.rewards import Lexicon
from polm_bench.rewards.judge import RewardJudge
from polm_bench.stages.score_pairs import calibration_error, pair_scores


def test_accuracy_is_told_for_each_third_of_the_margins():
    found = {
        score["metric"]: score["value"]
        for score in pair_scores([1.0, -1.0, 2.0, -2.0, 3.0, 4.0], [0.1, 0.2, 0.3, 0.4, 0.5, 0.6], "reward")
    }
    assert found["accuracy"] == pytest.approx(4 / 6)
    assert found["accuracy_low_margin"] == 0.5
    assert found["accuracy_middle_margin"] == 0.5
    assert found["accuracy_high_margin"] == 1.0


def test_a_tie_counts_half_and_missing_margins_leave_the_thirds_out():
    found = pair_scores([0.0, 0.0], [None, None], "likelihood")
    assert [(score["metric"], score["value"]) for score in found] == [("accuracy", 0.5)]
    assert found[0]["headline"]


def test_a_calibrated_judge_has_no_error_and_a_cocksure_one_has():
    sure = math.log(0.75 / 0.25)  # confidence 0.75, right three times in four
    assert calibration_error(np.array([sure, sure, sure, -sure])) == pytest.approx(0, abs=1e-9)
    assert calibration_error(np.array([50.0, -50.0])) == pytest.approx(0.5)


def test_a_reward_judge_gives_whole_shares_or_soft_ones():
    rows = [{"prompt": []}] * 3
    good, bad = ["A wonderful day.", "Awful.", "A table."], ["Terrible.", "Lovely.", "A chair."]
    assert RewardJudge(Lexicon()).comparer(None)(rows, good, bad) == [1.0, 0.0, 0.5]
    there = RewardJudge(Lexicon(), scale=2.0).comparer(None)(rows, good, bad)
    back = RewardJudge(Lexicon(), scale=2.0).comparer(None)(rows, bad, good)
    assert 0.5 < there[0] < 1
    assert [a + b for a, b in zip(there, back, strict=True)] == pytest.approx([1.0] * 3)


@pytest.mark.slow
def test_a_model_judge_does_not_care_which_answer_is_first(toy_model, tmp_path):
    from polm_bench.graph import Stage
    from polm_bench.rewards.judge import ModelJudge
    from polm_bench.run.job import Job
    from polm_bench.run.launch import Launch

    model = Stage()
    job = Job(tmp_path, tmp_path, {model.key: toy_model}, Launch("inline"), "cpu")
    judge = ModelJudge(model, "{prompt}\n1: {first}\n2: {second}\nBetter: ").comparer(job)
    rows = [{"prompt": [{"role": "user", "content": "How was it?"}]}] * 2
    there, back = judge(rows, ["good", "bad"], ["fine", "worse"]), judge(rows, ["fine", "worse"], ["good", "bad"])
    assert [a + b for a, b in zip(there, back, strict=True)] == pytest.approx([1.0, 1.0], abs=1e-5)
    assert job.ledger.amounts["tokens_scored"] > 0


@pytest.mark.slow
@pytest.mark.parametrize(("unit", "amount", "most"), [("tokens", 300, 300 + 2 * 16), ("steps", 3, 3)])
def test_labelling_stops_with_the_pair_that_reaches_its_spend(unit, amount, most, toy_model, tmp_path):
    from pydantic.dataclasses import dataclass

    from polm_bench.budget import Spend
    from polm_bench.data.source import Rows
    from polm_bench.graph import FORBID, Stage
    from polm_bench.run.job import Job
    from polm_bench.run.launch import Launch
    from polm_bench.stages.reward import PAIRS, LabelPairs

    @dataclass(frozen=True, config=FORBID)
    class Prompts(Rows):
        def load(self, split):
            return [{"prompt": [{"role": "user", "content": text}]} for text in ("one", "two words", "three")]

    model = Stage()
    job = Job(tmp_path, tmp_path, {model.key: toy_model}, Launch("inline"), "cpu")
    LabelPairs(model, Prompts("prompts"), RewardJudge(Lexicon()), 1.0, Spend(unit, amount, 4, 32), seed=0).run(job)
    pairs = json.loads((tmp_path / PAIRS).read_text())
    spent = {"tokens": job.ledger.amounts["tokens_generated"], "steps": len(pairs) / 4}
    assert amount <= spent[unit] <= most
    assert len({pair["prompt"][0]["content"] for pair in pairs[:3]}) == 3  # all are asked before one is asked again

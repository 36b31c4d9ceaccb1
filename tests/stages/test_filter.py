"""Which answers are kept, on answers written by hand."""

from __future__ import annotations

import json

import pytest
from pydantic.dataclasses import dataclass
from tests.stages.test_training import Given, Sums

from polm_bench.budget import Spend
from polm_bench.data.derived import DerivedRows, JoinedRows, Judgements, read_rows
from polm_bench.decoding.sampling import Sampling
from polm_bench.errors import BadData, Diverged, EmptyHarvest
from polm_bench.graph import FORBID
from polm_bench.rewards import Reward
from polm_bench.run.execute import classify
from polm_bench.run.job import Job
from polm_bench.run.launch import Launch
from polm_bench.stages.filter import (
    Hint,
    KeepAgainstData,
    KeepBest,
    KeepLargeMargins,
    KeepPair,
    KeepPassing,
    Scored,
    Select,
)
from polm_bench.stages.generate import Generate
from polm_bench.stages.invent import is_new, rouge_l


@dataclass(frozen=True, config=FORBID)
class Length(Reward):
    """Letters of the answer."""

    def scorer(self, job):
        return lambda rows, answers: [float(len(answer)) for answer in answers]


ROW = {"prompt": [{"role": "user", "content": "2+3?"}], "completion": "5", "answer": "5", "checker": "number"}
GENERATE = Generate(Given(), Sums("sft"), Sampling(max_new_tokens=4), 1, Spend("steps", 1, 2, 64), 0)


def said(*texts: str, ended: bool = True) -> dict:
    answers = [{"text": text, "tokens": len(text), "ended": ended} for text in texts]
    return {"number": 0, "row": ROW, "answers": answers}


def job_of(tmp_path, stage, lines) -> Job:
    answers = tmp_path / "answers"
    answers.mkdir()
    (answers / "answers.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    out = tmp_path / "out"
    out.mkdir()
    return Job(out, tmp_path, {GENERATE.key: answers}, Launch(name="test", device="cpu"), "cpu")


def select(tmp_path, keep, *lines, reward=None):
    stage = Select((GENERATE,), reward, keep)
    job = job_of(tmp_path, stage, lines)
    stage.run(job)
    return read_rows(job.out / "rows.jsonl"), job


FEW = [Scored("bb", 2.0), Scored("c", 1.0), Scored("bb", 2.0), Scored("aaa", 3.0)]


def test_the_best_is_kept_if_it_is_good_enough():
    assert [row["completion"] for row in KeepBest().rows(ROW, FEW)] == ["aaa"]
    assert KeepBest(above=3.0).rows(ROW, FEW) == []
    assert KeepBest().rows(ROW, []) == []


def test_passing_answers_are_kept_once_each_up_to_a_number():
    assert [row["completion"] for row in KeepPassing(above=1.0, most=9).rows(ROW, FEW)] == ["bb", "aaa"]
    assert [row["completion"] for row in KeepPassing(above=0.0, most=2).rows(ROW, FEW)] == ["bb", "c"]


def test_a_pair_is_the_best_and_the_worst_and_ties_make_none():
    (pair,) = KeepPair(margin=0.0).rows(ROW, FEW)
    assert (pair["chosen"], pair["rejected"], pair["margin"]) == ("aaa", "c", 2.0)
    assert KeepPair(margin=0.0).rows(ROW, [FEW[0], FEW[2]]) == []
    assert KeepPair(margin=2.0).rows(ROW, FEW) == []


def test_against_the_data_stands_only_another_answer():
    (pair,) = KeepAgainstData().rows(ROW, [Scored("5", 0.0), Scored("6", 0.0)])
    assert (pair["chosen"], pair["rejected"]) == ("5", "6")


def test_answers_that_were_cut_off_or_break_a_rule_are_left_out(tmp_path):
    lines = [said("fine", " ", "2+3? is 5"), said("cut off", ended=False)]
    rows, job = select(tmp_path, KeepPassing(above=0.0, most=9), *lines, reward=Length())
    assert [row["completion"] for row in rows] == ["fine", "2+3? is 5"]  # one word may well be said again
    assert job.ledger.notes["harvest"] == {"prompts": 2, "answers": 4, "ended": 2, "kept": 2, "mean_reward": 6.5}


def test_an_empty_harvest_is_a_result_with_its_reason(tmp_path):
    with pytest.raises(EmptyHarvest, match="none of 2 answers to 1 prompts was kept; 2 ended by themselves") as caught:
        select(tmp_path, KeepBest(above=9.0), said("a", "b"), reward=Length())
    assert isinstance(caught.value, Diverged)
    assert classify(caught.value) == "diverged"


def test_a_hint_goes_to_what_was_answered_wrong_and_is_not_learned(tmp_path):
    from polm_bench.rewards import Checked

    stage = Hint(GENERATE, Checked(), "(Answer: {answer})")
    job = job_of(tmp_path, stage, [said("Answer: 5"), said("Answer: 6")])
    stage.run(job)
    (row,) = read_rows(job.out / "rows.jsonl")
    assert row["prompt"][-1]["content"] == "2+3? (Answer: 5)"
    (tmp_path / "second").mkdir()
    rows, _ = select(tmp_path / "second", KeepBest(above=0.0), {**said("Answer: 5"), "row": row}, reward=Checked())
    assert rows == [{"prompt": ROW["prompt"], "completion": "Answer: 5"}]


def test_derived_rows_are_read_where_their_stage_lies(tmp_path):
    stage = Select((GENERATE,), None, KeepBest())
    job = job_of(tmp_path, stage, [said("four")])
    stage.run(job)
    reader = Job(tmp_path, tmp_path, {stage.key: job.out}, job.launch, "cpu")
    rows = DerivedRows("sft", stage)
    assert [row["completion"] for row in rows.read(reader, "train")] == ["four"]
    assert len(JoinedRows("sft", (rows, Sums("sft"))).read(reader, "train")) == 65
    with pytest.raises(BadData, match="known only while the graph runs"):
        rows.load("train")
    with pytest.raises(BadData, match="for training only"):
        rows.read(reader, "validation")


def test_judgements_share_out_the_points_by_rank():
    @dataclass(frozen=True, config=FORBID)
    class Ranked(Sums):
        def load(self, split):
            return [{"prompt": ROW["prompt"], "responses": ["a", "b", "c", "d"], "scores": [0.4, -1.0, 7.0, 0.3]}]

    rows = Judgements("sft", Ranked("ranking"), "{prompt}|{answer}", 1).load("train")
    assert [(row["prompt"][0]["content"], row["completion"]) for row in rows] == [
        ("2+3?|a", "1"), ("2+3?|b", "0"), ("2+3?|c", "1"), ("2+3?|d", "0"),
    ]  # fmt: skip


def test_rouge_l_by_hand():
    assert rouge_l("the cat sat".split(), "the old cat sat down".split()) == pytest.approx(2 * 3 / 8)
    assert rouge_l("a b".split(), "b a".split()) == 0.5
    assert rouge_l([], ["a"]) == 0.0


def test_a_prompt_too_much_like_another_is_not_new():
    pool = ["write a short poem".split()]
    assert not is_new("write a long poem".split(), pool, 0.7)  # 0.75
    assert is_new("sort these five numbers".split(), pool, 0.7)
    assert is_new("write a long poem".split(), pool, 1.0)
    assert not is_new("write a short poem".split(), pool, 1.0)


LARGE = KeepLargeMargins(least=2.5, margin=2.0, own_margin=1.0)


def test_large_margins_make_every_pair_of_a_good_answer_and_a_worse_one():
    row = {**ROW, "chosen": "teacher"}
    answers = [Scored("good", 3.0), Scored("fair", 2.0), Scored("bad", 0.5), Scored("bad", 0.5)]
    kept = LARGE.rows(row, [*answers, Scored("teacher", 2.5, given=True)])
    told = [(one["chosen"], one["rejected"], one["margin"]) for one in kept]
    assert told == [("good", "fair", 1.0), ("good", "bad", 2.5), ("teacher", "bad", 2.0)]
    assert LARGE.rows(row, answers[1:]) == [], "nothing is good enough"


def test_the_rows_own_answer_is_scored_beside_the_models(tmp_path):
    row = {"prompt": ROW["prompt"], "chosen": "long enough", "rejected": "x"}
    line = {**said("short", "tiny"), "row": row}
    rows, job = select(tmp_path, KeepLargeMargins(least=10.0, margin=6.0, own_margin=0.0), line, reward=Length())
    assert [(one["chosen"], one["rejected"]) for one in rows] == [("long enough", "short"), ("long enough", "tiny")]
    assert job.ledger.notes["harvest"]["answers"] == 2, "the teacher's is not one of the model's"

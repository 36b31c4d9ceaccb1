"""Validation scores of a model, on a few rows that the test writes."""

from __future__ import annotations

import json

import pytest
from pydantic.dataclasses import dataclass

from polm_bench.data.source import Rows
from polm_bench.graph import FORBID, Stage
from polm_bench.run.job import Job
from polm_bench.run.launch import Launch
from polm_bench.run.track import initialise, tracking_uri
from polm_bench.tune.track import _mirror, replay_trials
from polm_bench.tune.validate import CheckedAnswers, CompletionLikelihood, scored


@dataclass(frozen=True, config=FORBID)
class Anything(Stage):
    """Stands for the stage that made a model."""


@dataclass(frozen=True, config=FORBID)
class FewRows(Rows):
    """Rows given as JSON."""

    text: str

    def load(self, split):
        assert split == "validation"
        return json.loads(self.text)


def asked(text: str) -> list[dict[str, str]]:
    return [{"role": "user", "content": text}]


def judge(stage: Stage, model, folder) -> Job:
    job = Job(folder, folder, {Anything().key: model}, Launch("inline"), "cpu")
    stage.run(job)
    return job


def test_completions_are_scored_by_their_tokens_alone_whatever_stands_beside_them(toy_model, tmp_path):
    """The mean over tokens of two rows together is that of each row, weighted with its tokens; the micro-batch does not matter."""
    rows = [
        {"prompt": asked("What is 1 plus 1?"), "completion": "Two."},
        {"prompt": asked("Say it."), "completion": "A much longer answer."},
    ]
    values = []
    for number, some in enumerate(([rows[0]], [rows[1]], rows)):
        folder = tmp_path / str(number)
        folder.mkdir()
        stage = CompletionLikelihood(Anything(), FewRows("sft", json.dumps(some)), 128)
        judge(stage, toy_model, folder)
        values.append(scored("completions", folder)[0])
    from transformers import AutoTokenizer

    from polm_bench.models.chat import encode_completions

    tokens = [
        len(ids)
        for ids in encode_completions(AutoTokenizer.from_pretrained(toy_model), [row["completion"] for row in rows])
    ]
    assert values[2] == pytest.approx((values[0] * tokens[0] + values[1] * tokens[1]) / sum(tokens), rel=1e-4)
    assert all(value < 0 for value in values)


def test_checked_answers_are_the_share_that_passes(toy_model, tmp_path):
    """A random model writes no number that is asked for; a checker that any text passes, all."""
    hard = {"prompt": asked("What is 1 plus 1?"), "answer": "123456789", "checker": "number"}
    stage = CheckedAnswers(Anything(), FewRows("verifiable", json.dumps([hard, hard])), max_new_tokens=4)
    job = judge(stage, toy_model, tmp_path)
    assert scored("checked", tmp_path) == (0.0, 0.0)
    assert 2 <= job.ledger.amounts["tokens_generated"] <= 8


def test_pairs_are_judged_by_accuracy_then_by_the_chosen_ones(tmp_path):
    told = [
        {"metric": "accuracy", "value": 0.75},
        {"metric": "chosen", "value": -2.5},
        {"metric": "rejected", "value": -3.0},
    ]
    (tmp_path / "scores.json").write_text(json.dumps(told))
    assert scored("pairs", tmp_path) == (0.75, -2.5)


def test_a_record_s_trials_become_runs_under_one_parent_and_again_the_same(tmp_path):
    from mlflow import MlflowClient

    client = MlflowClient(tracking_uri=f"sqlite:///{tmp_path / 'mlflow.db'}")
    experiment = client.create_experiment("e", artifact_location=(tmp_path / "a").as_uri())
    tried = [
        {
            "number": n,
            "settings": {"loss.beta": 0.1},
            "status": status,
            "value": value,
            "seconds": 2.0,
            "reason": reason,
        }
        for n, (status, value, reason) in enumerate([("ok", 0.5, None), ("diverged", None, "loss is nan")])
    ]
    after = [{"trials": k, "best": 0.5, "expected": 0.5, "spread": 0.0} for k in (1, 2)]
    tuning = {
        "study": "dpo-x",
        "trials": 2,
        "chosen": {"loss.beta": 0.1},
        "by": "pairs",
        "best": 0,
        "tried": tried,
        "best_after": after,
    }
    for _ in range(2):
        _mirror(client, experiment, {"id": "r", "cell": {"recipe": "dpo"}, "tuning": tuning})
        runs = client.search_runs([experiment])
        parent = next(run for run in runs if run.data.tags["polm.kind"] == "tuning")
        children = {run.info.run_name: run for run in runs if run.data.tags["polm.kind"] == "trial"}
        assert len(runs) == 3
        assert {run.data.tags["mlflow.parentRunId"] for run in children.values()} == {parent.info.run_id}
        assert children["trial 0"].data.metrics == {"validation/score": 0.5, "cost/wall_seconds": 2.0}
        assert (children["trial 1"].info.status, children["trial 1"].data.tags["reason"]) == ("FAILED", "loss is nan")


def test_trials_are_replayed_from_the_records(home):
    from mlflow import MlflowClient

    tuning = {"study": "dpo-x", "trials": 1, "chosen": {}, "by": "pairs", "best": 0, "tried": [], "best_after": []}
    (home / "records").mkdir(parents=True)
    for name, more in (("tuned", {"tuning": tuning}), ("plain", {})):
        (home / "records" / f"{name}.json").write_text(json.dumps({"id": name, "cell": {"recipe": "dpo"}} | more))
    assert replay_trials(home) == 1
    runs = MlflowClient(tracking_uri=tracking_uri(home)).search_runs([initialise(home)])
    assert [run.data.tags["polm.record"] for run in runs] == ["tuned"]

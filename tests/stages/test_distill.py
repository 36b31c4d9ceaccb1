"""Students on the toy model: what they are shown, where they stop, how they go on after a kill."""

from __future__ import annotations

import pytest
from tests.stages.test_training import OPTIM, Given, Sums, run, same, weights

from polm_bench.budget import Spend
from polm_bench.decoding.sampling import Sampling
from polm_bench.graph import ordered
from polm_bench.objectives.distill import GKD, KD, MiniLLM
from polm_bench.stages.distill import TrainStudent, TrainTeacher, student_rows
from polm_bench.trainers.distill import prompts_of
from polm_bench.trainers.optim import Optim

pytestmark = pytest.mark.slow
HOW = Sampling(max_new_tokens=6)


def student(spend=Spend("steps", 12, 8, 64), objective=None, own=0.0, **more):
    objective = objective or GKD(beta=0.0, temperature=1.0)
    return TrainStudent(Given(), Given("teacher"), objective, Sums("sft"), spend, OPTIM, 0, own, HOW, **more)


def train(stage, folder, toy, teacher=None, **more):
    return run(stage, folder, {stage.init.key: toy, stage.teacher.key: teacher or toy}, **more)


def test_a_student_like_its_teacher_has_nothing_to_learn(toy_model, tmp_path):
    job = train(student(Spend("steps", 1, 8, 64)), tmp_path, toy_model)
    assert job.curve_points[0]["loss"] == pytest.approx(0, abs=1e-6)
    assert job.curve_points[0]["grad_norm"] == pytest.approx(0, abs=1e-5)


def test_a_student_comes_closer_to_its_teacher(toy_model, tmp_path):
    teacher = run(
        TrainTeacher(Given(), Sums("sft"), Spend("steps", 30, 8, 64), Optim(lr=3e-3), 0),
        tmp_path / "teacher",
        {Given().key: toy_model},
    ).out
    stage = student(Spend("steps", 30, 8, 64), KD(temperature=2.0, hard=0.5))
    losses = [point["loss"] for point in train(stage, tmp_path / "student", toy_model, teacher).curve_points]
    assert losses[-1] < losses[0]


def test_own_answers_are_paid_for_and_the_last_step_reaches_the_amount(toy_model, tmp_path):
    stage = student(Spend("tokens", 1500, 8, 64), own=1.0)
    job = train(stage, tmp_path, toy_model)
    spent = job.ledger.amounts["tokens_trained"] + job.ledger.amounts["tokens_generated"]
    assert 1500 <= spent < 1500 + 8 * (64 + 6)
    assert job.ledger.amounts["tokens_scored"] == job.ledger.amounts["tokens_trained"]
    assert job.curve_points[-1]["tokens"] == job.ledger.amounts["tokens_trained"]


def test_given_answers_are_trained_on_as_in_sft(toy_model, tmp_path):
    from polm_bench.stages import TrainSFT

    spend = Spend("tokens", 1500, 8, 64)
    mine = train(student(spend), tmp_path / "student", toy_model)
    plain = run(TrainSFT(Given(), Sums("sft"), spend, OPTIM, 0), tmp_path / "sft", {Given().key: toy_model})
    assert mine.ledger.amounts["tokens_trained"] == plain.ledger.amounts["tokens_trained"]
    assert [point["tokens"] for point in mine.curve_points] == [point["tokens"] for point in plain.curve_points]


def test_the_split_into_micro_batches_changes_nothing_on_given_answers(toy_model, tmp_path):
    stage = student(objective=KD(temperature=2.0, hard=0.5))
    whole = train(stage, tmp_path / "whole", toy_model)
    split = train(stage, tmp_path / "split", toy_model, micro_batch=2)
    one, other = weights(whole), weights(split)
    assert all(one[name].allclose(other[name], atol=1e-4) for name in one)


def test_a_killed_student_goes_on_to_the_same_weights(toy_model, tmp_path):
    stage = student(Spend("tokens", 1500, 8, 64), MiniLLM(), own=0.5)
    whole = train(stage, tmp_path / "whole", toy_model)

    class Kill(Exception):
        pass

    def kill(done, total, what):
        if done >= 5:
            raise Kill

    with pytest.raises(Kill):
        train(stage, tmp_path / "killed", toy_model, progress=kill, checkpoint_seconds=1e-9)
    (tmp_path / "killed" / "out").rmdir()
    again = train(stage, tmp_path / "killed", toy_model)
    assert same(weights(again), weights(whole))
    assert again.ledger.amounts["tokens_generated"] == whole.ledger.amounts["tokens_generated"]
    assert again.ledger.amounts["tokens_trained"] == whole.ledger.amounts["tokens_trained"]


def test_only_the_teacher_sees_the_examples(toy_model):
    import torch

    from polm_bench.models.load import load_tokenizer
    from polm_bench.trainers.distill import StudentCollator

    tokenizer, data = load_tokenizer(toy_model), Sums("sft").load("train")
    rows = student_rows(tokenizer, data[:3], data[5:7], 64)
    bare = student_rows(tokenizer, data[:3], [], 64)
    for row, plain in zip(rows, bare, strict=True):
        assert row["input_ids"] == plain["input_ids"] == plain["teacher_ids"]
        assert row["teacher_ids"][-row["completion"] :] == row["input_ids"][-row["completion"] :]
        assert tokenizer.decode(row["teacher_ids"]).count("assistant") == 3
    batch = StudentCollator(tokenizer.pad_token_id)(rows)
    assert torch.equal(
        batch["input_ids"][batch["completion_mask"]], batch["teacher_input_ids"][batch["teacher_completion_mask"]]
    )
    assert prompts_of(batch, "") == [row["input_ids"][: -row["completion"]] for row in rows]


def test_a_teacher_is_given_and_a_student_is_not():
    assert TrainTeacher.given
    assert not TrainStudent.given
    assert [type(stage).__name__ for stage in ordered(student())] == ["Given", "Given", "TrainStudent"]

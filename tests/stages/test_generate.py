"""Answers of the toy model: what they may cost, that they are the same again, and how they go on after a kill."""

from __future__ import annotations

import pytest
from tests.stages.test_training import Given, Sums, run

from polm_bench.budget import Spend
from polm_bench.data.derived import read_rows
from polm_bench.decoding.sampling import Sampling
from polm_bench.errors import EmptyHarvest
from polm_bench.stages.generate import Generate, Spent
from polm_bench.stages.invent import Invent, before_a_user

pytestmark = pytest.mark.slow


def generate(spend, count=2, temperature=1.0, batch_size=16, **more):
    how = Sampling(max_new_tokens=6, temperature=temperature)
    return Generate(Given(), Sums("sft"), how, count, spend, 0, batch_size, **more)


def lines(job):
    return read_rows(job.out / "answers.jsonl")


def tokens(found):
    return sum(answer["tokens"] for line in found for answer in line["answers"])


def test_it_stops_at_its_spend(toy_model, tmp_path):
    stage = generate(Spend("tokens", 400, 4, 64))
    job = run(stage, tmp_path, {stage.model.key: toy_model})
    spent = tokens(lines(job))
    assert 400 <= spent < 400 + 6 * 16
    assert job.ledger.amounts["tokens_generated"] == spent
    assert job.ledger.amounts["flops"] > 0
    assert all(len(line["answers"]) % 2 == 0 for line in lines(job))


def test_a_step_pays_for_the_answers_to_a_batch_of_prompts(toy_model, tmp_path):
    stage = generate(Spend("steps", 3, 4, 64))
    found = lines(run(stage, tmp_path, {stage.model.key: toy_model}))
    assert [len(line["answers"]) for line in found] == [2] * 12


def test_all_prompts_are_answered_before_one_is_answered_again(toy_model, tmp_path):
    stage = generate(Spend("steps", 40, 2, 64), count=1)
    found = lines(run(stage, tmp_path, {stage.model.key: toy_model}))
    assert len(found) == 64
    assert sorted(len(line["answers"]) for line in found) == [1] * 48 + [2] * 16


def test_the_likeliest_answer_is_given_once(toy_model, tmp_path):
    stage = generate(Spend("steps", 400, 2, 64), count=1, temperature=0.0)
    found = lines(run(stage, tmp_path, {stage.model.key: toy_model}))
    assert [len(line["answers"]) for line in found] == [1] * 64


def test_a_killed_stage_goes_on_to_the_same_answers(toy_model, tmp_path):
    stage = generate(Spend("steps", 8, 4, 64))
    inputs = {stage.model.key: toy_model}
    whole = run(stage, tmp_path / "whole", inputs)

    class Kill(Exception):
        pass

    def kill(done, total, what):
        if done > 0.4:
            raise Kill

    with pytest.raises(Kill):
        run(stage, tmp_path / "killed", inputs, progress=kill)
    log = tmp_path / "killed" / "scratch" / "drawn.jsonl"
    log.write_text(log.read_text() + '{"answers": [[{"te')
    (tmp_path / "killed" / "out").rmdir()
    again = run(stage, tmp_path / "killed", inputs)
    assert lines(again) == lines(whole)
    assert again.ledger.amounts["tokens_generated"] == whole.ledger.amounts["tokens_generated"]


def test_examples_stand_before_the_prompt(toy_model, tmp_path):
    bare = generate(Spend("steps", 1, 4, 64))
    shown = generate(Spend("steps", 1, 4, 64), shown=Sums("sft"), shots=2)
    inputs = {bare.model.key: toy_model}
    first, second = run(bare, tmp_path / "a", inputs), run(shown, tmp_path / "b", inputs)
    assert second.ledger.amounts["flops"] > 1.5 * first.ledger.amounts["flops"]


def test_what_is_left_pays_for_answers_of_the_mean_length():
    spent = Spent(Spend("tokens", 100, 4, 64), 20, 1)
    assert spent.affords(256) == 5  # of the longest
    spent.answers, spent.tokens = 5, 50
    assert spent.affords(256) == 5  # of ten tokens
    assert spent.affords(3) == 3
    spent.tokens = 99
    assert spent.affords(256) == 1


def test_inventing_starts_where_a_user_would_speak(toy_model):
    from polm_bench.models.load import load_tokenizer

    tokenizer = load_tokenizer(toy_model)
    turns = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Yes"}]
    bare, shown = before_a_user(tokenizer, []), before_a_user(tokenizer, turns)
    assert tokenizer.decode(bare).endswith("user\n")
    assert tokenizer.decode(shown).endswith(tokenizer.decode(bare))
    assert "Yes" in tokenizer.decode(shown)


def test_inventing_nothing_is_a_result(toy_model, tmp_path):
    how = Sampling(max_new_tokens=3)  # a random model does not end so soon
    stage = Invent(Given(), Sums("sft"), 8, 2, 0.7, how, Spend("steps", 1, 4, 64), 0)
    with pytest.raises(EmptyHarvest, match="none of 4 invented prompts was new and ended by itself"):
        run(stage, tmp_path, {stage.model.key: toy_model})

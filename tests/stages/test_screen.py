"""Screening on the toy model: what is scored is what the losses say."""

from __future__ import annotations

import math

import numpy as np
import pytest
from tests.stages.test_filter import Length
from tests.stages.test_training import Given, Sums, run

from polm_bench.data.derived import read_rows
from polm_bench.models.chat import encode_completions
from polm_bench.models.load import load_tokenizer
from polm_bench.stages.screen import LinearRule, ScreenIFD, ScreenRule, neighbours

pytestmark = pytest.mark.slow


def test_the_rows_kept_are_the_hardest_below_one(toy_model, tmp_path):
    every = ScreenIFD(Given(), Sums("sft"), 1.0, 64, 64, 0)
    few = ScreenIFD(Given(), Sums("sft"), 0.125, 64, 64, 0)
    inputs = {every.model.key: toy_model}
    scored = read_rows(run(every, tmp_path / "every", inputs).out / "rows.jsonl")
    kept = read_rows(run(few, tmp_path / "few", inputs, micro_batch=5).out / "rows.jsonl")
    assert all(row["ifd"] < 1 for row in scored)
    assert len(kept) == min(8, len(scored))
    hardest = sorted((row["ifd"] for row in scored), reverse=True)[: len(kept)]
    assert sorted((row["ifd"] for row in kept), reverse=True) == pytest.approx(hardest, abs=1e-3)


def test_a_score_is_a_ratio_of_mean_losses(toy_model, tmp_path):
    import torch

    from polm_bench.models.chat import encode_completions, encode_prompts
    from polm_bench.models.load import load_model, load_tokenizer

    stage = ScreenIFD(Given(), Sums("sft"), 1.0, 64, 64, 0)
    row = read_rows(run(stage, tmp_path, {stage.model.key: toy_model}).out / "rows.jsonl")[0]
    model, tokenizer = load_model(toy_model, "float32", "cpu"), load_tokenizer(toy_model)
    (prompt,), (answer,) = (
        encode_prompts(tokenizer, [row["prompt"]]),
        encode_completions(tokenizer, [row["completion"]]),
    )

    def loss(before):
        with torch.inference_mode():
            ids = torch.tensor([[*before, *answer]])
            return model(ids, labels=torch.tensor([[-100] * len(before) + answer])).loss.item()

    assert row["ifd"] == pytest.approx(loss(prompt) / loss([tokenizer.pad_token_id]), rel=1e-3)


def test_what_is_cut_off_is_not_paid_for(toy_model, tmp_path):
    stage = ScreenIFD(Given(), Sums("sft"), 1.0, 64, 8, 0)
    job = run(stage, tmp_path, {stage.model.key: toy_model})
    answers = [row["completion"] for row in Sums("sft").load("train")]
    alone = [1 + len(ids) for ids in encode_completions(load_tokenizer(toy_model), answers)]
    assert job.ledger.amounts["tokens_scored"] == 64 * 8 + sum(alone)  # every question is cut, no answer is


def test_a_neighbour_is_another_row_and_the_farthest_where_there_are_too_few():
    points = np.array([[0.0, 0.0], [3.0, 4.0], [0.0, 1.0]])
    assert neighbours(points, 1) == pytest.approx([1.0, math.sqrt(18), 1.0])
    assert neighbours(points, 6) == pytest.approx([5.0, 5.0, math.sqrt(18)])


def test_a_linear_rule_keeps_what_it_foresees_the_lowest_loss_of(toy_model, tmp_path):
    rule = LinearRule(constant=2.0, reward=-0.5, length=0.25, distance=0.0, neighbour=6)
    assert rule.foresee(np.array([2.0]), np.array([4]), np.array([9.0])) == pytest.approx([2.0 - 1.0 + 1.0])
    stage = ScreenRule(Given(), Length(), Sums("sft"), rule, 0.25, 64, 64, 0)
    kept = read_rows(run(stage, tmp_path, {stage.model.key: toy_model}).out / "rows.jsonl")
    assert len(kept) == 16
    tokenizer = load_tokenizer(toy_model)
    rows = Sums("sft").load("train")
    told = [
        2.0 - 0.5 * len(row["completion"]) + 0.25 * len(ids)
        for row, ids in zip(rows, encode_completions(tokenizer, [row["completion"] for row in rows]), strict=True)
    ]
    assert sorted(row["loss"] for row in kept) == pytest.approx(sorted(told)[:16])


def test_far_rows_are_kept_by_a_rule_of_distances_alone(toy_model, tmp_path):
    rule = LinearRule(constant=0.0, reward=0.0, length=0.0, distance=-1.0, neighbour=1)
    every, few = (ScreenRule(Given(), Length(), Sums("sft"), rule, keep, 64, 64, 0) for keep in (1.0, 0.125))
    paths = {every.model.key: toy_model}
    scored = read_rows(run(every, tmp_path / "every", paths).out / "rows.jsonl")
    kept = read_rows(run(few, tmp_path / "few", paths, micro_batch=5).out / "rows.jsonl")
    assert all(-2.0 <= row["loss"] <= 0.0 for row in scored)
    assert min(row["loss"] for row in scored) < 0.0
    assert sorted(row["loss"] for row in kept) == pytest.approx(sorted(row["loss"] for row in scored)[:8], abs=1e-3)

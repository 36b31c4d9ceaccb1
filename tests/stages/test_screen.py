"""Screening on the toy model: what is scored is what the losses say."""

from __future__ import annotations

import pytest
from tests.stages.test_training import Given, Sums, run

from polm_bench.data.derived import read_rows
from polm_bench.stages.screen import ScreenIFD

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

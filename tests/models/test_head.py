"""Where a reward model's number is read."""

from __future__ import annotations

import pytest
import torch

pytestmark = pytest.mark.slow

ANSWERS = ["Fine.", "It was a long day, and a good one."]


@pytest.fixture
def folder(toy_model, tmp_path):
    """A function that saves the toy model anew with other padding: of its configuration, of its tokenizer."""
    from polm_bench.models.load import load_model, load_tokenizer, save_model

    def saved(config_pads_with: int | None, tokenizer_pads_with: str):
        model, tokenizer = load_model(toy_model, "float32"), load_tokenizer(toy_model)
        model.config.pad_token_id, tokenizer.pad_token = config_pads_with, tokenizer_pads_with
        save_model(model, tokenizer, tmp_path / "toy")
        return tmp_path / "toy"

    return saved


def test_a_reward_does_not_depend_on_the_answers_beside_it(folder, toy_model, tmp_path):
    from polm_bench.graph import Stage
    from polm_bench.models.head import with_fresh_head
    from polm_bench.models.load import load_tokenizer, save_model
    from polm_bench.rewards.learned import Learned
    from polm_bench.run.job import Job
    from polm_bench.run.launch import Launch

    tokenizer = load_tokenizer(toy_model)
    start = folder(tokenizer.pad_token_id, tokenizer.eos_token)  # two tokens to pad with
    save_model(with_fresh_head(start, "cpu"), load_tokenizer(start), tmp_path / "reward")
    stage = Stage()
    score = Learned(stage).scorer(Job(tmp_path, tmp_path, {stage.key: tmp_path / "reward"}, Launch("inline"), "cpu"))
    row = {"prompt": [{"role": "user", "content": "How was it?"}]}
    alone = [score([row], [answer])[0] for answer in ANSWERS]
    assert score([row] * 2, ANSWERS) == pytest.approx(alone, abs=1e-6)


@pytest.mark.parametrize("padding", ["none", "the end token"])
def test_a_reward_is_read_at_the_end_token_whatever_the_model_pads_with(folder, toy_model, padding):
    from polm_bench.models.head import answer_rewards, token_values, with_fresh_head
    from polm_bench.models.load import load_tokenizer

    tokenizer = load_tokenizer(toy_model)
    end = tokenizer.eos_token_id
    model = with_fresh_head(folder(None if padding == "none" else end, tokenizer.eos_token), "cpu")
    pad = model.config.pad_token_id
    ids = torch.tensor([[5, 6, 7, 8, end], [9, 10, end, pad, pad]])
    attention = torch.tensor([[1, 1, 1, 1, 1], [1, 1, 1, 0, 0]])
    with torch.inference_mode():
        found, everywhere = answer_rewards(model, ids, attention), token_values(model, ids, attention)
    torch.testing.assert_close(found, everywhere[[0, 1], [4, 2]])


def test_a_fresh_head_is_of_full_precision_whatever_the_folder_says(toy_model, tmp_path):
    from polm_bench.models.head import with_fresh_head
    from polm_bench.models.load import load_model, load_tokenizer, save_model

    save_model(load_model(toy_model, "bfloat16"), load_tokenizer(toy_model), tmp_path)
    assert {weight.dtype for weight in with_fresh_head(tmp_path, "cpu").parameters()} == {torch.float32}

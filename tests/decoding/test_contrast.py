from __future__ import annotations

import math

import pytest
import torch
from transformers import AutoModelForCausalLM, LlamaConfig

from polm_bench.decoding.contrasting import (
    ContrastLM,
    against,
    amateur_price,
    contrast,
    divergence,
    earlier,
    head_price,
    penalised,
)
from polm_bench.decoding.sample import pad_left
from polm_bench.decoding.steps import last_logits, places, write
from polm_bench.models.load import load_model, load_tokenizer
from polm_bench.probes.flops import count_flops

LIMIT = 10


@pytest.fixture(scope="module")
def models(toy_model):
    torch.manual_seed(1)
    small = LlamaConfig(
        vocab_size=load_model(toy_model).config.vocab_size,
        hidden_size=32,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=64,
        initializer_range=0.2,
    )
    return load_model(toy_model), AutoModelForCausalLM.from_config(small).eval()


@pytest.fixture(scope="module")
def batch():
    return pad_left([[5, 6, 7, 8], [5, 6], [5, 9, 10]], 0, torch.device("cpu"))


def test_only_plausible_tokens_are_compared():
    strong = torch.tensor([0.5, 0.45, 0.05]).log()
    weak = torch.tensor([0.8, 0.1, 0.1]).log()
    scores = contrast(strong, weak, alpha=0.2, beta=0.5)
    assert scores[:2].tolist() == pytest.approx(
        [1.5 * math.log(0.5) - 0.5 * math.log(0.8), 1.5 * math.log(0.45) - 0.5 * math.log(0.1)], abs=1e-6
    )
    assert scores[2] == -torch.inf  # 0.05 is less than a fifth of a half
    assert scores.argmax() == 1


def test_a_divergence_is_nothing_between_equals_and_log_2_between_strangers():
    first, second = torch.tensor([1.0, 0.0]).clamp(min=1e-30).log(), torch.tensor([0.0, 1.0]).clamp(min=1e-30).log()
    found = divergence(first, torch.stack([first, second]))
    assert found.tolist() == pytest.approx([0.0, math.log(2)])


def slowly(models, ids, mask, alpha, beta):
    """The same without a cache: every token reads all before it."""
    expert, amateur = models
    ids = ids.clone()
    with torch.inference_mode():
        for _ in range(LIMIT):
            strong, weak = (last_logits(model, ids, mask, places(mask), None, 1)[:, -1] for model in (expert, amateur))
            ids = torch.cat([ids, contrast(strong, weak, alpha, beta).argmax(-1, keepdim=True)], 1)
            mask = torch.cat([mask, mask.new_ones(len(mask), 1)], 1)
    return ids[:, -LIMIT:]


def test_the_amateurs_cache_goes_with_the_experts(models, batch):
    ids, mask = batch
    expected = slowly(models, ids, mask, 0.1, 0.5)
    end = int(expected[0, 3])  # a row leaves the batch early
    found = write(models[0], ids, mask, LIMIT, end, 0, ask=against(*models, alpha=0.1, beta=0.5))
    for row, answer, length in zip(expected.tolist(), found.ids.tolist(), found.lengths.tolist(), strict=True):
        assert answer[:length] == row[:length]
    assert found.ended[0]


def test_an_amateur_equal_to_the_expert_changes_nothing(models, batch):
    ids, mask = batch
    plain = write(models[0], ids, mask, LIMIT, -1, 0)
    twin = write(models[0], ids, mask, LIMIT, -1, 0, ask=against(models[0], models[0], alpha=0.1, beta=0.5))
    assert torch.equal(plain.ids, twin.ids)


def test_layers_are_read_through_the_models_own_head(models, batch):
    ids, mask = batch
    expert = models[0]
    with torch.inference_mode():
        made = expert(input_ids=ids, attention_mask=mask, position_ids=places(mask), output_hidden_states=True)
        early = expert.lm_head(expert.model.norm(made.hidden_states[1]))[:, -1].log_softmax(-1)
        last = made.logits[:, -1].log_softmax(-1)
        from transformers import DynamicCache

        scores = earlier([1], alpha=0.5)(expert, ids, mask, places(mask), DynamicCache(), 1)[:, -1]
    plausible = last >= last.amax(-1, keepdim=True) + math.log(0.5)
    torch.testing.assert_close(scores[plausible], (last - early)[plausible], atol=1e-4, rtol=1e-4)
    assert (scores[~plausible] == -torch.inf).all()


def test_a_penalty_keeps_an_answer_from_saying_a_token_again():
    logits = torch.tensor([[2.0, 1.9, -1.0], [2.0, 1.0, -1.0]])
    choose = penalised(1.5, 2)
    rows = torch.tensor([0, 1])
    assert choose(logits, rows, 0).tolist() == [0, 0]
    assert choose(logits, rows, 1).tolist() == [1, 0]  # 2 / 1.5 = 1.33
    assert choose(logits[1:], rows[1:], 2).tolist() == [0]


def test_what_the_other_view_takes_is_part_of_the_cost(models, batch, toy_model):
    expert, amateur = models
    ids, mask = batch
    tokenizer = load_tokenizer(toy_model)

    def beside(ask, price):
        lm = ContrastLM(expert, tokenizer, 4, lambda *_: None, ask, price)
        lm._model_generate(ids, ids.shape[1] + LIMIT, [], attention_mask=mask)
        assert lm.asked == [4, 2, 3]
        return *lm.beside(), lm.answered

    tokens, flops, answered = beside(against(expert, amateur, alpha=0.1, beta=0.5), amateur_price(amateur))
    lengths = [asked + new for asked, new in zip([4, 2, 3], answered, strict=True)]
    assert tokens == sum(lengths)
    assert flops == sum(map(count_flops(amateur).score, lengths))
    tokens, flops, answered = beside(earlier([0, 1], alpha=0.1), head_price(expert, 2))
    head = expert.get_output_embeddings().weight
    assert (tokens, flops) == (0, 2 * 2 * head.numel() * sum(answered))

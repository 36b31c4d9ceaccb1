from __future__ import annotations

import pytest
import torch
from transformers import AutoModelForCausalLM, GPT2Config, MistralConfig, Qwen2Config

from polm_bench.decoding.plain import PlainLM
from polm_bench.decoding.sample import pad_left, sample
from polm_bench.decoding.sampling import Sampling
from polm_bench.decoding.steps import has_plain_cache, read, stop_at, write
from polm_bench.models.load import load_model, load_tokenizer

LIMIT = 12


@pytest.fixture(scope="module")
def toy(toy_model):
    return load_model(toy_model), load_tokenizer(toy_model)


@pytest.fixture(scope="module")
def prompts():
    """Nine prompts of 3 to 11 tokens; the last four start alike."""
    random = torch.Generator().manual_seed(0)
    rows = [torch.randint(5, 500, (3 + i,), generator=random).tolist() for i in range(9)]
    return rows[:5] + [[7, 8, 9, 10, *row[4:]] for row in rows[5:]]


def generated(model, ids, mask, end_id, **more):
    with torch.inference_mode():
        whole = model.generate(
            input_ids=ids,
            attention_mask=mask,
            max_new_tokens=LIMIT,
            do_sample=False,
            eos_token_id=end_id,
            pad_token_id=0,
            **more,
        )
    return whole[:, ids.shape[1] :]


def an_end(model, ids, mask) -> int:
    """A token that some greedy answers contain and others don't."""
    answers = generated(model, ids, mask, end_id=-1)
    inside = {int(token) for row in answers for token in row[1:-2]}
    return next(t for t in sorted(inside) if 0 < (answers == t).any(1).sum() < len(answers))


def tiny(config):
    torch.manual_seed(0)
    return AutoModelForCausalLM.from_config(config).eval()


SMALL = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2, "intermediate_size": 64, "vocab_size": 512}  # fmt: skip


def test_greedy_tokens_are_those_of_generate(toy, prompts):
    model, _ = toy
    ids, mask = pad_left(prompts, 0, model.device)
    end = an_end(model, ids, mask)
    found = write(model, ids, mask, LIMIT, end, 0)
    expected = generated(model, ids, mask, end)
    assert torch.equal(found.ids[:, : expected.shape[1]], expected)
    assert found.ended.tolist() == (expected == end).any(1).tolist()
    assert found.lengths.tolist() == [row.index(end) + 1 if end in row else LIMIT for row in expected.tolist()]


@pytest.mark.parametrize(
    "config",
    [Qwen2Config(**SMALL), GPT2Config(n_embd=32, n_layer=2, n_head=4, vocab_size=512)],
    ids=["grouped heads", "learned positions"],
)
def test_it_holds_for_other_models_too(config, prompts):
    model = tiny(config)
    assert has_plain_cache(model)
    ids, mask = pad_left(prompts, 0, model.device)
    end = an_end(model, ids, mask)
    expected = generated(model, ids, mask, end)
    assert torch.equal(write(model, ids, mask, LIMIT, end, 0).ids[:, : expected.shape[1]], expected)


def test_a_shared_start_changes_nothing(toy, prompts):
    model, _ = toy
    alike = prompts[5:]
    ids, mask = pad_left(alike, 0, model.device)
    with torch.inference_mode():
        together = read(model, ids, mask, LIMIT)
        alone = [read(model, *pad_left([row], 0, model.device), LIMIT).logits[0] for row in alike]
    assert together.mask[:, :4].all()  # the four tokens that all start with
    torch.testing.assert_close(together.logits, torch.stack(alone), atol=1e-5, rtol=1e-5)
    expected = generated(model, ids, mask, -1)
    assert torch.equal(write(model, ids, mask, LIMIT, -1, 0).ids, expected)


def test_copies_of_a_prompt_get_the_same_greedy_answer(toy, prompts):
    model, _ = toy
    ids, mask = pad_left(prompts, 0, model.device)
    once = write(model, ids, mask, LIMIT, -1, 0)
    thrice = write(model, ids, mask, LIMIT, -1, 0, copies=3)
    assert torch.equal(thrice.ids, once.ids.repeat_interleave(3, 0))


def test_answers_stop_at_a_text(toy, prompts):
    model, tokenizer = toy
    ids, mask = pad_left(prompts, 0, model.device)
    text = tokenizer.decode(write(model, ids, mask, LIMIT, -1, 0).ids[0, 3:5])
    found = write(model, ids, mask, LIMIT, -1, 0, stop=stop_at(tokenizer, [text]))
    assert found.ended[0]
    assert text in tokenizer.decode(found.ids[0, : found.lengths[0]])
    assert text not in tokenizer.decode(found.ids[0, : found.lengths[0] - 1])


def test_a_sliding_window_or_a_penalty_is_left_to_generate(toy):
    model, _ = toy
    assert has_plain_cache(model)
    assert not has_plain_cache(tiny(MistralConfig(**SMALL, sliding_window=8)))
    picky = tiny(Qwen2Config(**SMALL))
    picky.generation_config.repetition_penalty = 1.1
    assert not has_plain_cache(picky)


def test_an_adapter_that_is_not_folded_in_is_read_too(toy_model, prompts):
    from peft import LoraConfig, PromptTuningConfig, get_peft_model

    model = get_peft_model(
        load_model(toy_model), LoraConfig(target_modules="all-linear", init_lora_weights=False)
    ).eval()
    ids, mask = pad_left(prompts, 0, model.device)
    assert has_plain_cache(model)
    assert torch.equal(write(model, ids, mask, LIMIT, -1, 0).ids, generated(model, ids, mask, -1))
    virtual = get_peft_model(load_model(toy_model), PromptTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=2))
    assert not has_plain_cache(virtual)


def test_a_cache_of_ones_own_is_filled_and_kept_whole(toy, prompts):
    from transformers import DynamicCache

    model, _ = toy
    ids, mask = pad_left(prompts, 0, model.device)
    end, cache = an_end(model, ids, mask), DynamicCache()
    expected = generated(model, ids, mask, end)
    assert torch.equal(write(model, ids, mask, LIMIT, end, 0, cache=cache).ids[:, : expected.shape[1]], expected)
    assert cache.layers[0].keys.shape[0] == len(prompts)


def test_scores_are_those_of_lm_eval(toy):
    from lm_eval.models.huggingface import HFLM

    model, tokenizer = toy
    lm = PlainLM(model, tokenizer, 4, lambda *_: None)
    contexts = [[5, 6, 7, 8], [5, 6, 7, 8], [5, 6, 7, 8], [9], [11, 12], list(range(20, 600))]
    asked = [[30], [31, 32], [33, 34, 35], [40, 41, 42, 43], [50], [60, 61]]
    requests = [(None, known, new) for known, new in zip(contexts, asked, strict=True)]
    for known, new in zip(contexts[:3], asked[:3], strict=True):  # a greedy continuation too
        with torch.inference_mode():
            new = model.generate(torch.tensor([known]), max_new_tokens=len(new), do_sample=False)[
                0, len(known) :
            ].tolist()
        requests.append((None, known, new))
    ours = lm._loglikelihood_tokens(requests)
    theirs = HFLM._loglikelihood_tokens(lm, requests, disable_tqdm=True)
    assert [score.logprob for score in ours] == pytest.approx([value for value, _ in theirs], abs=1e-4)
    assert [score.likeliest for score in ours] == [greedy for _, greedy in theirs] == [False] * 6 + [True] * 3
    assert lm.read == [len(known) + len(new) for _, known, new in requests]


def test_draws_depend_on_the_seed_and_not_on_the_batch(toy, prompts):
    model, tokenizer = toy
    state = torch.get_rng_state()
    how = Sampling(max_new_tokens=8, temperature=0.7, top_p=0.9)
    one = sample(model, tokenizer, prompts, how, count=3, batch_size=3, seed=1)
    many = sample(model, tokenizer, prompts, how, count=3, batch_size=64, seed=1)
    assert one == many
    assert one != sample(model, tokenizer, prompts, how, count=3, batch_size=64, seed=2)
    assert [len(answers) for answers in one] == [3] * len(prompts)
    assert torch.equal(torch.get_rng_state(), state)

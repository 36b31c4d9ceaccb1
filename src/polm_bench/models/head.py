"""Language models that give a number instead of words: a linear head on the hidden states, one number a token."""

from __future__ import annotations

from typing import TYPE_CHECKING

from polm_bench.models.load import fastest_attention, load_model, load_tokenizer, resolve_dtype

if TYPE_CHECKING:
    from pathlib import Path

    import torch
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from polm_bench.models.load import Dtype


def with_fresh_head(folder: Path, device: str) -> PreTrainedModel:
    """The language model in `folder` with its output layer replaced by a head of one number, drawn from torch's random state; float32."""
    from transformers import AutoModelForSequenceClassification

    body = load_model(folder, "float32", device)
    config = type(body.config).from_pretrained(folder)
    config.num_labels = 1
    tokenizer = load_tokenizer(folder)
    if config.pad_token_id in (None, tokenizer.eos_token_id):
        config.pad_token_id = padding(tokenizer)
    model = AutoModelForSequenceClassification.from_config(
        config, dtype=resolve_dtype("float32", device), attn_implementation=fastest_attention(device)
    )
    setattr(model, model.base_model_prefix, body.base_model)
    return model.to(device).eval()


def padding(tokenizer: PreTrainedTokenizerBase) -> int:
    """A special token that ends no answer: transformers reads the reward at the last token that is not the one of the configuration.

    The end token itself where there is no other; the reward is then read at the token before it.
    """
    others = [
        token for token in (tokenizer.pad_token_id, *tokenizer.all_special_ids) if token != tokenizer.eos_token_id
    ]
    return others[0] if others else tokenizer.eos_token_id


def writing_head(folder: Path, model: PreTrainedModel, device: str) -> torch.Tensor:
    """Weights [V, H] of the output layer that the language model in `folder` had: the embeddings of `model` where they are tied, else as they were."""
    if model.config.tie_word_embeddings:
        return model.get_input_embeddings().weight
    return load_model(folder, "float32", device).get_output_embeddings().weight.detach()


def load_reward_model(folder: Path, dtype: Dtype, device: str) -> PreTrainedModel:
    """A model of `with_fresh_head` that was trained and saved, in evaluation mode."""
    from transformers import AutoModelForSequenceClassification

    model = AutoModelForSequenceClassification.from_pretrained(
        folder,
        use_safetensors=True,
        dtype=resolve_dtype(dtype, device),
        attn_implementation=fastest_attention(device),
    )
    return model.to(device).eval()


def answer_rewards(model: PreTrainedModel, ids: torch.Tensor, attention: torch.Tensor) -> torch.Tensor:
    """The head's number at the last token of each sequence [R, T], padded right with the configuration's token; [R], float32 or better."""
    import torch

    logits = model(input_ids=ids, attention_mask=attention, use_cache=False).logits[:, 0]
    return logits.to(torch.promote_types(logits.dtype, torch.float32))


def token_values(model: PreTrainedModel, ids: torch.Tensor, attention: torch.Tensor) -> torch.Tensor:
    """The head's number at every token of right-padded sequences, [R, T]."""
    hidden = model.base_model(input_ids=ids, attention_mask=attention, use_cache=False).last_hidden_state
    return model.score(hidden)[..., 0]  # type: ignore[operator]


def score_answers(model: PreTrainedModel, sequences: list[list[int]], size: int, device: str) -> list[float]:
    """Rewards of token sequences (prompt and answer), at most `size` at a time, alike lengths together."""
    import torch

    found = [0.0] * len(sequences)
    order = sorted(range(len(sequences)), key=lambda row: -len(sequences[row]))
    with torch.inference_mode():
        for start in range(0, len(order), size):
            rows = order[start : start + size]
            width = len(sequences[rows[0]])
            ids = torch.full((len(rows), width), model.config.pad_token_id)
            attention = torch.zeros((len(rows), width), dtype=torch.long)
            for i, row in enumerate(rows):
                ids[i, : len(sequences[row])] = torch.tensor(sequences[row])
                attention[i, : len(sequences[row])] = 1
            rewards = answer_rewards(model, ids.to(device), attention.to(device)).tolist()
            for row, reward in zip(rows, rewards, strict=True):
                found[row] = reward
    return found

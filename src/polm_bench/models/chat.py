"""Chat messages to token ids, the same way for every method and every evaluation."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

Message = dict[str, str]


class Encoded(NamedTuple):
    """One tokenised example: `ids` is prompt then completion; the last `completion` of them are the completion."""

    ids: list[int]
    completion: int


def encode_prompts(tokenizer: PreTrainedTokenizerBase, prompts: Sequence[list[Message]]) -> list[list[int]]:
    """Token ids of each conversation up to where the assistant's answer starts."""
    texts = [tokenizer.apply_chat_template(prompt, tokenize=False, add_generation_prompt=True) for prompt in prompts]
    return _ids(tokenizer, texts)


def encode_completions(tokenizer: PreTrainedTokenizerBase, completions: Sequence[str]) -> list[list[int]]:
    """Token ids of each answer, with the end token."""
    return [[*ids, tokenizer.eos_token_id] for ids in _ids(tokenizer, completions)]


def _ids(tokenizer: PreTrainedTokenizerBase, texts: Sequence[str]) -> list[list[int]]:
    """Token ids alone: the masks that tokenizers add by themselves take as long to make."""
    if not texts:
        return []
    plain = {"add_special_tokens": False, "return_attention_mask": False, "return_token_type_ids": False}
    return tokenizer(list(texts), **plain)["input_ids"]


def join(prompt: list[int], completion: list[int], max_length: int) -> Encoded:
    """Prompt and completion in at most `max_length` tokens.

    A completion is cut at its end (it then has no end token); a prompt loses its start, and at least half of the room stays for the completion.
    """
    completion = completion[: max(max_length - len(prompt), max_length // 2)]
    prompt = prompt[max(0, len(prompt) - (max_length - len(completion))) :]
    return Encoded([*prompt, *completion], len(completion))

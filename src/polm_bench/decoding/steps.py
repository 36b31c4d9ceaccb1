"""Token after token: one loop for evaluation and for sampling.

It writes what `model.generate` writes, in less time: prompts are read in parts that fit a processor's cache, keys and values lie in buffers with
room for the whole answer (so no step copies them), and rows that have ended leave the batch.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from transformers import Cache, DynamicCache, GenerationConfig
from transformers.cache_utils import DynamicLayer

from polm_bench.decoding.room import Pages, Room

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

READ_AT_ONCE = {"cpu": 1024}
"""Prompt tokens in one forward pass by device; elsewhere a whole batch. Nano's prompts were read 1.5 times as fast as in one pass."""

ENDED_SHARE = 0.125
"""Share of ended rows at which the batch is packed anew: that copies the keys and values of the rest."""

HARMLESS = {
    "bos_token_id", "eos_token_id", "pad_token_id", "do_sample", "temperature", "top_k", "top_p", "use_cache",
    "max_length", "max_new_tokens", "transformers_version", "_from_model_config", "output_attentions", "output_hidden_states",
}  # fmt: skip
"""Settings of a model's generation_config.json that don't change its greedy answer, or that every caller sets."""

Choose = Callable[[torch.Tensor, torch.Tensor, int], torch.Tensor]
"""Logits [b, V] of the rows still written, their numbers [b] in the batch, and the step, to the next tokens [b]."""

Ask = Callable[..., torch.Tensor]
"""The model's logits [B, N, V] after the last N of the tokens it reads; called as `last_logits` is."""

Stop = Callable[[torch.Tensor], torch.Tensor]
"""Answers so far [b, t], to which of them are over [b]."""


class Written(NamedTuple):
    """Answers to a batch."""

    ids: torch.Tensor  # [B, N]; pad tokens after the end
    lengths: torch.Tensor  # [B] tokens, end token included
    ended: torch.Tensor  # [B] True where an end token or a stop text came before the limit

    @classmethod
    def of(cls, answers: torch.Tensor, end_id: int) -> Written:
        """From tokens [B, N] that `model.generate` wrote."""
        ends = answers == end_id
        lengths = torch.where(ends.any(1), ends.int().argmax(1) + 1, answers.shape[1])
        return cls(answers, lengths, ends.any(1))


class Prompts(NamedTuple):
    """Prompts that were read."""

    logits: torch.Tensor  # [B, V] after each
    mask: torch.Tensor  # [B, T] True for tokens that count; where the others stand is up to `read`
    cache: Cache


def has_plain_cache(model: PreTrainedModel) -> bool:
    """Whether the loop here writes what `model.generate` writes.

    Not with a sliding window or a recurrent state, with virtual tokens before the prompt, or with a generation_config.json that changes greedy
    answers (such as a repetition penalty).
    """
    if any(config.is_prompt_learning for config in getattr(model, "peft_config", {}).values()):
        return False
    plain = model.get_base_model() if hasattr(model, "peft_config") else model
    if plain.config.is_encoder_decoder or plain._is_stateful:
        return False
    if any(type(layer) is not DynamicLayer for layer in DynamicCache(config=plain.config).layers):
        return False
    usual = GenerationConfig().to_dict()
    asked = plain.generation_config.to_dict()
    return all(value == usual.get(name) or not value for name, value in asked.items() if name not in HARMLESS)


def likeliest(logits: torch.Tensor, rows: torch.Tensor, step: int) -> torch.Tensor:
    """The likeliest token of each row."""
    return logits.argmax(-1)


def last_logits(
    model: PreTrainedModel,
    ids: torch.Tensor,
    mask: torch.Tensor,
    positions: torch.Tensor,
    cache: Cache | None,
    keep: int,
) -> torch.Tensor:
    """Logits [B, keep, V] after the last `keep` of the tokens [B, T]; mask [B, all tokens so far], positions [B, T]."""
    known = _arguments(model)
    given: dict[str, Any] = {
        "input_ids": ids,
        "attention_mask": mask,
        "past_key_values": cache,
        "use_cache": cache is not None,
    }
    if "position_ids" in known:
        given["position_ids"] = positions
    if "logits_to_keep" in known:
        given["logits_to_keep"] = keep
    return model(**given).logits[:, -keep:]


def _arguments(model: PreTrainedModel) -> set[str]:
    plain = model.get_base_model() if hasattr(model, "peft_config") else model
    return set(inspect.signature(plain.forward).parameters)


def read(
    model: PreTrainedModel,
    ids: torch.Tensor,
    mask: torch.Tensor,
    room: int,
    cache: Cache | None = None,
    ask: Ask = last_logits,
) -> Prompts:
    """What the model makes of left-padded prompts [B, T], with room for `room` more tokens. The start that all share is read once.

    A `cache` of one's own is filled in one pass, as its layers may see the batch as a whole.
    """
    if cache is not None:
        return Prompts(ask(model, ids, mask, places(mask), cache, 1)[:, -1], mask, cache)
    width, lengths = ids.shape[1], mask.sum(1)
    shared = _shared(ids, lengths)
    start = _read_start(model, ids[:1, width - int(lengths[0]) :][:, :shared], ask) if shared else []
    mask = (torch.arange(width, device=ids.device) >= width + shared - lengths[:, None]).to(mask.dtype)
    mask[:, :shared] = 1
    at_once = max(1, READ_AT_ONCE.get(ids.device.type, ids.numel()) // width)
    logits, caches = [], []
    for first in range(0, len(ids), at_once):
        rows = slice(first, first + at_once)
        used = max(1, int(lengths[rows].max()) - shared)
        seen = torch.cat([mask[rows, :shared], mask[rows, width - used :]], 1)
        part = DynamicCache([(k.expand(len(seen), -1, -1, -1), v.expand(len(seen), -1, -1, -1)) for k, v in start])
        logits.append(ask(model, ids[rows, width - used :], seen, places(seen)[:, shared:], part, 1)[:, -1])
        caches.append(part)
    layers = []
    for number in range(len(caches[0].layers)):
        layer = Room(width + room)
        layer.fill([(part.layers[number].keys, part.layers[number].values) for part in caches], shared, width)
        layers.append(layer)
    return Prompts(torch.cat(logits), mask, Cache(layers=layers))


def _shared(ids: torch.Tensor, lengths: torch.Tensor) -> int:
    """Tokens with which all of the left-padded prompts start; at least one of each stays apart."""
    most = int(lengths.min()) - 1
    if len(ids) == 1 or most < 1:
        return 0
    heads = ids.gather(1, ids.shape[1] - lengths[:, None] + torch.arange(most, device=ids.device))
    return int((heads == heads[0]).all(0).int().cumprod(0).sum())


def _read_start(model: PreTrainedModel, ids: torch.Tensor, ask: Ask) -> list[Pages]:
    cache = DynamicCache(config=model.config)
    ask(model, ids, torch.ones_like(ids), torch.arange(ids.shape[1], device=ids.device)[None], cache, 1)
    return [(layer.keys, layer.values) for layer in cache.layers]


def places(mask: torch.Tensor) -> torch.Tensor:
    """Positions [B, T] of left-padded rows, counted without the padding."""
    return (mask.cumsum(1) - 1).clamp(min=0)


def write(
    model: PreTrainedModel,
    ids: torch.Tensor,
    mask: torch.Tensor,
    limit: int,
    end_id: int,
    pad_id: int,
    *,
    copies: int = 1,
    choose: Choose = likeliest,
    stop: Stop | None = None,
    cache: Cache | None = None,
    ask: Ask = last_logits,
) -> Written:
    """At most `limit` tokens after each of the left-padded prompts [B, T]; with `copies`, each prompt is read once and answered so often.

    Rows of a `cache` of one's own stay in the batch to its end, as not every cache can drop them.
    """
    if copies > 1 and cache is not None:
        ids, mask, copies = ids.repeat_interleave(copies, 0), mask.repeat_interleave(copies, 0), 1
    packs = cache is None
    with torch.inference_mode():
        logits, mask, cache = read(model, ids, mask, limit, cache, ask)
        rows = torch.arange(len(ids) * copies, device=ids.device)
        if copies > 1:
            cache.batch_select_indices(rows // copies)
            logits, mask = logits[rows // copies], mask.repeat_interleave(copies, 0)
        found = Written(
            ids.new_full((len(rows), limit), pad_id),
            ids.new_full((len(rows),), limit),
            torch.zeros(len(rows), dtype=torch.bool, device=ids.device),
        )
        positions = mask.sum(1, keepdim=True)
        mask = torch.cat([mask, mask.new_ones(len(rows), limit)], 1)
        width = ids.shape[1]
        for step in range(limit):
            token = choose(logits, rows, step)
            over = found.ended[rows]
            token = torch.where(over, pad_id, token)
            found.ids[rows, step] = token
            ends = ~over & (token == end_id)
            if stop is not None:
                ends |= ~over & stop(found.ids[rows, : step + 1])
            found.ended[rows[ends]] = True
            found.lengths[rows[ends]] = step + 1
            alive = ~(over | ends)
            left = int(alive.sum())
            if left == 0 or step + 1 == limit:
                break
            if packs and left <= (1 - ENDED_SHARE) * len(rows):
                kept = alive.nonzero()[:, 0]
                cache.batch_select_indices(kept)
                rows, token, positions, mask = rows[kept], token[kept], positions[kept], mask[kept]
            logits = ask(model, token[:, None], mask[:, : width + step + 1], positions + step, cache, 1)[:, -1]
    return found


def stop_at(tokenizer: PreTrainedTokenizerBase, texts: Sequence[str]) -> Stop:
    """Answers are over once one of the texts stands in their last tokens: two more than its own, as lm-eval looks for it."""
    looks = [(text, len(tokenizer.encode(text, add_special_tokens=False)) + 2) for text in texts]

    def over(answers: torch.Tensor) -> torch.Tensor:
        found = torch.zeros(len(answers), dtype=torch.bool, device=answers.device)
        for text, back in looks:
            tails = tokenizer.batch_decode(answers[:, -back:])
            found |= torch.tensor([text in tail for tail in tails], device=answers.device)
        return found

    return over

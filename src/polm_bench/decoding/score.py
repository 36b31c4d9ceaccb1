"""Log-likelihoods of continuations: a context that several of them share is read once, and only their own tokens get logits."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, NamedTuple

import torch

from polm_bench.decoding.steps import READ_AT_ONCE, last_logits, read
from polm_bench.decoding.turns import ALONE, Turns

if TYPE_CHECKING:
    from transformers import Cache, PreTrainedModel


class Pair(NamedTuple):
    """What is scored: `asked` are the tokens after `known`, which ends with the token before the first of them."""

    known: tuple[int, ...]
    asked: tuple[int, ...]

    @classmethod
    def of(cls, context: Sequence[int], continuation: Sequence[int], max_length: int) -> Pair:
        """A context that is too long loses its start, so that the model reads `max_length` tokens (as lm-eval does)."""
        kept = max(1, max_length + 1 - len(continuation))
        return cls(tuple(context[-kept:]), tuple(continuation))


class Score(NamedTuple):
    """Sum of log-probabilities in nats, and whether each token was the likeliest. Equal to the pair that lm-eval asks for."""

    logprob: float
    likeliest: bool


def score(
    model: PreTrainedModel,
    pairs: Sequence[Pair],
    batch_size: int,
    pad_id: int,
    new_cache: Callable[[], Cache | None] = lambda: None,
    turns: Turns = ALONE,
) -> list[Score]:
    """Scores in the pairs' order; `batch_size` continuations at once. Rows of a cache of one's own are not shared."""
    order = sorted(range(len(pairs)), key=lambda i: (-len(pairs[i].asked), -len(pairs[i].known), pairs[i].known))
    own = new_cache() is not None
    batches: list[list[int]] = []
    start = 0
    while start < len(order):
        fits = max(1, READ_AT_ONCE.get(model.device.type, 2**31) // len(pairs[order[start]].asked))
        batches.append(order[start : start + (batch_size if own else min(batch_size, fits))])
        start += len(batches[-1])
    with torch.inference_mode():
        scores = turns.over(batches, lambda rows: _score([pairs[i] for i in rows], model, pad_id, new_cache()))
    found = dict(zip(order, (value for batch in scores for value in batch), strict=True))
    return [found[i] for i in range(len(pairs))]


def _score(pairs: Sequence[Pair], model: PreTrainedModel, pad_id: int, cache: Cache | None) -> list[Score]:
    device = model.device
    width = max(len(pair.asked) for pair in pairs)
    ids = torch.full((len(pairs), width), pad_id)
    wanted = torch.full((len(pairs), width), -1)
    for i, pair in enumerate(pairs):
        ids[i, : len(pair.asked)] = torch.tensor([pair.known[-1], *pair.asked[:-1]])
        wanted[i, : len(pair.asked)] = torch.tensor(pair.asked)
    ids, wanted = ids.to(device), wanted.to(device)
    positions = torch.tensor([[len(pair.known) - 1] for pair in pairs], device=device) + torch.arange(
        width, device=device
    )
    before, cache = _before(pairs, model, pad_id, width, cache)
    mask = torch.cat([before, torch.ones_like(ids)], 1)
    logits = last_logits(model, ids, mask, positions, cache, width)
    asked = wanted >= 0
    best = logits.argmax(-1) == wanted
    target = logits.gather(2, wanted.clamp(min=0)[..., None])[..., 0] - logits.logsumexp(-1)
    sums = (target * asked).sum(1).tolist()
    right = (best | ~asked).all(1).tolist()
    return [Score(value, all_right) for value, all_right in zip(sums, right, strict=True)]


def _before(
    pairs: Sequence[Pair], model: PreTrainedModel, pad_id: int, width: int, cache: Cache | None
) -> tuple[torch.Tensor, Cache | None]:
    """Mask [B, T] and keys and values of what stands before each pair's first read token; nothing where that is nothing."""
    prefixes = [pair.known[:-1] for pair in pairs]
    longest = max(len(prefix) for prefix in prefixes)
    if longest == 0:
        return torch.ones(len(pairs), 0, dtype=torch.long, device=model.device), None
    different = list(dict.fromkeys(prefixes)) if cache is None else prefixes
    number = {prefix: i for i, prefix in enumerate(different)}
    ids = torch.full((len(different), longest), pad_id)
    mask = torch.zeros(len(different), longest, dtype=torch.long)
    for i, prefix in enumerate(different):
        if prefix:
            ids[i, longest - len(prefix) :] = torch.tensor(prefix)
            mask[i, longest - len(prefix) :] = 1
    ids, mask = ids.to(model.device), mask.to(model.device)
    own = cache is not None
    _, mask, filled = read(model, ids, mask, width, cache)
    if own:
        return mask, filled
    rows = torch.tensor([number[prefix] for prefix in prefixes], device=model.device)
    filled.batch_select_indices(rows)
    return mask[rows], filled

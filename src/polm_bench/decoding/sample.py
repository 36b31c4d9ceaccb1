"""Answers to many prompts at once: one path for evaluation, rollouts, bootstrapping and judges."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, NamedTuple

import torch

from polm_bench.decoding.sampling import Sampling
from polm_bench.decoding.steps import Choose, Written, has_plain_cache, likeliest, write
from polm_bench.decoding.turns import ALONE, Turns

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


AT_ONCE = 256  # answers in one batch at most


class Answer(NamedTuple):
    """One answer; `ids` end with the end token where the model wrote it (`ended`), `text` is without special tokens."""

    ids: list[int]
    text: str
    ended: bool


def sample(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    prompts: Sequence[list[int]],
    how: Sampling,
    *,
    count: int = 1,
    batch_size: int = AT_ONCE,
    seed: int = 0,
    progress: Callable[[float, float, str], None] | None = None,
    turns: Turns = ALONE,
) -> list[list[Answer]]:
    """`count` answers to each prompt (token ids, as `encode_prompts` gives them), in the prompts' order.

    The draw depends on the seed, not on the caller's random state, which stays as it was. All answers to a prompt are drawn together, even
    where they are more than `batch_size`.
    """
    if not prompts:
        return []
    order = sorted(range(len(prompts)), key=lambda row: -len(prompts[row]))  # alike lengths together
    random = torch.Generator().manual_seed(seed)
    steps = how.max_new_tokens if how.temperature > 0 else 0
    draws = torch.rand(len(prompts), count, steps, generator=random).to(model.device)
    at_once = max(1, batch_size // count)

    def answers(start: int) -> list[Answer]:
        rows = order[start : start + at_once]
        ids, mask = pad_left([prompts[row] for row in rows], tokenizer.pad_token_id, model.device)
        written = generate(model, ids, mask, how, tokenizer.eos_token_id, tokenizer.pad_token_id, draws[rows])
        if progress:
            progress(count * min(start + at_once, len(order)), count * len(order), "answers")
        return _answers(tokenizer, written)

    flat = [one for batch in turns.over(range(0, len(order), at_once), answers) for one in batch]
    found: list[list[Answer]] = [[] for _ in prompts]
    for i, row in enumerate(order):
        found[row] = flat[i * count : (i + 1) * count]
    return found


def pad_left(rows: Sequence[list[int]], pad_id: int, device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
    """Token ids and attention mask, both [B, T]."""
    width = max(len(row) for row in rows)
    ids = torch.full((len(rows), width), pad_id)
    mask = torch.zeros((len(rows), width), dtype=torch.long)
    for i, row in enumerate(rows):
        ids[i, width - len(row) :] = torch.tensor(row)
        mask[i, width - len(row) :] = 1
    return ids.to(device), mask.to(device)


def generate(
    model: PreTrainedModel,
    ids: torch.Tensor,
    mask: torch.Tensor,
    how: Sampling,
    end_id: int,
    pad_id: int,
    draws: torch.Tensor,
) -> Written:
    """Answers to left-padded prompts [B, T]; `draws` are even random numbers from 0 to 1, [B, answers to a prompt, N]."""
    count = draws.shape[1]
    if has_plain_cache(model):
        choose = drawn(how, draws.flatten(0, 1)) if how.temperature > 0 else likeliest
        return write(model, ids, mask, how.max_new_tokens, end_id, pad_id, copies=count, choose=choose)
    draw = {"do_sample": True, "temperature": how.temperature, "top_p": how.top_p, "top_k": 0}
    with torch.inference_mode(), torch.random.fork_rng(devices=[model.device] if model.device.type == "cuda" else []):
        torch.manual_seed(int(draws.double().sum() * 2**20))  # model.generate draws from the one global state
        whole = model.generate(
            input_ids=ids.repeat_interleave(count, 0),
            attention_mask=mask.repeat_interleave(count, 0),
            max_new_tokens=how.max_new_tokens,
            eos_token_id=end_id,
            pad_token_id=pad_id,
            use_cache=True,
            **(draw if how.temperature > 0 else {"do_sample": False}),
        )
    return Written.of(whole[:, ids.shape[1] :], end_id)


def drawn(how: Sampling, draws: torch.Tensor) -> Choose:
    """The token in whose part of the distribution a row's random number of the step falls; `draws` [B, N].

    So an answer depends on its own numbers alone, not on which rows are in the batch with it.
    """

    def choose(logits: torch.Tensor, rows: torch.Tensor, step: int) -> torch.Tensor:
        chances = torch.softmax(logits.float() / how.temperature, -1)
        if how.top_p < 1:
            chances = nucleus(chances, how.top_p)
        sums = chances.cumsum(-1)
        mark = draws[rows, step, None] * sums[:, -1:]
        token = torch.searchsorted(sums, mark, right=True).clamp(max=logits.shape[-1] - 1)
        held = chances.gather(1, token) > 0  # False where rounding put the mark behind the last token that can be drawn
        return torch.where(held, token, chances.argmax(-1, keepdim=True))[:, 0]

    return choose


def nucleus(chances: torch.Tensor, top_p: float) -> torch.Tensor:
    """Probabilities [b, V] without the tokens outside the smallest set that holds `top_p` (Holtzman et al. 2020, arXiv:1904.09751, Eq. 2)."""
    ordered, order = chances.sort(-1, descending=True)
    ordered[ordered.cumsum(-1) - ordered >= top_p] = 0
    return torch.zeros_like(chances).scatter(1, order, ordered)


def _answers(tokenizer: PreTrainedTokenizerBase, written: Written) -> list[Answer]:
    ids = [row[:length] for row, length in zip(written.ids.tolist(), written.lengths.tolist(), strict=True)]
    texts = tokenizer.batch_decode(ids, skip_special_tokens=True)
    return [Answer(*parts) for parts in zip(ids, texts, written.ended.tolist(), strict=True)]

"""Answers to many prompts at once: one path for evaluation, rollouts, bootstrapping and judges."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, NamedTuple

import torch

from polm_bench.decoding.sampling import Sampling

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


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
    batch_size: int = 256,
    seed: int = 0,
    progress: Callable[[float, float, str], None] | None = None,
) -> list[list[Answer]]:
    """`count` answers to each prompt (token ids, as `encode_prompts` gives them), in the prompts' order.

    The draw depends on the seed and on `batch_size`, not on the caller's random state, which stays as it was.
    """
    wanted = [row for row in range(len(prompts)) for _ in range(count)]
    wanted.sort(
        key=lambda row: -len(prompts[row])
    )  # alike lengths together; stable, so the copies of a prompt stay in order
    found: list[list[Answer]] = [[] for _ in prompts]
    with torch.random.fork_rng(devices=[model.device] if model.device.type == "cuda" else []):
        torch.manual_seed(seed)
        for start in range(0, len(wanted), batch_size):
            rows = wanted[start : start + batch_size]
            ids, mask = pad_left([prompts[row] for row in rows], tokenizer.pad_token_id, model.device)
            written = generate(model, ids, mask, how, tokenizer.eos_token_id, tokenizer.pad_token_id)
            for row, answer in zip(rows, _answers(tokenizer, written), strict=True):
                found[row].append(answer)
            if progress:
                progress(min(start + batch_size, len(wanted)), len(wanted), "answers")
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
    model: PreTrainedModel, ids: torch.Tensor, mask: torch.Tensor, how: Sampling, end_id: int, pad_id: int
) -> torch.Tensor:
    """New tokens [B, N] after left-padded prompts [B, T]; after the end token a row has pad tokens."""
    draw = {"do_sample": True, "temperature": how.temperature, "top_p": how.top_p, "top_k": 0}
    with torch.inference_mode():
        whole = model.generate(
            input_ids=ids,
            attention_mask=mask,
            max_new_tokens=how.max_new_tokens,
            eos_token_id=end_id,
            pad_token_id=pad_id,
            use_cache=True,
            **(draw if how.temperature > 0 else {"do_sample": False}),
        )
    return whole[:, ids.shape[1] :]


def _answers(tokenizer: PreTrainedTokenizerBase, written: torch.Tensor) -> list[Answer]:
    end = tokenizer.eos_token_id
    cut = []
    for row in written.tolist():
        ended = end in row
        cut.append((row[: row.index(end) + 1] if ended else row, ended))
    texts = tokenizer.batch_decode([ids for ids, _ in cut], skip_special_tokens=True)
    return [Answer(ids, text, ended) for (ids, ended), text in zip(cut, texts, strict=True)]

"""Log-probs of completions, without ever holding the logits of a whole batch."""

from __future__ import annotations

import contextlib
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from accelerate.utils import extract_model_from_parallel
from torch import Tensor, nn

from polm_bench.trainers.sharing import packed_inputs

Batch = dict[str, Tensor]
"""`input_ids`, `attention_mask` [R, T] and `completion_mask` [R, T] (bool, True on the completion's N tokens in all), and what else a collator gives."""


def mixed(device: str | torch.device) -> contextlib.AbstractContextManager[Any]:
    """bf16 products where the device has them, as in training: a frozen copy of the policy then gives its log-probs, and not more exact ones."""
    if torch.device(device).type == "cpu" or not torch.cuda.is_bf16_supported():
        return contextlib.nullcontext()
    return torch.autocast("cuda", torch.bfloat16)


class SequenceLogps(NamedTuple):
    """What a model gives the completions of R sequences."""

    logps: Tensor
    """[R], sum over the completion's tokens given the prompt, in nats, float32 or better."""
    lengths: Tensor
    """[R], tokens of the completion."""


def completion_logits(model: nn.Module, batch: Batch) -> Tensor:
    """Logits [N, V], float32 or better, that predict the completions' tokens, in one forward pass.

    Hidden states are cut down to the N positions that predict a completion's token before the output layer sees them, so logits are [N, V]
    instead of [R, T, V]: with a vocabulary of 49,152 a step took 0.77 of the time and 0.65 of the memory. The router loss of a
    mixture-of-experts model is not among them. A batch of packed pairs (`trainers.sharing`) gives the same logits from fewer tokens.
    """
    mask = batch["completion_mask"]
    bare = extract_model_from_parallel(model)
    if "packed_ids" in batch:
        given, sources = packed_inputs(bare, batch), batch["predicted_from"][mask]
    else:
        given, sources = {name: batch[name] for name in ("input_ids", "attention_mask")}, None
    predicts = mask.roll(-1, dims=1)  # the prompt is never empty, so nothing wraps round

    def cut(head: nn.Module, args: tuple[Tensor, ...]) -> tuple[Tensor]:
        if sources is not None:
            return (args[0].flatten(0, 1)[sources],)
        hidden = args[0][:, -mask.shape[1] :]  # soft prompts of PEFT stand before the real tokens
        return (hidden[predicts],)

    hook = bare.get_output_embeddings().register_forward_pre_hook(cut)
    try:
        logits = model(**given, use_cache=False).logits
    finally:
        hook.remove()
    return logits.to(torch.promote_types(logits.dtype, torch.float32))


def sum_logps(logits: Tensor, batch: Batch) -> SequenceLogps:
    """Summed log-probs of the completions, from their logits [N, V]."""
    mask = batch["completion_mask"]
    logps = -F.cross_entropy(logits, batch["input_ids"][mask], reduction="none")  # [N]
    row = mask.nonzero()[:, 0]
    return SequenceLogps(logps.new_zeros(len(mask)).index_add(0, row, logps), mask.sum(1))


def sequence_logps(model: nn.Module, batch: Batch) -> SequenceLogps:
    """Summed log-probs of the completions of a batch, in one forward pass."""
    return sum_logps(completion_logits(model, batch), batch)


def by_sequence(values: Tensor, mask: Tensor) -> Tensor:
    """Values [N] of completion tokens as [R, L], L the longest completion's tokens, 0 after each one's end; `mask` is `completion_mask`."""
    lengths = mask.sum(1)
    places = torch.arange(int(lengths.max()), device=mask.device)
    return values.new_zeros(len(mask), len(places)).masked_scatter(places < lengths[:, None], values)

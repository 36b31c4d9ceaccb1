"""What a model says of sampled answers, token by token."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import PreTrainedModel

Asked = tuple[list[int], list[int]]
"""Token ids of a prompt and of an answer to it."""


class AnswerBatch(NamedTuple):
    """N prompts with their answers, padded on the right to L tokens; answers have at most T."""

    ids: Tensor
    """[N, L]."""
    attention: Tensor
    """[N, L]."""
    predicts: Tensor
    """[N, L], bool, True where the next token is one of the answer's."""
    targets: Tensor
    """[M], all answers' tokens, row after row."""
    mask: Tensor
    """[N, T], bool, True on the answer's tokens, which here start in column 0."""

    def spread(self, flat: Tensor) -> Tensor:
        """M numbers in the order of `targets` as [N, T]; 0 on padding."""
        return flat.new_zeros(self.mask.shape).masked_scatter(self.mask, flat)


class TokenView(NamedTuple):
    """A model's view of a batch's answers."""

    logps: Tensor
    """[N, T], of the answers' tokens, in nats; 0 on padding."""
    entropy: Tensor | None
    """[N, T], in nats."""
    hidden: Tensor
    """[M, H], the last layer's states that predict the answers' tokens."""


def collate(asked: Sequence[Asked], pad_id: int, device: str) -> AnswerBatch:
    """Raises ValueError for an empty prompt or answer: it has no log-prob."""
    width = max(len(prompt) + len(answer) for prompt, answer in asked)
    ids = torch.full((len(asked), width), pad_id)
    attention = torch.zeros((len(asked), width), dtype=torch.long)
    predicts = torch.zeros((len(asked), width), dtype=torch.bool)
    mask = torch.zeros((len(asked), max(len(answer) for _, answer in asked)), dtype=torch.bool)
    for i, (prompt, answer) in enumerate(asked):
        if not prompt or not answer:
            raise ValueError(f"{len(prompt)} tokens of prompt and {len(answer)} of answer leave nothing to learn")
        whole = len(prompt) + len(answer)
        ids[i, :whole] = torch.tensor(prompt + answer)
        attention[i, :whole] = 1
        predicts[i, len(prompt) - 1 : whole - 1] = True
        mask[i, : len(answer)] = True
    targets = torch.tensor([token for _, answer in asked for token in answer])
    return AnswerBatch(*(tensor.to(device) for tensor in (ids, attention, predicts, targets, mask)))


def token_view(model: PreTrainedModel, batch: AnswerBatch, temperature: float, entropy: bool = False) -> TokenView:
    """One forward pass; the output layer sees only the M positions that predict an answer's token, as in `trainers.pair.sequence_logps`.

    Logits are divided by the temperature that the answers were sampled at, so that the log-probs are those of the sampling.
    """
    seen: list[Tensor] = []

    def cut(head: nn.Module, args: tuple[Tensor, ...]) -> tuple[Tensor]:
        hidden = args[0][:, -batch.ids.shape[1] :]  # soft prompts of PEFT stand before the real tokens
        seen.append(hidden[batch.predicts])
        return (seen[0],)

    hook = model.get_output_embeddings().register_forward_pre_hook(cut)
    try:
        logits = model(input_ids=batch.ids, attention_mask=batch.attention, use_cache=False).logits
    finally:
        hook.remove()
    logps = F.log_softmax(logits.to(torch.promote_types(logits.dtype, torch.float32)) / temperature, dim=-1)
    chosen = logps.gather(1, batch.targets[:, None])[:, 0]
    return TokenView(
        batch.spread(chosen), batch.spread(-(logps.exp() * logps).sum(1)) if entropy else None, seen[0].float()
    )

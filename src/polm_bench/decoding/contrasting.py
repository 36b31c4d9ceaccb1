"""Scores of the next token by contrast, for the loop that writes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import torch
from transformers import Cache
from transformers.cache_utils import DynamicLayer

from polm_bench.decoding.plain import PlainLM
from polm_bench.decoding.steps import Ask, Choose, Written, last_logits, stop_at, write
from polm_bench.errors import BadModel
from polm_bench.probes.flops import count_flops

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


Price = Callable[[int, int], tuple[int, float]]
"""Prompt tokens and answer tokens, to what the other view of that answer takes: tokens that another model reads, and FLOPs."""


class ContrastLM(PlainLM):
    """Greedy answers by other scores than the model's own."""

    def __init__(
        self,
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        batch_size: int,
        progress: Any,
        ask: Ask,
        price: Price,
        penalty: float = 1.0,
    ) -> None:
        super().__init__(model, tokenizer, batch_size, progress)
        if not self.ours:
            raise BadModel(
                "contrast needs a model with a plain cache: no sliding window, recurrent state or virtual tokens"
            )
        self.ask, self.price = ask, price
        self.penalty = penalty

    def beside(self) -> tuple[int, float]:
        costs = [self.price(asked, answered) for asked, answered in zip(self.asked, self.answered, strict=True)]
        return sum(tokens for tokens, _ in costs), sum(flops for _, flops in costs)

    def _write(self, ids: torch.Tensor, mask: torch.Tensor, limit: int, texts: list[str]) -> Written:
        stop = stop_at(self.tokenizer, texts) if texts else None
        choose = penalised(self.penalty, len(ids))
        return write(
            self.model, ids, mask, limit, self.end, self.tokenizer.pad_token_id, choose=choose, stop=stop, ask=self.ask
        )


def contrast(strong: torch.Tensor, weak: torch.Tensor, alpha: float, beta: float) -> torch.Tensor:
    """(1 + beta) strong - beta weak [..., V] where the strong probability is at least `alpha` times the highest, else minus infinity."""
    plausible = strong >= strong.amax(-1, keepdim=True) + torch.log(torch.tensor(alpha))
    return torch.where(plausible, (1 + beta) * strong - beta * weak, -torch.inf)


def against(expert: PreTrainedModel, amateur: PreTrainedModel, alpha: float, beta: float) -> Ask:
    """Contrast with a weaker model; its keys and values are further layers of the same cache, so they are copied and dropped with the rows."""
    count = expert.config.num_hidden_layers
    total = count + amateur.config.num_hidden_layers

    def ask(
        model: PreTrainedModel, ids: torch.Tensor, mask: torch.Tensor, positions: torch.Tensor, cache: Cache, keep: int
    ) -> torch.Tensor:
        while len(cache.layers) < total:
            cache.layers.append(DynamicLayer())
        strong = last_logits(model, ids, mask, positions, Cache(layers=cache.layers[:count]), keep)
        weak = last_logits(amateur, ids, mask, positions, Cache(layers=cache.layers[count:]), keep)
        return contrast(strong.float(), weak.float(), alpha, beta)

    return ask


def amateur_price(amateur: PreTrainedModel) -> Price:
    """The weaker model reads the prompt and every token that is written."""
    flops = count_flops(amateur)
    return lambda asked, answered: (asked + answered, flops.generate(asked, answered))


def earlier(layers: Sequence[int], alpha: float) -> Ask:
    """Contrast with the earlier layer that differs most."""

    def ask(
        model: PreTrainedModel, ids: torch.Tensor, mask: torch.Tensor, positions: torch.Tensor, cache: Cache, keep: int
    ) -> torch.Tensor:
        made = model(
            input_ids=ids,
            attention_mask=mask,
            position_ids=positions,
            past_key_values=cache,
            use_cache=True,
            logits_to_keep=keep,
            output_hidden_states=True,
        )
        plain = model.get_base_model() if hasattr(model, "peft_config") else model
        last = made.logits[:, -keep:].float().log_softmax(-1)
        early = torch.stack([made.hidden_states[layer][:, -keep:] for layer in layers])
        heads = plain.get_output_embeddings()(plain.base_model.norm(early)).float().log_softmax(-1)
        chosen = divergence(last, heads).argmax(0)  # [B, keep]
        weak = heads.gather(0, chosen[None, ..., None].expand(1, *last.shape))[0]
        return contrast(last, weak, alpha, 1.0) - last  # (1 + 1) log q_N - log q_M - log q_N

    return ask


def head_price(model: PreTrainedModel, layers: int) -> Price:
    """The head is put to so many more layers for every token that is written."""
    each = 2 * layers * model.config.vocab_size * model.config.hidden_size
    return lambda asked, answered: (0, float(each * answered))


def divergence(last: torch.Tensor, early: torch.Tensor) -> torch.Tensor:
    """Jensen-Shannon divergence in nats, [L, ...], of log-probabilities [..., V] from those of L layers [L, ..., V]."""
    middle = torch.logsumexp(torch.stack([last.expand_as(early), early]), 0) - torch.log(torch.tensor(2.0))
    first = (last.exp() * (last - middle)).sum(-1)
    second = (early.exp() * (early - middle)).sum(-1)
    return 0.5 * (first + second)


def penalised(penalty: float, rows: int) -> Choose:
    """The best token, after the scores of those that the row's answer has already are divided by the penalty (multiplied where below 0)."""
    said: list[torch.Tensor] = []

    def choose(logits: torch.Tensor, alive: torch.Tensor, step: int) -> torch.Tensor:
        if penalty == 1:
            return logits.argmax(-1)
        if not said:
            said.append(torch.zeros(rows, logits.shape[-1], dtype=torch.bool, device=logits.device))
        before = said[0][alive]
        scores = torch.where(before, torch.where(logits > 0, logits / penalty, logits * penalty), logits)
        token = scores.argmax(-1)
        said[0][alive, token] = True
        return token

    return choose

"""lm-eval's view of a model whose drafts are looked at token by token."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import torch

from polm_bench.decoding.asking import AskingLM, cut
from polm_bench.decoding.flare import Token
from polm_bench.decoding.sample import pad_left
from polm_bench.decoding.steps import stop_at, write

if TYPE_CHECKING:
    from polm_bench.decoding.method import Question
    from polm_bench.models.chat import Message


class Drafted(NamedTuple):
    """Drafts of a batch, as other processes can take them over."""

    ids: list[list[int]]  # with the end token
    chances: list[list[float]]
    ended: list[bool]


class ForeseeingLM(AskingLM):
    """A model that says how sure it is of each token."""

    def drafts(self, chats: Sequence[list[Message]], like: Question, begun: Sequence[str]) -> list[list[Token]]:
        """The greedy rest of each answer that has `begun`, without its end token, and the probability of each token."""
        prompts = self.encode(chats, like.limit, begun)
        order = sorted(range(len(prompts)), key=lambda i: (-len(prompts[i]), prompts[i]))
        until = [stop for stop in like.until if stop != self.end_text]
        stop, pad = stop_at(self.tokenizer, until) if until else None, self.tokenizer.pad_token_id
        size = int(self.batch_size)
        batches = [order[start : start + size] for start in range(0, len(order), size)]

        def answers(rows: list[int]) -> Drafted:
            ids, mask = pad_left([prompts[i] for i in rows], pad, self.model.device)
            chances = torch.zeros(len(rows), like.limit, device=self.model.device)

            def surest(logits: torch.Tensor, alive: torch.Tensor, step: int) -> torch.Tensor:
                best = logits.float().softmax(-1).max(-1)
                chances[alive, step] = best.values
                return best.indices

            written = write(self.model, ids, mask, like.limit, self.end, pad, choose=surest, stop=stop)
            lengths = written.lengths.tolist()
            return Drafted(
                [row[:length] for row, length in zip(written.ids.tolist(), lengths, strict=True)],
                [row[:length] for row, length in zip(chances.tolist(), lengths, strict=True)],
                written.ended.tolist(),
            )

        found: list[list[Token]] = [[] for _ in prompts]
        for rows, told in zip(batches, self.turns.over(batches, answers), strict=True):
            self._count([len(prompts[i]) for i in rows], [len(ids) for ids in told.ids], told.ended)
            for i, ids, chances in zip(rows, told.ids, told.chances, strict=True):
                found[i] = self._tokens_of(ids, chances, like.until)
        return found

    def _tokens_of(self, ids: list[int], chances: list[float], until: Sequence[str]) -> list[Token]:
        """The text of each token as it stands after those before it, up to the first stop text."""
        shown = self.tokenizer.batch_decode([ids[:end] for end in range(len(ids) + 1)], skip_special_tokens=True)
        whole = len(cut(shown[-1], until))
        ends = [min(len(text), whole) for text in shown]
        return [
            Token(shown[-1][start:end], chance)
            for start, end, chance in zip(ends, ends[1:], chances, strict=False)
            if end > start
        ]

"""What a model looks up at a subject's last token: the key, the value, and the value that would make it answer otherwise."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from polm_bench.objectives.editing import essence_drift

if TYPE_CHECKING:
    from collections.abc import Iterator

    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from polm_bench.stages.edit_located import ValueSearch
    from polm_bench.trainers.purse import Purse

Fact = dict[str, Any]
Where = Literal["mlp", "layer"]
"""Whose output a value is: the MLP's, or the whole layer's (the hidden state)."""
CHUNK = 8  # facts whose values are searched together, as they don't touch each other; rows of text read together


class Sequences(NamedTuple):
    """R token rows padded right, with the place of the subject's last token."""

    ids: Tensor  # [R, T]
    mask: Tensor  # [R, T]
    place: Tensor  # [R]
    labels: Tensor  # [R, T], -100 where nothing is to be learnt


class Lookup:
    """A model with the means to look into it; weights may change between calls."""

    def __init__(
        self,
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        search: ValueSearch,
        starts: Sequence[str],
        purse: Purse,
    ) -> None:
        self.model, self.tokenizer, self.search, self.starts, self.purse = model, tokenizer, search, starts, purse

    def weight(self, layer: int) -> Tensor:
        """[hidden, intermediate] of the MLP's last linear layer."""
        return down(self.model, layer).weight

    def keys(self, facts: Sequence[Fact], layer: int) -> Tensor:
        """[N, intermediate]: what enters the MLP's last layer at the subject's last token, mean over the contexts."""
        found = []
        for fact in facts:
            rows = self.rows([fact], answered=False)
            with caught(down(self.model, layer), entering=True) as seen:
                self.model(input_ids=rows.ids, attention_mask=rows.mask)
            found.append(at(seen[0], rows.place).mean(0))
        return torch.stack(found)

    def states(self, facts: Sequence[Fact], layer: int, where: Where) -> Tensor:
        """[N, hidden]: the value at the subject's last token of the question alone."""
        found = []
        for fact in facts:
            rows = self.rows([fact], answered=False, starts=())
            with caught(self.module(layer, where)) as seen:
                self.model(input_ids=rows.ids, attention_mask=rows.mask)
            found.append(at(seen[0], rows.place)[0])
        return torch.stack(found)

    def module(self, layer: int, where: Where) -> torch.nn.Module:
        block = self.model.get_decoder().layers[layer]
        return block.mlp if where == "mlp" else block

    def values(self, facts: Sequence[Fact], layer: int, where: Where) -> tuple[Tensor, int]:
        """[N', hidden], the values that make the model say the new answers, of the first N' facts: as many as the spend pays for."""
        found: list[Tensor] = []
        for begin in range(0, len(facts), CHUNK):
            if self.purse.empty():
                break
            found.extend(self._search(facts[begin : begin + CHUNK], layer, where))
        return (torch.stack(found) if found else torch.empty(0)), len(found)

    @torch.enable_grad()
    def _search(self, facts: Sequence[Fact], layer: int, where: Where) -> Tensor:
        rows, kept = self.rows(facts, answered=True), self._about(facts)
        start, module, size = self.states(facts, layer, where), self.module(layer, where), len(self.starts) + 1
        delta = torch.zeros_like(start, requires_grad=True)
        optimizer = torch.optim.Adam([delta], lr=self.search.lr)
        with torch.no_grad():
            before = self._next(kept)
        lengths = [int(n) for part in (rows, kept) for n in part.mask.sum(1)]
        for _ in range(self.search.steps):
            with added(module, delta.repeat_interleave(size, 0), rows.place):
                logits = self.model(input_ids=rows.ids, attention_mask=rows.mask).logits[:, :-1].float()
            with added(module, delta, kept.place):
                after = self._next(kept)
            labels = rows.labels[:, 1:]
            each = F.cross_entropy(logits.flatten(0, 1), labels.flatten(), reduction="none").view_as(labels)
            told = (each.sum(1) / (labels != -100).sum(1)).view(len(facts), size).mean(1)
            losses = (
                told
                + self.search.kl * essence_drift(after, before)
                + self.search.decay * delta.norm(dim=1) / start.norm(dim=1) ** 2
            )
            going = (losses.detach() >= self.search.enough)[:, None]
            if not bool(going.any()):
                break
            optimizer.zero_grad()
            losses.sum().backward()
            previous = delta.detach().clone()
            optimizer.step()
            self.purse.pay(lengths)
            with torch.no_grad():
                bound = self.search.clamp * start.norm(dim=1, keepdim=True)
                delta.mul_((bound / delta.norm(dim=1, keepdim=True).clamp(min=1e-12)).clamp(max=1))
                delta.copy_(torch.where(going, delta, previous))  # a fact that is learnt stays where it is
            if self.purse.empty():
                break
        return start + delta.detach()

    def _next(self, rows: Sequences) -> Tensor:
        """[R, V], log-probs of what follows each row."""
        logits = self.model(input_ids=rows.ids, attention_mask=rows.mask).logits
        return at(logits, rows.mask.sum(1) - 1).float().log_softmax(-1)

    def rows(self, facts: Sequence[Fact], answered: bool, starts: Sequence[str] | None = None) -> Sequences:
        """Each fact's question alone and after each start, with the new answer where `answered`; a fact's rows follow each other."""
        from polm_bench.models.chat import encode_completions

        told = []
        for fact in facts:
            answer = encode_completions(self.tokenizer, [fact["new"]])[0] if answered else []
            *earlier, last = fact["prompt"]
            for start in ("", *(self.starts if starts is None else starts)):
                content = f"{start}. {last['content']}" if start else last["content"]
                told.append((self._text([*earlier, {**last, "content": content}]), fact["subject"], answer))
        return self._padded(told)

    def _about(self, facts: Sequence[Fact]) -> Sequences:
        """One row a fact: "{subject} is a", in a message of the user."""
        texts = [self._text([{"role": "user", "content": f"{fact['subject']} is a"}]) for fact in facts]
        ends = [
            text[: text.rfind(fact["subject"]) + len(f"{fact['subject']} is a")] for text, fact in zip(texts, facts)
        ]
        return self._padded([(end, fact["subject"], []) for end, fact in zip(ends, facts, strict=True)])

    def _text(self, prompt: list[dict[str, str]]) -> str:
        text: str = self.tokenizer.apply_chat_template(prompt, tokenize=False, add_generation_prompt=True)
        return text

    def _padded(self, told: Sequence[tuple[str, str, list[int]]]) -> Sequences:
        split = [subject_place(self.tokenizer, text, subject) for text, subject, _ in told]
        rows = [[*ids, *answer] for (ids, _), (_, _, answer) in zip(split, told, strict=True)]
        width = max(map(len, rows))
        ids = torch.full((len(rows), width), self.tokenizer.pad_token_id)
        mask, labels = torch.zeros_like(ids), torch.full_like(ids, -100)
        for number, (row, (_, _, answer)) in enumerate(zip(rows, told, strict=True)):
            ids[number, : len(row)] = torch.tensor(row)
            mask[number, : len(row)] = 1
            if answer:
                labels[number, len(row) - len(answer) : len(row)] = torch.tensor(answer)
        place = torch.tensor([place for _, place in split])
        return Sequences(*(tensor.to(self.model.device) for tensor in (ids, mask, place, labels)))


def subject_place(tokenizer: PreTrainedTokenizerBase, text: str, subject: str) -> tuple[list[int], int]:
    """Token ids of `text`, and the place of the token in which the subject's last mention ends; the last token where it isn't mentioned."""
    told = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
    at_ = text.rfind(subject)
    if at_ < 0:
        return told["input_ids"], len(told["input_ids"]) - 1
    end = at_ + len(subject)
    return told["input_ids"], next(n for n, (left, right) in enumerate(told["offset_mapping"]) if left < end <= right)


def down(model: PreTrainedModel, layer: int) -> torch.nn.Linear:
    """The last linear layer of a layer's MLP."""
    found: torch.nn.Linear = model.get_decoder().layers[layer].mlp.down_proj
    return found


def at(values: Tensor, place: Tensor) -> Tensor:
    """[R, D], row r of [R, T, D] at place[r]."""
    return values[torch.arange(len(values), device=values.device), place]


def moment(model: PreTrainedModel, layer: int, rows: Sequence[dict[str, list[int]]]) -> Tensor:
    """[intermediate, intermediate], mean of k k^T over the tokens of rows of one length, with a ten-thousandth of its mean diagonal added so that it inverts."""
    whole, tokens = torch.zeros(()), 0
    for begin in range(0, len(rows), CHUNK):
        ids = torch.tensor([row["input_ids"] for row in rows[begin : begin + CHUNK]], device=model.device)
        with caught(down(model, layer), entering=True) as seen, torch.no_grad():
            model(input_ids=ids)
        keys = seen[0].flatten(0, 1).double()
        whole = whole.to(keys.device) + keys.T @ keys
        tokens += len(keys)
    mean = whole / tokens
    return mean + 1e-4 * mean.diagonal().mean() * torch.eye(len(mean), dtype=mean.dtype, device=mean.device)


@contextmanager
def caught(module: torch.nn.Module, entering: bool = False) -> Iterator[list[Tensor]]:
    """What enters or leaves `module` while the block runs, one entry a call."""
    seen: list[Tensor] = []

    def keep(_module: object, inputs: tuple[Tensor, ...], output: Any) -> None:
        seen.append((inputs[0] if entering else first(output)).detach())

    handle = module.register_forward_hook(keep)
    try:
        yield seen
    finally:
        handle.remove()


@contextmanager
def added(module: torch.nn.Module, delta: Tensor, place: Tensor) -> Iterator[None]:
    """`delta` [R, D] added to what leaves `module`, in row r at place[r], while the block runs."""

    def add(_module: object, _inputs: object, output: Any) -> Any:
        value = first(output)
        shift = torch.zeros_like(value).index_put((torch.arange(len(value), device=value.device), place), delta)
        return value + shift if isinstance(output, Tensor) else (value + shift, *output[1:])

    handle = module.register_forward_hook(add)
    try:
        yield
    finally:
        handle.remove()


def first(output: Any) -> Tensor:
    """The hidden states of a module that may return more than them."""
    value: Tensor = output if isinstance(output, Tensor) else output[0]
    return value

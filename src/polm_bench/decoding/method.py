"""Methods that ask the model in their own way: another prompt, several answers, a second thought."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from pydantic.dataclasses import dataclass

from polm_bench.decoding.base import Decoder
from polm_bench.graph import FORBID

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from polm_bench.decoding.asking import AskingLM
    from polm_bench.models.chat import Message


class Question(NamedTuple):
    """What a task asks."""

    chat: list[Message]  # the last turn is the user's
    limit: int  # tokens of an answer at most
    until: tuple[str, ...]  # texts that end an answer, beside the end token


class Way:
    """How a method asks. This one asks plainly; a method changes one of the two."""

    def show(self, chat: list[Message]) -> list[Message]:
        """The dialogue that the model sees for one that ends with the user's turn; also where a task scores given answers."""
        return chat

    def answer(self, lm: AskingLM, questions: Sequence[Question]) -> list[str]:
        """An answer to each question; all of them have one limit and one set of stop texts."""
        return lm.likeliest([self.show(question.chat) for question in questions], questions[0])


@dataclass(frozen=True, config=FORBID)
class Method(Decoder):
    """A decoder that says how to ask. It sees every prompt of every task and decides by the prompt or by the plain answer alone whether it applies."""

    def way(self, job: Any) -> Way:
        """How it asks, with whatever it needs loaded once."""
        raise TypeError(f"{type(self).__name__} does not say how it asks")

    def lm(
        self, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, batch_size: int, seed: int, job: Any
    ) -> AskingLM:
        from polm_bench.decoding.asking import AskingLM

        return AskingLM(model, tokenizer, batch_size, seed, job.progress, self.way(job))


def said(chat: list[Message], answer: str, reply: str) -> list[Message]:
    """The dialogue gone on: what the assistant said, and what the user says to it."""
    return [*chat, {"role": "assistant", "content": answer}, {"role": "user", "content": reply}]


def reworded(chat: list[Message], content: str) -> list[Message]:
    """The dialogue with other words in its last turn."""
    return [*chat[:-1], {**chat[-1], "content": content}]


def final(pattern: str, answer: str) -> str | None:
    """What the first group of `pattern` finds last in an answer, without the commas in numbers; None where it finds nothing."""
    found = re.findall(pattern, answer)
    return found[-1].replace(",", "").strip() if found else None


def reasoned(pattern: str, answers: Sequence[str]) -> list[int]:
    """Numbers of the answers that come to a final answer: those that methods of reasoning apply to."""
    return [i for i, answer in enumerate(answers) if final(pattern, answer) is not None]

"""Several models answer, and a ranker of pairs says whose answer is given."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic.dataclasses import dataclass

from polm_bench.decoding.method import Method, Question, Way
from polm_bench.graph import FORBID, Stage

if TYPE_CHECKING:
    from polm_bench.decoding.asking import AskingLM
    from polm_bench.models.chat import Message

FIRST, SECOND = "1", "2"
"""What a ranker says of two answers."""


def compared(question: str, chat: list[Message], first: str, second: str) -> list[Message]:
    """The dialogue that asks which of two answers to a dialogue is better."""
    text = question.format(prompt=chat[-1]["content"], first=first.strip(), second=second.strip())
    return [{"role": "user", "content": text}]


@dataclass(frozen=True, config=FORBID)
class Blender(Method):
    """The greedy answer of one of several models, chosen for each question by comparing all pairs.

    Jiang et al. 2023, LLM-Blender (arXiv:2306.02561): PairRanker gives each pair (i, j) the logits s_i and s_j; the answer with the
    largest sum of s_i - s_j over all pairs, in both orders (MaxLogits), is taken. The ranker there is an encoder with two outputs; here it is a
    causal model that is asked which of two is better. GenFuser, the second step, is left out. Where a task scores given answers, only the model
    that is evaluated is asked.
    """

    version: ClassVar[int] = 2

    question: str  # with {prompt}, {first} and {second}
    others: tuple[Stage, ...] = ()  # the models beside the one that is evaluated; the recipe puts them here
    ranker: Stage | None = None

    def way(self, job: Any) -> Way:
        if self.ranker is None:
            raise TypeError("Blender was not given a ranker")
        return Blending(self.question, [job.path(other) for other in self.others], job.path(self.ranker))


class Blending(Way):
    """`Blender` at work; the models are loaded when the first question comes."""

    def __init__(self, question: str, others: Sequence[Any], ranker: Any) -> None:
        self.question, self.folders = question, [*others, ranker]
        self.models: list[AskingLM] = []

    def answer(self, lm: AskingLM, questions: Sequence[Question]) -> list[str]:
        self.models = self.models or [self._loaded(folder, lm) for folder in self.folders]
        *others, ranker = self.models
        chats = [question.chat for question in questions]
        answers = list(zip(*(one.likeliest(chats, questions[0]) for one in (lm, *others)), strict=True))
        pairs = list(itertools.permutations(range(len(others) + 1), 2))
        asked = [
            compared(self.question, chat, said[i], said[j])
            for chat, said in zip(chats, answers, strict=True)
            for i, j in pairs
        ]
        first = ranker.logprobs(asked, [FIRST] * len(asked), questions[0].limit)
        second = ranker.logprobs(asked, [SECOND] * len(asked), questions[0].limit)
        margins = iter([one[0] - two[0] for one, two in zip(first, second, strict=True)])
        for one in self.models:  # what they read and wrote is part of what an answer costs
            for name in ("read", "asked", "answered"):
                getattr(lm, name).extend(getattr(one, name))
                getattr(one, name).clear()
        return [said[best(pairs, [next(margins) for _ in pairs], len(said))] for said in answers]

    def _loaded(self, folder: Any, lm: AskingLM) -> AskingLM:
        from polm_bench.decoding.asking import AskingLM as Asking
        from polm_bench.models.load import load_model, load_tokenizer

        model = load_model(folder, device=str(lm.model.device)).to(lm.model.dtype)
        found = Asking(model, load_tokenizer(folder), int(lm.batch_size), lm.seed, lm.progress, Way())
        found.turns = lm.turns
        return found


def best(pairs: Sequence[tuple[int, int]], margins: Sequence[float], count: int) -> int:
    """Number of the answer with the largest sum of margins over the pairs it is in; the first of equals."""
    sums = [0.0] * count
    for (i, j), margin in zip(pairs, margins, strict=True):
        sums[i] += margin
        sums[j] -= margin
    return sums.index(max(sums))

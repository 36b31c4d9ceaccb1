"""Answers with passages in sight: before the question, blended over passages, or looked for again with a draft."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

from pydantic import Field, PositiveInt
from pydantic.dataclasses import dataclass

from polm_bench.decoding.method import Method, Question, Way, reworded
from polm_bench.graph import FORBID, Stage

if TYPE_CHECKING:
    from polm_bench.decoding.asking import AskingLM
    from polm_bench.decoding.dense import DenseIndex
    from polm_bench.decoding.search import Index, Passage
    from polm_bench.models.chat import Message


@dataclass(frozen=True, config=FORBID)
class Retrieve(Method):
    """Finds passages for the user's last turn. A question for which no passage scores `least` is asked plainly."""

    count: PositiveInt  # passages
    template: str  # with {passages} and {question}
    least: Annotated[float, Field(ge=0)]  # score that the best passage must reach
    index: Stage | None = None  # of words or of vectors; None: the recipe puts it here

    def opened(self, job: Any) -> Shelf:
        """The index, ready to be searched."""
        from polm_bench.decoding.search import open_index

        if self.index is None:
            raise TypeError(f"{type(self).__name__} was not given an index")
        return Shelf(open_index(job, self.index), self.count, self.template, self.least)


@dataclass(frozen=True, config=FORBID)
class Read(Retrieve):
    """The passages stand before the question (Lewis et al. 2020, arXiv:2005.11401, Section 2, with a frozen retriever and no training)."""

    def way(self, job: Any) -> Way:
        return Reading(self.opened(job))


@dataclass(frozen=True, config=FORBID)
class IterRetGen(Retrieve):
    """The question with the last answer finds the next passages (Shao et al. 2023, arXiv:2305.15294, Section 3.1).

    Where answers are given and only scored, the first passages are shown.
    """

    rounds: PositiveInt = 2  # T of the paper

    def way(self, job: Any) -> Way:
        return Iterating(self.opened(job), self.rounds)


@dataclass(frozen=True, config=FORBID)
class RePlug(Retrieve):
    """Each passage stands before the question alone; every token is the likeliest by the mean of the probabilities.

    Shi et al. 2023 (arXiv:2301.12652), Eq. 2: p(y | x) = sum over d of p(y | d, x) lambda(d, x), where lambda is the softmax of the scores (Eq. 3).
    RAG-Token (Lewis et al. 2020, Section 2.1) has the same form. Where answers are given and only scored, the best passage is shown.
    """

    version: ClassVar[int] = 2

    def way(self, job: Any) -> Way:
        return Blending(self.opened(job))


@dataclass(frozen=True, config=FORBID)
class RagSequence(Retrieve):
    """One passage for a whole answer, and the answer that is likeliest over all passages.

    Lewis et al. 2020 (arXiv:2005.11401), Section 2.1: p(y | x) = sum over z of p(z | x) p(y | x, z), and Section 2.5, thorough decoding: the answers are
    those that each passage alone brings up (greedy here, beams there), each scored with every passage; p(z | x) is the softmax of the scores.
    Where answers are given and only scored, the best passage is shown.
    """

    def way(self, job: Any) -> Way:
        return Marginalising(self.opened(job))


class Shelf:
    """An index, and how its passages are shown."""

    def __init__(self, index: Index | DenseIndex, count: int, template: str, least: float) -> None:
        self.index, self.count, self.template, self.least = index, count, template, least

    def find(self, query: str) -> list[Passage]:
        """The best passages, the best first; none where even the best scores too little, or for an empty query, as when plain text is scored."""
        found = self.index.search(query, self.count) if query.strip() else []
        return found if found and found[0].score >= self.least else []

    def shown(self, chat: list[Message], found: Sequence[Passage]) -> list[Message]:
        """The dialogue with passages before its last turn's question, the best one next to it; as it is without any."""
        if not found:
            return chat
        text = "\n".join(passage.text for passage in reversed(found))
        asked = self.template.format(passages=text, question=chat[-1]["content"])
        return reworded(chat, asked)


class Reading(Way):
    """`Read` at work."""

    def __init__(self, shelf: Shelf) -> None:
        self.shelf = shelf

    def show(self, chat: list[Message]) -> list[Message]:
        return self.shelf.shown(chat, self.shelf.find(chat[-1]["content"]))


class Iterating(Reading):
    """`IterRetGen` at work."""

    def __init__(self, shelf: Shelf, rounds: int) -> None:
        super().__init__(shelf)
        self.rounds = rounds

    def answer(self, lm: AskingLM, questions: Sequence[Question]) -> list[str]:
        found = super().answer(lm, questions)
        for _ in range(self.rounds - 1):
            queries = [f"{q.chat[-1]['content']} {text}" for q, text in zip(questions, found, strict=True)]
            asked = [
                self.shelf.shown(q.chat, self.shelf.find(query)) for q, query in zip(questions, queries, strict=True)
            ]
            found = lm.likeliest(asked, questions[0])
        return found


class OnePassage(Way):
    """Each passage stands before the question alone."""

    def __init__(self, shelf: Shelf) -> None:
        self.shelf = shelf

    def show(self, chat: list[Message]) -> list[Message]:
        return self.shelf.shown(chat, self.shelf.find(chat[-1]["content"])[:1])

    def each(self, question: Question) -> tuple[list[list[Message]], list[float]]:
        """A dialogue for each passage, and the passages' weights; the question alone where there is none."""
        found = self.shelf.find(question.chat[-1]["content"])
        if not found:
            return [question.chat], [1.0]
        return [self.shelf.shown(question.chat, [passage]) for passage in found], softmax([p.score for p in found])


class Blending(OnePassage):
    """`RePlug` at work."""

    def answer(self, lm: AskingLM, questions: Sequence[Question]) -> list[str]:
        groups = [self.each(question) for question in questions]
        return lm.blended([chats for chats, _ in groups], [weights for _, weights in groups], questions[0])


class Marginalising(OnePassage):
    """`RagSequence` at work."""

    def answer(self, lm: AskingLM, questions: Sequence[Question]) -> list[str]:
        groups = [self.each(question) for question in questions]
        flat = lm.likeliest([chat for chats, _ in groups for chat in chats], questions[0])
        texts = iter(flat)
        candidates = [list(dict.fromkeys(next(texts) for _ in chats)) for chats, _ in groups]
        asked = [
            (chat, answer)
            for (chats, _), answers in zip(groups, candidates, strict=True)
            if len(answers) > 1
            for answer in answers
            for chat in chats
        ]
        scored = iter(
            lm.logprobs([chat for chat, _ in asked], [answer for _, answer in asked], questions[0].limit)
            if asked
            else []
        )
        found = []
        for (chats, weights), answers in zip(groups, candidates, strict=True):
            if len(answers) == 1:
                found.append(answers[0])
                continue
            sums = [log_mean([next(scored)[0] for _ in chats], weights) for _ in answers]
            found.append(answers[sums.index(max(sums))])
        return found


def softmax(scores: Sequence[float]) -> list[float]:
    """Weights that add up to 1."""
    powers = [math.exp(score - max(scores)) for score in scores]
    return [power / sum(powers) for power in powers]


def log_mean(logprobs: Sequence[float], weights: Sequence[float]) -> float:
    """log of the weighted sum of exp(logprob)."""
    top = max(logprobs)
    return top + math.log(sum(weight * math.exp(value - top) for value, weight in zip(logprobs, weights, strict=True)))

"""Several drawn answers, of which one is taken: by votes, by the model's own choice, or by a reward."""

from __future__ import annotations

import math
import re
from collections import defaultdict
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from pydantic import Field
from pydantic.dataclasses import dataclass

from polm_bench.decoding.method import Method, Question, Way, final, reasoned
from polm_bench.graph import FORBID
from polm_bench.rewards import Reward, Scorer

if TYPE_CHECKING:
    from polm_bench.decoding.asking import AskingLM


@dataclass(frozen=True, config=FORBID)
class SelfConsistency(Method):
    """The final answer that most drawn answers come to (Wang et al. 2023, arXiv:2203.11171, Section 2).

    `normalized` weighs each vote with exp(log p(answer) / tokens) (the same place, Eq. 1). It applies where the plain answer comes to a final answer
    (`pattern`), as votes need something to agree on; other questions keep their plain answer. What is given back is the first drawn answer that comes
    to the winner; where two win, the one that was drawn first.
    """

    pattern: str  # its first group is the final answer
    count: Annotated[int, Field(gt=1)]
    temperature: Annotated[float, Field(gt=0)]
    top_p: float = Field(default=1.0, gt=0, le=1)
    weight: Literal["none", "normalized"] = "none"

    def way(self, job: Any) -> Way:
        return Voting(self)


@dataclass(frozen=True, config=FORBID)
class UniversalSelfConsistency(Method):
    """The drawn answer that the model itself calls the most consistent with the others (Chen et al. 2023, arXiv:2311.17311, Section 3).

    It applies to every question. Where the model names none of the numbers, the first drawn answer is taken.
    """

    count: Annotated[int, Field(gt=1)]
    temperature: Annotated[float, Field(gt=0)]
    choose: str  # with {question} and {answers}, which are numbered from 1

    def way(self, job: Any) -> Way:
        return Choosing(self)


@dataclass(frozen=True, config=FORBID)
class BestOfN(Method):
    """The drawn answer that a reward likes best (Stiennon et al. 2020, arXiv:2009.01325, Appendix; Nakano et al. 2021, arXiv:2112.09332, Section 3.2).

    It applies to every question, also to those that the reward was not made for, as the paper does.
    """

    version: ClassVar[int] = 2

    reward: Reward | None  # of the role `prompts`; None: the recipe puts a reward model here
    count: Annotated[int, Field(gt=1)]
    temperature: Annotated[float, Field(gt=0)]

    def way(self, job: Any) -> Way:
        if self.reward is None:
            raise TypeError("BestOfN was not given a reward")
        return Best(self, self.reward.scorer(job))


class Voting(Way):
    """`SelfConsistency` at work."""

    def __init__(self, method: SelfConsistency) -> None:
        self.method = method

    def answer(self, lm: AskingLM, questions: Sequence[Question]) -> list[str]:
        how, found = self.method, super().answer(lm, questions)
        rows = reasoned(how.pattern, found)
        if not rows:
            return found
        chats = [questions[i].chat for i in rows]
        drawn = lm.draws(chats, questions[0], how.count, how.temperature, how.top_p)
        weights = self.weights(lm, chats, drawn, questions[0].limit)
        for i, answers, weight in zip(rows, drawn, weights, strict=True):
            winner = voted([final(how.pattern, answer) for answer in answers], weight)
            found[i] = answers[winner] if winner is not None else found[i]
        return found

    def weights(
        self, lm: AskingLM, chats: Sequence[Any], drawn: Sequence[Sequence[str]], limit: int
    ) -> list[list[float]]:
        """Weight of each drawn answer's vote."""
        if self.method.weight == "none":
            return [[1.0] * len(answers) for answers in drawn]
        asked = [chat for chat, answers in zip(chats, drawn, strict=True) for _ in answers]
        values = iter(lm.logprobs(asked, [answer for answers in drawn for answer in answers], limit))
        return [
            [math.exp(logprob / tokens) for logprob, tokens in (next(values) for _ in answers)] for answers in drawn
        ]


class Choosing(Way):
    """`UniversalSelfConsistency` at work."""

    def __init__(self, method: UniversalSelfConsistency) -> None:
        self.method = method

    def answer(self, lm: AskingLM, questions: Sequence[Question]) -> list[str]:
        drawn = lm.draws(
            [question.chat for question in questions], questions[0], self.method.count, self.method.temperature
        )
        asked = []
        for question, answers in zip(questions, drawn, strict=True):
            listed = "\n".join(f"{number}. {answer.strip()}" for number, answer in enumerate(answers, 1))
            text = self.method.choose.format(question=question.chat[-1]["content"], answers=listed)
            asked.append([*question.chat[:-1], {"role": "user", "content": text}])
        named = lm.likeliest(asked, questions[0])
        return [answers[named_number(text, len(answers)) - 1] for text, answers in zip(named, drawn, strict=True)]


class Best(Way):
    """`BestOfN` at work."""

    def __init__(self, method: BestOfN, score: Scorer) -> None:
        self.method, self.score = method, score

    def answer(self, lm: AskingLM, questions: Sequence[Question]) -> list[str]:
        chats = [question.chat for question in questions]
        drawn = lm.draws(chats, questions[0], self.method.count, self.method.temperature)
        rows = [{"prompt": chat} for chat, answers in zip(chats, drawn, strict=True) for _ in answers]
        values = iter(self.score(rows, [answer for answers in drawn for answer in answers]))
        found = []
        for answers in drawn:
            scores = [next(values) for _ in answers]
            found.append(answers[scores.index(max(scores))])
        return found


def voted(finals: Sequence[str | None], weights: Sequence[float]) -> int | None:
    """Number of the first vote for the final answer with the most weight; None where there is no final answer at all."""
    sums: defaultdict[str, float] = defaultdict(float)
    for value, weight in zip(finals, weights, strict=True):
        if value is not None:
            sums[value] += weight
    return finals.index(max(sums, key=lambda value: sums[value])) if sums else None


def named_number(text: str, most: int) -> int:
    """The first number from 1 to `most` that the text names, else 1."""
    return next((int(number) for number in re.findall(r"\d+", text) if 1 <= int(number) <= most), 1)

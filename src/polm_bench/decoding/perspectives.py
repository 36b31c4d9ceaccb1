"""Several ways to the same question: where their answers differ, the model looks for the reason and answers again."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import Field
from pydantic.dataclasses import dataclass

from polm_bench.decoding.method import Method, Question, Way, final, reworded
from polm_bench.decoding.prompting import lines
from polm_bench.graph import FORBID

if TYPE_CHECKING:
    from polm_bench.decoding.asking import AskingLM
    from polm_bench.models.chat import Message


@dataclass(frozen=True, config=FORBID)
class SelfContrast(Method):
    """The model names ways to solve a question, goes each, contrasts the answers in pairs, makes a checklist of the differences and answers anew with it.

    Zhang et al. 2024 (arXiv:2401.02009), Section 3. Of answers that come to the same final answer (`pattern`), or say the same, one is contrasted, where
    the authors cluster embeddings. Where all agree, the first is given. It applies to every question for which the model names at least two ways.
    """

    pattern: str
    plan: str  # what asks for ways, with {question}
    most: Annotated[int, Field(gt=1)]  # ways at most
    solve: str  # with {question} and {way}
    contrast: str  # with {question}, {first} and {second}
    checklist: str  # with {question} and {differences}
    revise: str  # with {question}, {answers} and {checklist}

    def way(self, job: Any) -> Way:
        return Contrasting(self)


class Contrasting(Way):
    """`SelfContrast` at work."""

    def __init__(self, method: SelfContrast) -> None:
        self.method = method

    def answer(self, lm: AskingLM, questions: Sequence[Question]) -> list[str]:
        how, found = self.method, super().answer(lm, questions)
        planned = lm.likeliest([asked(question, how.plan) for question in questions], questions[0])
        ways = {i: named for i, text in enumerate(planned) if len(named := lines(text, how.most)) > 1}
        solved = self._solved(lm, questions, ways)
        found = [self._kept(solved[i])[0] if i in solved else text for i, text in enumerate(found)]
        differ = {i: kept for i, answers in solved.items() if len(kept := self._kept(answers)) > 1}
        if not differ:
            return found
        differences = self._differences(lm, questions, differ)
        lists = lm.likeliest(
            [asked(questions[i], how.checklist, differences="\n".join(differences[i])) for i in differ], questions[0]
        )
        again = [
            asked(questions[i], how.revise, answers="\n".join(answers), checklist=checklist)
            for (i, answers), checklist in zip(differ.items(), lists, strict=True)
        ]
        for i, text in zip(differ, lm.likeliest(again, questions[0]), strict=True):
            found[i] = text
        return found

    def _solved(self, lm: AskingLM, questions: Sequence[Question], ways: dict[int, list[str]]) -> dict[int, list[str]]:
        """An answer by each way."""
        pairs = [(i, way) for i, named in ways.items() for way in named]
        if not pairs:
            return {}
        texts = lm.likeliest([asked(questions[i], self.method.solve, way=way) for i, way in pairs], questions[0])
        solved: dict[int, list[str]] = {i: [] for i in ways}
        for (i, _), text in zip(pairs, texts, strict=True):
            solved[i].append(text.strip())
        return solved

    def _kept(self, answers: Sequence[str]) -> list[str]:
        """The first of those that come to the same."""
        first: dict[str, str] = {}
        for text in answers:
            first.setdefault(final(self.method.pattern, text) or text, text)
        return list(first.values())

    def _differences(
        self, lm: AskingLM, questions: Sequence[Question], differ: dict[int, list[str]]
    ) -> dict[int, list[str]]:
        """What the model says of each pair of different answers."""
        pairs = [(i, *pair) for i, answers in differ.items() for pair in itertools.combinations(answers, 2)]
        chats = [asked(questions[i], self.method.contrast, first=one, second=other) for i, one, other in pairs]
        told: dict[int, list[str]] = {i: [] for i in differ}
        for (i, _, _), text in zip(pairs, lm.likeliest(chats, questions[0]), strict=True):
            told[i].append(text.strip())
        return told


def asked(question: Question, template: str, **told: str) -> list[Message]:
    """The dialogue with its last turn in a template."""
    return reworded(question.chat, template.format(question=question.chat[-1]["content"], **told))

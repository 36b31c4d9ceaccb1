"""Tests that a question states: an answer that fails one is asked for again."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from pydantic import PositiveInt
from pydantic.dataclasses import dataclass

from polm_bench.data.nano import instructions
from polm_bench.decoding.method import Method, Question, Way, said
from polm_bench.graph import FORBID

if TYPE_CHECKING:
    from polm_bench.decoding.asking import AskingLM


@dataclass(frozen=True, config=FORBID)
class SelfDebug(Method):
    """An answer that fails a test is told so and written anew, until it passes or the turns are used up.

    Chen et al. 2024 (arXiv:2304.05128), unit test feedback: the tests come with the problem, and all attempts stay in the dialogue. Here a test is
    what the question itself asks for in words that a program understands (so many words, capital letters); nothing but the question is read for it.
    Questions that state none keep their plain answer.
    """

    feedback: str  # what the user says of an answer, with {failed} and {question}
    turns: PositiveInt  # attempts after the first

    def way(self, job: Any) -> Way:
        return Debugging(self)


class Debugging(Way):
    """`SelfDebug` at work."""

    def __init__(self, method: SelfDebug) -> None:
        self.method = method

    def answer(self, lm: AskingLM, questions: Sequence[Question]) -> list[str]:
        found = super().answer(lm, questions)
        chats = [question.chat for question in questions]
        tests = [instructions.stated(chat[-1]["content"]) for chat in chats]
        for _ in range(self.method.turns):
            failed = {i: left for i, test in enumerate(tests) if (left := instructions.failed(found[i].strip(), test))}
            if not failed:
                break
            for i, left in failed.items():
                told = ", ".join(f"{name} {asked}" for name, asked in left.items())
                told = self.method.feedback.format(failed=told, question=questions[i].chat[-1]["content"])
                chats[i] = said(chats[i], found[i].strip(), told)
            for i, text in zip(failed, lm.likeliest([chats[i] for i in failed], questions[0]), strict=True):
                found[i] = text
        return found

"""Second thoughts: the model, or a tool, finds fault with an answer, and the model answers again."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, NamedTuple

from pydantic import Field, PositiveInt
from pydantic.dataclasses import dataclass

from polm_bench.decoding.method import Method, Question, Way, reworded, said
from polm_bench.decoding.prompting import lines
from polm_bench.graph import FORBID

if TYPE_CHECKING:
    from polm_bench.decoding.asking import AskingLM

EQUATION = re.compile(r"(?<!\d)(?<!\d[.,])(-?\d+)\s*([-+*/])\s*(\d+)\s*=\s*(-?\d+)(?!\d|[.,]\d)")
"""An equation of two whole numbers; not a part of a decimal number or of one with commas."""


@dataclass(frozen=True, config=FORBID)
class Refine(Method):
    """The model finds fault with its answer and answers again, round after round, by two requests of one dialogue.

    Self-Refine (Madaan et al. 2023, arXiv:2303.17651, Algorithm 1) keeps all answers and faults in the dialogue and ends where the faults say `enough`.
    RCI (Kim et al. 2023, arXiv:2303.17491, Section 2.1) sees the last answer alone and always goes through its rounds. Both apply to every question.
    """

    feedback: str  # what asks for faults
    refine: str  # what asks for a better answer
    rounds: PositiveInt
    history: bool  # earlier answers and faults stay in the dialogue
    enough: str | None = None  # pattern that ends it where the faults match

    def way(self, job: Any) -> Way:
        return Refining(self)


@dataclass(frozen=True, config=FORBID)
class ToolCritic(Method):
    """A calculator checks each equation of an answer; from the first wrong one on the model writes anew, after the calculator's result.

    CRITIC (Gou et al. 2024, arXiv:2305.11738, Algorithm 1): verify with a tool, correct by what the tool says, until it finds no fault. There the
    critique is text in the prompt; here the corrected line is the start of the new answer. Answers without equations stay as they are.
    """

    version: ClassVar[int] = 2

    rounds: PositiveInt

    def way(self, job: Any) -> Way:
        return Checking(self)


@dataclass(frozen=True, config=FORBID)
class Reflexion(Method):
    """After a failed attempt the model writes down what went wrong, and tries again with its notes before it.

    Shinn et al. 2023 (arXiv:2303.11366, Algorithm 1). The evaluator there knows the right answer or runs tests; here a calculator calls an attempt
    failed where one of its equations is wrong. Answers without equations count as good.
    """

    version: ClassVar[int] = 2

    reflect: str  # what asks for the note
    remember: str  # how notes stand before the question, with {notes} and {question}
    trials: Annotated[int, Field(gt=1)]  # attempts, with the first
    memory: PositiveInt  # notes kept

    def way(self, job: Any) -> Way:
        return Reflecting(self)


@dataclass(frozen=True, config=FORBID)
class ChainOfVerification(Method):
    """A draft, questions that would check it, their answers without the draft in sight, and an answer that has seen them.

    Dhuliawala et al. 2023 (arXiv:2309.11495, Section 3, the factored form). It applies to every question for which the model writes at least one line of
    questions.
    """

    plan: str  # what asks for questions
    most: PositiveInt  # questions at most
    revise: str  # with {question}, {draft} and {checks}

    def way(self, job: Any) -> Way:
        return Verifying(self)


@dataclass(frozen=True, config=FORBID)
class Chained(Method):
    """The model writes an answer, feedback and revisions in one go, as it was trained to; its last revision that has feedback is given.

    SelFee (Ye et al. 2023, kaistAI/SelFee, README, autonomous inference mode; inference/inference.py, `parse`). It applies to every question; an answer
    without feedback is given as it is.
    """

    feedback: str  # what stands after each answer, with {points}
    revision: str  # what stands before each revision
    revisions: PositiveInt  # for so many there is room; each may be as long as an answer

    def way(self, job: Any) -> Way:
        return Chaining(self)

    def last(self, chain: str) -> str:
        """The last whole answer of a chain."""
        feedback = self.feedback.split("{")[0]
        first, *later = chain.split(self.revision)
        whole = [text.split(feedback)[0] for text in later if feedback in text]
        return whole[-1] if whole else first.split(feedback)[0]


class Refining(Way):
    """`Refine` at work."""

    def __init__(self, method: Refine) -> None:
        self.method = method

    def answer(self, lm: AskingLM, questions: Sequence[Question]) -> list[str]:
        how, found = self.method, super().answer(lm, questions)
        chats = [question.chat for question in questions]
        open_ = list(range(len(questions)))
        for _ in range(how.rounds):
            asked = [said(chats[i], found[i], how.feedback) for i in open_]
            faults = lm.likeliest(asked, questions[0])
            kept = [n for n, text in enumerate(faults) if how.enough is None or not re.search(how.enough, text)]
            if not kept:
                break
            again = [said(asked[n], faults[n], how.refine) for n in kept]
            open_ = [open_[n] for n in kept]
            for i, dialogue, text in zip(open_, again, lm.likeliest(again, questions[0]), strict=True):
                found[i] = text
                if how.history:
                    chats[i] = dialogue
        return found


class Checking(Way):
    """`ToolCritic` at work."""

    def __init__(self, method: ToolCritic) -> None:
        self.method = method

    def answer(self, lm: AskingLM, questions: Sequence[Question]) -> list[str]:
        found = super().answer(lm, questions)
        for _ in range(self.method.rounds):
            wrong = {i: fault for i, text in enumerate(found) if (fault := first_fault(text)) is not None}
            if not wrong:
                break
            begun = [found[i][: fault.start] + fault.corrected for i, fault in wrong.items()]
            ends = lm.likeliest([questions[i].chat for i in wrong], questions[0], begun)
            for i, start, end in zip(wrong, begun, ends, strict=True):
                found[i] = start + end
        return found


class Reflecting(Way):
    """`Reflexion` at work."""

    def __init__(self, method: Reflexion) -> None:
        self.method = method

    def answer(self, lm: AskingLM, questions: Sequence[Question]) -> list[str]:
        how, found = self.method, super().answer(lm, questions)
        notes: dict[int, list[str]] = {i: [] for i in range(len(questions))}
        for _ in range(how.trials - 1):
            failed = [i for i, text in enumerate(found) if first_fault(text) is not None]
            if not failed:
                break
            written = lm.likeliest([said(questions[i].chat, found[i], how.reflect) for i in failed], questions[0])
            retries = []
            for i, note in zip(failed, written, strict=True):
                notes[i] = [*notes[i], note.strip()][-how.memory :]
                chat = questions[i].chat
                text = how.remember.format(notes="\n".join(notes[i]), question=chat[-1]["content"])
                retries.append(reworded(chat, text))
            for i, text in zip(failed, lm.likeliest(retries, questions[0]), strict=True):
                found[i] = text
        return found


class Chaining(Way):
    """`Chained` at work."""

    def __init__(self, method: Chained) -> None:
        self.method = method

    def answer(self, lm: AskingLM, questions: Sequence[Question]) -> list[str]:
        like = questions[0]
        chain = min(like.limit * (1 + self.method.revisions), lm.max_length // 2)  # the question must be in sight
        room = like._replace(limit=max(like.limit, chain))
        return [self.method.last(text) for text in lm.likeliest([question.chat for question in questions], room)]


class Verifying(Way):
    """`ChainOfVerification` at work."""

    def __init__(self, method: ChainOfVerification) -> None:
        self.method = method

    def answer(self, lm: AskingLM, questions: Sequence[Question]) -> list[str]:
        how, found = self.method, super().answer(lm, questions)
        planned = lm.likeliest(
            [said(q.chat, text, how.plan) for q, text in zip(questions, found, strict=True)], questions[0]
        )
        checks = [(i, line) for i, text in enumerate(planned) for line in lines(text, how.most)]
        if not checks:
            return found
        told = lm.likeliest([[{"role": "user", "content": line}] for _, line in checks], questions[0])
        seen: dict[int, list[str]] = {}
        for (i, line), text in zip(checks, told, strict=True):
            seen.setdefault(i, []).append(f"{line} {text.strip()}")
        asked = []
        for i, pairs in seen.items():
            chat = questions[i].chat
            text = how.revise.format(question=chat[-1]["content"], draft=found[i].strip(), checks="\n".join(pairs))
            asked.append(reworded(chat, text))
        for i, text in zip(seen, lm.likeliest(asked, questions[0]), strict=True):
            found[i] = text
        return found


class Fault(NamedTuple):
    """A wrong equation: where it stands, and how it should read."""

    start: int
    corrected: str


def first_fault(answer: str) -> Fault | None:
    """The first equation of two whole numbers that does not hold; a division must come out even, and the end of a longer sum is none."""
    for found in EQUATION.finditer(answer):
        before = answer[: found.start()].rstrip()[-1:]
        if before in ("+", "-", "*", "/") or (found[1].startswith("-") and before.isdigit()):
            continue
        left, sign, right, said_result = found.groups()
        a, b = int(left), int(right)
        if sign == "/" and (b == 0 or a % b):
            continue
        result = {"+": a + b, "-": a - b, "*": a * b, "/": a // b if b else 0}[sign]
        if result != int(said_result):
            return Fault(found.start(), f"{left}{sign}{right}={result}")
    return None

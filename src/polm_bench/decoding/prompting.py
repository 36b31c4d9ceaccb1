"""Other prompts: answered examples before the question, worked steps, and words that call for steps."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from pydantic import PositiveInt
from pydantic.dataclasses import dataclass

from polm_bench.data.roles import Row
from polm_bench.data.source import Rows
from polm_bench.decoding.method import Method, Question, Way, final, reasoned, reworded
from polm_bench.graph import FORBID

if TYPE_CHECKING:
    from polm_bench.decoding.asking import AskingLM
    from polm_bench.models.chat import Message


@dataclass(frozen=True, config=FORBID)
class FewShot(Method):
    """Answered examples before every question, as turns of the dialogue (Brown et al. 2020, arXiv:2005.14165, Section 2: few-shot).

    The examples are drawn from the training rows once and are the same for all questions; the paper draws them from the task's own training set,
    which nobody here knows.
    """

    examples: Rows | None  # role `sft`; None: the recipe puts them here
    shots: PositiveInt
    seed: int = 0

    def way(self, job: Any) -> Way:
        rows = rows_of(self.examples, job)
        return Shown(turns(random.Random(self.seed).sample(rows, min(self.shots, len(rows)))))


@dataclass(frozen=True, config=FORBID)
class ChainOfThought(Method):
    """Examples with worked steps before every question that calls for steps (Wei et al. 2022, arXiv:2201.11903, Section 2).

    A question calls for steps where the plain answer comes to a final answer (`pattern`); every other question keeps its plain answer. Examples
    are training rows whose answer has text before its final answer.
    """

    examples: Rows | None  # role `sft`; None: the recipe puts them here
    shots: PositiveInt
    pattern: str  # its first group is the final answer
    seed: int = 0

    def way(self, job: Any) -> Way:
        rows = [row for row in rows_of(self.examples, job) if worked(row["completion"], self.pattern)]
        before = turns(random.Random(self.seed).sample(rows, min(self.shots, len(rows))))
        return Steps(self.pattern, lambda chat: [*before, *chat])


@dataclass(frozen=True, config=FORBID)
class ZeroShotCoT(Method):
    """Steps without examples: the answer starts with `think`, and a second request takes the final answer from it with `therefore`.

    Kojima et al. 2022 (arXiv:2205.11916), Figure 2. It applies where the plain answer comes to a final answer; other questions keep their plain
    answer. What the model has written up to its own final answer is kept, so the second request only follows where it wrote none.
    """

    think: str
    therefore: str
    pattern: str

    def way(self, job: Any) -> Way:
        return Thinking(self)


@dataclass(frozen=True, config=FORBID)
class LeastToMost(Method):
    """The question is split into simpler ones first, which are answered one after another (Zhou et al. 2023, arXiv:2205.10625, Section 2).

    It applies where the plain answer comes to a final answer. The parts are the lines that the model writes after `split`; the question itself is
    asked last, with all parts and their answers before it.
    """

    split: str  # what asks for the parts
    parts: PositiveInt  # at most
    pattern: str

    def way(self, job: Any) -> Way:
        return Parts(self)


class Shown(Way):
    """Turns before every dialogue."""

    def __init__(self, before: list[Message]) -> None:
        self.before = before

    def show(self, chat: list[Message]) -> list[Message]:
        return [*self.before, *chat]


class Steps(Way):
    """Questions with a final answer are asked again with something before them."""

    def __init__(self, pattern: str, ask: Any) -> None:
        self.pattern, self.ask = pattern, ask

    def answer(self, lm: AskingLM, questions: Sequence[Question]) -> list[str]:
        found = super().answer(lm, questions)
        rows = reasoned(self.pattern, found)
        again = lm.likeliest([self.ask(questions[i].chat) for i in rows], questions[0]) if rows else []
        for i, answer in zip(rows, again, strict=True):
            found[i] = answer
        return found


class Thinking(Way):
    """`ZeroShotCoT` at work."""

    def __init__(self, method: ZeroShotCoT) -> None:
        self.method = method

    def answer(self, lm: AskingLM, questions: Sequence[Question]) -> list[str]:
        found = super().answer(lm, questions)
        rows = reasoned(self.method.pattern, found)
        if not rows:
            return found
        chats = [questions[i].chat for i in rows]
        thoughts = [
            self.method.think + text for text in lm.likeliest(chats, questions[0], [self.method.think] * len(rows))
        ]
        open_ = [n for n, text in enumerate(thoughts) if final(self.method.pattern, text) is None]
        begun = [f"{thoughts[n]} {self.method.therefore}" for n in open_]
        ends = lm.likeliest([chats[n] for n in open_], questions[0], begun) if open_ else []
        for n, start, end in zip(open_, begun, ends, strict=True):
            thoughts[n] = start + end
        for i, text in zip(rows, thoughts, strict=True):
            found[i] = text
        return found


class Parts(Way):
    """`LeastToMost` at work."""

    def __init__(self, method: LeastToMost) -> None:
        self.method = method

    def answer(self, lm: AskingLM, questions: Sequence[Question]) -> list[str]:
        found = super().answer(lm, questions)
        rows = reasoned(self.method.pattern, found)
        if not rows:
            return found
        asked = [with_text(questions[i].chat, self.method.split) for i in rows]
        parts = [lines(text, self.method.parts) for text in lm.likeliest(asked, questions[0])]
        chats = [questions[i].chat for i in rows]
        done: list[list[Message]] = [[] for _ in rows]
        for number in range(self.method.parts):
            open_ = [n for n in range(len(rows)) if number < len(parts[n])]
            if not open_:
                break
            told = [[*done[n], with_text(chats[n], parts[n][number])[-1]] for n in open_]
            for n, dialogue, text in zip(open_, told, lm.likeliest(told, questions[0]), strict=True):
                done[n] = [*dialogue, {"role": "assistant", "content": text}]
        last = lm.likeliest([[*done[n], *chats[n]] for n in range(len(rows))], questions[0])
        for i, text in zip(rows, last, strict=True):
            found[i] = text
        return found


def rows_of(examples: Rows | None, job: Any) -> list[Row]:
    """Rows for training. Raises TypeError where the recipe has put none into the method."""
    if examples is None:
        raise TypeError("a method that shows examples was not given any")
    return examples.read(job, "train")


def turns(rows: Sequence[Row]) -> list[Message]:
    """Rows of the role `sft` as turns of one dialogue."""
    return [turn for row in rows for turn in (*row["prompt"], {"role": "assistant", "content": row["completion"]})]


def worked(answer: str, pattern: str) -> bool:
    """Whether there is text before the final answer and its mark."""
    import re

    found = re.search(pattern, answer)
    return found is not None and bool(answer[: found.start()].strip())


def with_text(chat: list[Message], text: str) -> list[Message]:
    """The dialogue with a text added to its last turn."""
    return reworded(chat, f"{chat[-1]['content']}\n{text}")


def lines(text: str, most: int) -> list[str]:
    """The first `most` lines that have content."""
    return [line.strip() for line in text.splitlines() if line.strip()][:most]

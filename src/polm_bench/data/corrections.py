"""Rows that teach a model to better an answer, made of pairs and of rankings."""

from __future__ import annotations

import math
from typing import Any

from pydantic.dataclasses import dataclass

from polm_bench.data.derived import Judgements, mark
from polm_bench.data.roles import Row
from polm_bench.data.source import Rows, Split
from polm_bench.graph import FORBID


@dataclass(frozen=True, config=FORBID)
class Corrections(Rows):
    """A rejected answer with its prompt as the question, and the chosen one as the answer.

    Ji et al. 2024 (Aligner, arXiv:2402.02416), Section 2: triples of query, answer and correction.
    """

    pairs: Rows  # role preference
    question: str  # with {prompt} and {answer}

    def load(self, split: Split) -> list[Row]:
        return [_row(self.question, row, row["rejected"], row["chosen"]) for row in self.pairs.load(split)]


@dataclass(frozen=True, config=FORBID)
class Unchanged(Rows):
    """An answer with its prompt as the question, and itself as the answer: a corrector learns first to let an answer be (the same, Section 2)."""

    answered: Rows  # role sft
    question: str

    def load(self, split: Split) -> list[Row]:
        return [_row(self.question, row, row["completion"], row["completion"]) for row in self.answered.load(split)]


@dataclass(frozen=True, config=FORBID)
class Revisions(Rows):
    """A worse response of a ranking with its points as a critique, and the best response as the revision; points as in `Judgements`."""

    judged: Judgements
    question: str  # with {prompt}, {answer} and {critique}

    def load(self, split: Split) -> list[Row]:
        rows = self.judged.ranking.load(split)
        marks = iter(self.judged.load(split))
        found: list[Row] = []
        for row in rows:
            best = max(range(len(row["scores"])), key=lambda number: row["scores"][number])
            for number, answer in enumerate(row["responses"]):
                critique = next(marks)["completion"]
                if number != best:
                    found.append(_row(self.question, row, answer, row["responses"][best], critique=critique))
        return found


@dataclass(frozen=True, config=FORBID)
class Chains(Rows):
    """The responses of a ranking as one answer: each that is better than those before it, with its points as feedback; points as in `Judgements`.

    Ye et al. 2023 (SelFee, kaistAI/SelFee, README, Training): the answer and the chain of feedback and revisions are the target. Their feedback
    says in words whether a revision is needed; a chain ends with the best response there is.
    """

    ranking: Rows
    feedback: str  # after each answer, with {points}
    revision: str  # before each better one
    points: int  # the highest mark

    def load(self, split: Split) -> list[Row]:
        rows = self.ranking.load(split)
        scores = sorted(value for row in rows for value in row["scores"])
        return [{"prompt": row["prompt"], "completion": self._chain(row, scores)} for row in rows]

    def _chain(self, row: Row, scores: list[float]) -> str:
        best, said = -math.inf, []
        for answer, value in zip(row["responses"], row["scores"], strict=True):
            if value > best:
                said.append(answer + self.feedback.format(points=mark(value, scores, self.points)))
                best = value
        return self.revision.join(said)


def request(question: str, row: Row, answer: str, **more: str) -> list[dict[str, str]]:
    """The chat that asks for a better answer than this one."""
    content = question.format(prompt=row["prompt"][-1]["content"], answer=answer, **more)
    return [{"role": "user", "content": content}]


def _row(question: str, row: Row, answer: str, better: str, **more: Any) -> Row:
    return {"prompt": request(question, row, answer, **more), "completion": better}

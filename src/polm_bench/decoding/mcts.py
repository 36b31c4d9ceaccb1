"""A tree of answers, each a better one of its parent: where to go on is decided by marks that the model gives itself."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import Field, NonNegativeFloat, PositiveFloat, PositiveInt
from pydantic.dataclasses import dataclass

from polm_bench.decoding.method import Method, Question, Way, reasoned, said
from polm_bench.graph import FORBID

if TYPE_CHECKING:
    from polm_bench.decoding.asking import AskingLM
    from polm_bench.models.chat import Message

NUMBER = re.compile(r"-?\d+(?:\.\d+)?")
LEAST, MOST = -100.0, 100.0
"""The scale of marks that the paper asks for."""


@dataclass(frozen=True, config=FORBID)
class MctSelfRefine(Method):
    """Monte Carlo tree search over answers that the model finds fault with, betters and marks.

    Zhang et al. 2024, MCTSr (arXiv:2406.07394), Section 3; trotsky1997/MathBlackBox, run_with_earlystopping.py. A node's value from its marks R is
    Q = (min R + mean R) / 2, going up Q' = (Q + max over children of Q') / 2, and the node with the largest Q' + c sqrt(ln(N(parent) + 1) / N) gets a child.
    A mark of at least `full` counts as `suppressed`; one without a number as 0, where the authors ask again. The answer with the largest Q is given; theirs
    counts as right where any answer of the tree is, and stops there. It applies where the plain answer comes to a final answer (`pattern`).
    """

    pattern: str
    critique: str  # what asks for faults
    refine: str  # what asks for a better answer
    judge: str  # what asks for a mark, with {question} and {answer}
    dummy: str  # a second root, so that there is something worse than the first answer
    rollouts: PositiveInt
    temperature: PositiveFloat  # of all requests but the first
    exploration: NonNegativeFloat  # c
    children: PositiveInt  # a node with so many, one of them as good as itself, gets no more
    full: Annotated[float, Field(ge=LEAST, le=MOST)]
    suppressed: Annotated[float, Field(ge=LEAST, le=MOST)]

    def way(self, job: Any) -> Way:
        return Searching(self)

    def mark(self, text: str) -> float:
        """The last number of a judgement."""
        found = NUMBER.findall(text)
        given = min(max(float(found[-1]), LEAST), MOST) if found else 0.0
        return self.suppressed if given >= self.full else given


class Node:
    """An answer, the marks it got, and where it stands in the tree."""

    def __init__(self, answer: str, parent: Node | None = None) -> None:
        self.answer, self.parent = answer, parent
        self.children: list[Node] = []
        self.marks: list[float] = []

    @property
    def own(self) -> float:
        """Q."""
        return (min(self.marks) + sum(self.marks) / len(self.marks)) / 2

    @property
    def value(self) -> float:
        """Q'."""
        return (self.own + max(child.value for child in self.children)) / 2 if self.children else self.own

    def bound(self, exploration: float) -> float:
        """How promising it is to go on from here."""
        visits = len(self.parent.marks) if self.parent else 0
        return self.value + exploration * math.sqrt(math.log(visits + 1) / (len(self.marks) + 1e-5))

    def grown(self, most: int) -> bool:
        return len(self.children) >= most and max(child.own for child in self.children) >= self.own


class Searching(Way):
    """`MctSelfRefine` at work; the trees of all questions grow together."""

    def __init__(self, method: MctSelfRefine) -> None:
        self.method = method

    def answer(self, lm: AskingLM, questions: Sequence[Question]) -> list[str]:
        how, found = self.method, super().answer(lm, questions)
        rows = reasoned(how.pattern, found)
        if not rows:
            return found
        asked = [questions[i] for i in rows]
        trees = [[Node(found[i]), Node(how.dummy)] for i in rows]
        for root in (0, 1):
            self._mark(lm, asked, [tree[root] for tree in trees])
        for _ in range(how.rollouts):
            chosen = [promising(tree, how) for tree in trees]
            self._mark(lm, asked, chosen)
            faults = [said(q.chat, node.answer, how.critique) for q, node in zip(asked, chosen, strict=True)]
            told = self._drawn(lm, faults, asked[0])
            better = [said(chat, fault, how.refine) for chat, fault in zip(faults, told, strict=True)]
            for tree, parent, text in zip(trees, chosen, self._drawn(lm, better, asked[0]), strict=True):
                tree.append(Node(text, parent))
                parent.children.append(tree[-1])
            self._mark(lm, asked, [tree[-1] for tree in trees])
        for i, tree in zip(rows, trees, strict=True):
            found[i] = max(tree, key=lambda node: node.own).answer
        return found

    def _mark(self, lm: AskingLM, questions: Sequence[Question], nodes: Sequence[Node]) -> None:
        chats: list[list[Message]] = [
            [{"role": "user", "content": self.method.judge.format(question=q.chat[-1]["content"], answer=node.answer)}]
            for q, node in zip(questions, nodes, strict=True)
        ]
        for node, text in zip(nodes, self._drawn(lm, chats, questions[0]), strict=True):
            node.marks.append(self.method.mark(text))

    def _drawn(self, lm: AskingLM, chats: list[list[Message]], like: Question) -> list[str]:
        return [texts[0] for texts in lm.draws(chats, like, 1, self.method.temperature)]


def promising(tree: Sequence[Node], how: MctSelfRefine) -> Node:
    """The node that gets a child; of equal ones the oldest."""
    open_ = [node for node in tree if not node.grown(how.children)]
    return max(open_, key=lambda node: node.bound(how.exploration))

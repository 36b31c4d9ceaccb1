"""Answers that a program can check."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from pydantic.dataclasses import dataclass

from polm_bench.data.nano import arithmetic, instructions
from polm_bench.errors import BadData
from polm_bench.graph import FORBID
from polm_bench.rewards.base import Reward, Scorer


def check(row: Mapping[str, Any], answer: str) -> float:
    """1.0 where `answer` passes the checker that a row of the role `verifiable` names, else 0.0.

    Raises BadData for a checker that does not exist.
    """
    match row["checker"]:
        case "number":
            found = arithmetic.number(answer)
            return float(found is not None and found == float(row["answer"]))
        case "exact":
            return float(" ".join(answer.split()) == " ".join(row["answer"].split()))
        case "instruction":
            return float(instructions.follows(answer.strip(), row["spec"]))
        case other:
            raise BadData(f"there is no checker '{other}'; there are: number, exact, instruction")


@dataclass(frozen=True, config=FORBID)
class Checked(Reward):
    """1 for an answer that passes its row's checker, else 0 (Lambert et al. 2024, arXiv:2411.15124, Section 6: verifiable rewards)."""

    partial: float = 0.0  # for an answer that gives a number, but a wrong one, where a number is asked
    role: ClassVar[str] = "verifiable"

    def scorer(self, job: Any) -> Scorer:
        def one(row: Mapping[str, Any], answer: str) -> float:
            passed = check(row, answer)
            if not passed and self.partial and row["checker"] == "number" and arithmetic.number(answer) is not None:
                return self.partial
            return passed

        def score(rows: Sequence[Mapping[str, Any]], answers: Sequence[str]) -> list[float]:
            return [one(row, answer) for row, answer in zip(rows, answers, strict=True)]

        return score

"""Rows that are made while a graph runs: by a stage, out of other rows, or by putting sources together."""

from __future__ import annotations

import json
from bisect import bisect_left
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from pydantic.dataclasses import dataclass

from polm_bench.data.roles import Row
from polm_bench.data.source import Rows, Split
from polm_bench.errors import BadData
from polm_bench.graph import FORBID, Stage
from polm_bench.models.chat import Message

ROWS = "rows.jsonl"


@dataclass(frozen=True, config=FORBID)
class DerivedRows(Rows):
    """Rows of a role that a stage writes to `rows.jsonl`, one JSON object a line; the stage is an input of whoever reads them."""

    stage: Stage

    def load(self, split: Split) -> list[Row]:
        raise BadData(f"rows of the stage {self.stage.folder} are known only while the graph runs")

    def read(self, job: Any, split: Split) -> list[Row]:
        """The stage's rows for training; it makes none for validation."""
        if split != "train":
            raise BadData(f"the stage {self.stage.folder} makes rows for training only, not for the split '{split}'")
        return read_rows(job.path(self.stage) / ROWS)


@dataclass(frozen=True, config=FORBID)
class JoinedRows(Rows):
    """Rows of several sources one after another, all of them of one role."""

    parts: tuple[Rows, ...]

    def load(self, split: Split) -> list[Row]:
        return [row for part in self.parts for row in part.load(split)]

    def read(self, job: Any, split: Split) -> list[Row]:
        return [row for part in self.parts for row in part.read(job, split)]


@dataclass(frozen=True, config=FORBID)
class Judgements(Rows):
    """Questions how good a response is, with the number of points as the answer, made of the role `ranking`.

    Points from 0 to `points` follow the rank of a response's score among all of the split, in groups of one size.
    """

    ranking: Rows
    question: str  # with {prompt} and {answer}
    points: int

    def load(self, split: Split) -> list[Row]:
        rows = self.ranking.load(split)
        scores = sorted(value for row in rows for value in row["scores"])
        return [
            {"prompt": judgement(row, answer, self.question), "completion": str(mark(value, scores, self.points))}
            for row in rows
            for answer, value in zip(row["responses"], row["scores"], strict=True)
        ]


def mark(value: float, scores: list[float], points: int) -> int:
    """Points from 0 to `points` for a score by its rank among all, which are sorted."""
    return min(points, bisect_left(scores, value) * (points + 1) // len(scores))


def judgement(row: Mapping[str, Any], answer: str, question: str) -> list[Message]:
    """The chat that asks how good an answer to the row's prompt is."""
    content = question.format(prompt=row["prompt"][-1]["content"], answer=answer)
    return [{"role": "user", "content": content}]


def read_rows(path: Path) -> list[Row]:
    """Objects of a file of JSON lines."""
    with path.open(encoding="utf-8") as lines:
        return [json.loads(line) for line in lines]


def write_rows(path: Path, rows: Iterable[Row]) -> None:
    """One JSON object a line."""
    with path.open("w", encoding="utf-8") as out:
        out.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)

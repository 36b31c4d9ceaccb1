"""A gold reward of sentiment that needs no model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pydantic.dataclasses import dataclass

from polm_bench.data.nano import sentiment
from polm_bench.graph import FORBID
from polm_bench.rewards.base import Reward, Scorer


@dataclass(frozen=True, config=FORBID)
class Lexicon(Reward):
    """VADER's compound score of the answer, from -1 to 1 (Hutto and Gilbert 2014): the reward that nano's and reviews' preferences follow."""

    def scorer(self, job: Any) -> Scorer:
        def score(rows: Sequence[Mapping[str, Any]], answers: Sequence[str]) -> list[float]:
            return [sentiment.reward(answer.strip()) for answer in answers]

        return score

"""How answers are gathered for a policy to learn from, as part of a training stage's identity."""

from __future__ import annotations

from pydantic import Field, NonNegativeFloat, PositiveFloat, PositiveInt
from pydantic.dataclasses import dataclass

from polm_bench.graph import FORBID


@dataclass(frozen=True, config=FORBID)
class Rollouts:
    """Rounds of sampling and learning; a round's answers are `steps` optimiser batches of the budget's size."""

    group: PositiveInt  # answers to one prompt
    steps: PositiveInt  # optimiser batches sampled at once, from the same weights
    epochs: PositiveInt  # passes over a round's answers
    temperature: PositiveFloat  # of sampling, and of the log-probs that are learnt
    penalty: NonNegativeFloat  # reward charged per nat of k1 towards the reference, at each token
    unended: float | None = (
        None  # score of an answer that reaches the limit without an end token; null: the reward's own
    )
    overlong: float = Field(default=0.0, ge=0, le=1)
    """Last share of an answer's room in which its score falls linearly by up to 1 (DAPO, arXiv:2503.14476, Eq. 13); 0: nowhere."""
    draws: int = Field(default=1, ge=1)
    """Samplings at most to fill a round with groups whose rewards differ (DAPO, Eq. 11); 1: the groups that come, alike or not."""

    @property
    def version(self) -> int:
        """Of what is computed: 2 where a round has several batches, as its last one has only those that the budget pays for."""
        return 1 if self.steps == 1 else 2

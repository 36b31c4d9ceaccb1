"""What a method may spend: an amount of one unit, and the batch and length that all methods share."""

from __future__ import annotations

from typing import Literal

from pydantic import Field
from pydantic.dataclasses import dataclass

from polm_bench.graph import FORBID

Unit = Literal["steps", "tokens", "flops", "seconds"]


@dataclass(frozen=True, config=FORBID)
class Budget:
    """One amount of one unit, spent by a recipe's training stages together.

    `tokens` are those that pass through the trained model forwards and backwards (prompt and completion, without padding), plus those it generates.
    """

    name: str
    unit: Unit
    amount: float = Field(gt=0)
    batch: int = Field(gt=0)  # rows (SFT) or pairs (preference) in one optimiser step, over all devices
    max_length: int = Field(gt=0)  # tokens; prompt and completion together
    sft_share: float = Field(default=0.5, ge=0, lt=1)  # part spent on the SFT that a recipe starts from
    trials: int = Field(default=1, ge=1)  # tuning trials; 1 is untuned
    rows: int | None = Field(default=None, gt=0)  # of each data role, at most so many, evenly spaced; null: all of them

    def part(self, share: float) -> Spend:
        """`share` (0 to 1] of the amount, as the identity of one training stage."""
        return Spend(self.unit, self.amount * share, self.batch, self.max_length)


@dataclass(frozen=True, config=FORBID)
class Spend:
    """What one training stage may use of the budget."""

    unit: Unit
    amount: float = Field(gt=0)
    batch: int = Field(gt=0)
    max_length: int = Field(gt=0)

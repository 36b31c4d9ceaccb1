"""How weights are moved, as part of a training stage's identity."""

from __future__ import annotations

import math
from typing import Literal

from pydantic import Field
from pydantic.dataclasses import dataclass

from polm_bench.graph import FORBID


@dataclass(frozen=True, config=FORBID)
class Optim:
    """AdamW with a warm-up and a decay over the stage's share of the budget."""

    lr: float = Field(gt=0)
    schedule: Literal["linear", "cosine", "constant_with_warmup"] = "cosine"
    warmup: float = Field(default=0.1, ge=0, lt=1)  # share of the steps
    weight_decay: float = Field(default=0.0, ge=0)
    beta2: float = Field(default=0.999, gt=0, lt=1)
    clip: float = Field(default=1.0, gt=0)  # largest norm of a gradient

    def rate(self, done: float, peak: float = 1.0) -> float:
        """Learning rate when `done` (0 to 1) of the budget is spent and the highest is `peak`; of 1 it is a scheduler's factor.

        For runs whose number of steps is not known beforehand; with a known one it is what transformers' scheduler of this name gives.
        """
        if done < self.warmup:
            return peak * done / self.warmup
        rest = min(1.0, (done - self.warmup) / (1 - self.warmup))
        shapes = {"linear": 1 - rest, "cosine": 0.5 * (1 + math.cos(math.pi * rest)), "constant_with_warmup": 1.0}
        return peak * shapes[self.schedule]

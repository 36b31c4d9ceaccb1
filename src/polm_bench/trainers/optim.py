"""How weights are moved, as part of a training stage's identity."""

from __future__ import annotations

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

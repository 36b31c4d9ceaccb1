"""How answers are drawn, apart from the drawing, so that a stage can have it among its fields without importing torch."""

from __future__ import annotations

from pydantic import Field
from pydantic.dataclasses import dataclass

from polm_bench.graph import FORBID


@dataclass(frozen=True, config=FORBID)
class Sampling:
    """How answers are drawn."""

    max_new_tokens: int = Field(gt=0)
    temperature: float = Field(default=1.0, ge=0)  # 0: the likeliest token
    top_p: float = Field(default=1.0, gt=0, le=1)

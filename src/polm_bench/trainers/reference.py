"""What a preference objective is compared with: a model that stays, one that is refreshed between rounds, one that follows, or none."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field
from pydantic.dataclasses import dataclass

from polm_bench.graph import FORBID


@dataclass(frozen=True, config=FORBID)
class Rounds:
    """The data in parts, one a round, each with the model of the round before as start and reference.

    Kim et al. 2024 (sDPO, arXiv:2403.19270).
    """

    count: Annotated[int, Field(ge=2)]
    order: Literal["easy_first", "as_given"]  # easy_first: by falling margin, where the rows have one


@dataclass(frozen=True, config=FORBID)
class Moving:
    """A reference that stays in memory and follows the policy: reference = share * policy + (1 - share) * reference.

    Gorbatovski et al. 2024 (TR-DPO, arXiv:2404.09656): soft update with a share below 1, hard update with 1.
    """

    share: float = Field(gt=0, le=1)  # alpha
    moves: int = Field(gt=0)  # in the whole run, evenly spaced


Handling = Literal["fixed", "none"] | Rounds | Moving
"""fixed: the model that training starts from. none: every completion's log-prob is taken as 0 where an objective reads a reference."""

"""What every reward is given, and what it gives back."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar

from pydantic.dataclasses import dataclass

from polm_bench.graph import FORBID

Scorer = Callable[[Sequence[Mapping[str, Any]], Sequence[str]], list[float]]
"""Rows of the reward's role and one answer to each, to one number each; more is better."""


@dataclass(frozen=True, config=FORBID)
class Reward:
    """A judgement of answers. Its fields are its identity; a stage among them (a reward model, a judge) is an input."""

    role: ClassVar[str] = "prompts"
    """Data role whose rows it can judge."""

    def scorer(self, job: Any) -> Scorer:
        """The judgement, with whatever it needs loaded once. `job` reaches input stages by `job.path`."""
        raise TypeError(f"{type(self).__name__} does not say how it judges")

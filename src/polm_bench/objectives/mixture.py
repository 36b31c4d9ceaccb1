"""Several losses of a pair in one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from pydantic import Field, NonNegativeFloat, model_validator
from pydantic.dataclasses import dataclass

from polm_bench.graph import FORBID
from polm_bench.objectives.base import PairLogps, PairObjective

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, config=FORBID)
class ChosenLikelihood(PairObjective):
    """Cross-entropy on the chosen completion, per token: -log pi(y_w|x) / |y_w|.

    trl's `loss_type="sft"` averages over the tokens of a batch; here it is averaged over pairs, which is the same where all are equally long.
    """

    role: ClassVar[Literal["preference"]] = "preference"
    needs_reference: ClassVar[bool] = False

    def __call__(self, policy: PairLogps, reference: PairLogps | None) -> Tensor:
        """Loss per pair in nats per token, shape [B]."""
        return -policy.chosen / policy.chosen_len


@dataclass(frozen=True, config=FORBID)
class Term:
    """One of several losses."""

    loss: PairObjective
    weight: NonNegativeFloat


@dataclass(frozen=True, config=FORBID)
class Mixture(PairObjective):
    """Weighted sum of losses on the same pairs, as trl's `loss_type` and `loss_weights` with several values: sum over k of weight_k * loss_k."""

    terms: Annotated[tuple[Term, ...], Field(min_length=1)]
    role: ClassVar[Literal["preference"]] = "preference"

    @model_validator(mode="after")
    def _whole_pairs(self) -> Mixture:
        for term in self.terms:
            if term.loss.role != self.role or term.loss.reads_tokens:
                raise ValueError(
                    f"{type(term.loss).__name__} reads more than log-probs of pairs, so it can't be one of several losses"
                )
        return self

    @property
    def needs_reference(self) -> bool:  # type: ignore[override]
        return any(term.loss.needs_reference for term in self.terms)

    @property
    def reads_batch(self) -> bool:  # type: ignore[override]
        return any(term.loss.reads_batch for term in self.terms)

    @property
    def reads_margin(self) -> bool:  # type: ignore[override]
        return any(term.loss.reads_margin for term in self.terms)

    def __call__(self, policy: PairLogps, reference: PairLogps | None) -> Tensor:
        """Loss per pair, shape [B]."""
        first, *others = (term.weight * term.loss(policy, reference) for term in self.terms)
        return sum(others, first)

    def metrics(self, policy: PairLogps, reference: PairLogps | None) -> dict[str, Tensor]:
        """Those of the first term, and each term's own loss."""
        own = {f"loss_{type(term.loss).__name__.lower()}": term.loss(policy, reference).detach() for term in self.terms}
        return self.terms[0].loss.metrics(policy, reference) | own

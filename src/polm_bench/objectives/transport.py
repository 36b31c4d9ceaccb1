"""Alignment via optimal transport: whole distributions of rewards are compared, not single pairs."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from pydantic import Field
from pydantic.dataclasses import dataclass

from polm_bench.graph import FORBID
from polm_bench.objectives.base import ImplicitReward, PairLogps, WholeBatch

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, config=FORBID)
class AOT(ImplicitReward):
    """The policy's margins should stochastically dominate the reference's: the k-th smallest of the one exceeds the k-th smallest of the other.

    Melnyk et al. 2024 (arXiv:2406.05882), AOT paired, over the K pairs of an optimiser batch, with u = log pi(y_w|x) - log pi(y_l|x),
    v the same of the reference, both sorted, and h = beta * (u_(k) - v_(k)):
    -(1 - smoothing) * log sigmoid(h) - smoothing * log sigmoid(-h)

    Same as trl's `loss_type="aot"`, which sorts within a micro-batch.
    """

    smoothing: float = Field(ge=0, lt=0.5)  # share of the labels that are taken to be flipped
    reads_batch: ClassVar[bool] = True

    def __call__(self, policy: PairLogps, reference: PairLogps) -> Tensor:
        """Loss per pair in nats, shape [B]. Raises ValueError without the whole batch."""
        whole, theirs = _whole(policy)
        partners = (theirs.chosen - theirs.rejected).sort().values
        rank = _ranks(whole.policy.chosen - whole.policy.rejected)[whole.rows]
        return _smoothed(self.beta * (policy.chosen - policy.rejected - partners[rank]), self.smoothing)


@dataclass(frozen=True, config=FORBID)
class AOTUnpaired(ImplicitReward):
    """The rewards of chosen completions should stochastically dominate those of rejected ones; which belong to a prompt does not matter.

    Melnyk et al. 2024 (arXiv:2406.05882), AOT unpaired, over the K pairs of an optimiser batch, with u the log-ratios of the chosen
    and v those of the rejected completions, both sorted, and h = beta * (u_(k) - v_(k)):
    -(1 - smoothing) * log sigmoid(h) - smoothing * log sigmoid(-h)

    Same as trl's `loss_type="aot_unpaired"`, which sorts within a micro-batch. A pair's loss here is the mean of the two terms its
    completions are in, each against a partner without gradient, and its gradient twice that: the sum over the batch is the paper's.
    """

    smoothing: float = Field(ge=0, lt=0.5)  # share of the labels that are taken to be flipped
    reads_batch: ClassVar[bool] = True

    def __call__(self, policy: PairLogps, reference: PairLogps) -> Tensor:
        """Loss per pair in nats, shape [B]. Raises ValueError without the whole batch."""
        whole, theirs = _whole(policy)
        good, bad = whole.policy.chosen - theirs.chosen, whole.policy.rejected - theirs.rejected
        facing_good = bad.sort().values[_ranks(good)[whole.rows]]
        facing_bad = good.sort().values[_ranks(bad)[whole.rows]]
        chosen = _smoothed(self.beta * (policy.chosen - reference.chosen - facing_good), self.smoothing)
        rejected = _smoothed(self.beta * (facing_bad - policy.rejected + reference.rejected), self.smoothing)
        both = chosen + rejected
        return both - both.detach() / 2


def _whole(policy: PairLogps) -> tuple[WholeBatch, PairLogps]:
    if policy.whole is None or policy.whole.reference is None:
        raise ValueError("optimal transport reads the whole optimiser batch under policy and reference")
    return policy.whole, policy.whole.reference


def _ranks(values: Tensor) -> Tensor:
    """[K], int: the place of each value among them in ascending order; equal ones in the order they stand in."""
    return values.argsort(stable=True).argsort()


def _smoothed(h: Tensor, smoothing: float) -> Tensor:
    import torch.nn.functional as F

    return -(1 - smoothing) * F.logsigmoid(h) - smoothing * F.logsigmoid(-h)

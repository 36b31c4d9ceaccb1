"""Losses on single completions that are labelled desirable or not."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import NonNegativeFloat, PositiveFloat
from pydantic.dataclasses import dataclass

from polm_bench.graph import FORBID
from polm_bench.objectives.base import PairObjective, UnpairedLogps

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, config=FORBID)
class KTO(PairObjective):
    """Prospect-theoretic loss on single completions that are labelled desirable or not.

    Ethayarajh et al. 2024 (arXiv:2402.01306), Eq. 7-8. With r = log [pi(y|x) / ref(y|x)] and the reference point
    z0 = max(0, mean over mismatched y' of log [pi(y'|x) / ref(y'|x)]), through which no gradient flows:
    desirable y:   desirable_weight * (1 - sigmoid(beta * (r - z0)))
    undesirable y: undesirable_weight * (1 - sigmoid(beta * (z0 - r)))

    The loss is a bounded utility, not a likelihood: it lies between 0 and the weight. trl takes z0 over a micro-batch; here it is over all
    `kl` rows that are passed in, which the trainer makes the whole optimiser batch, so the split into micro-batches changes nothing.
    """

    beta: PositiveFloat  # how fast utility saturates, per nat
    desirable_weight: NonNegativeFloat  # lambda_D
    undesirable_weight: NonNegativeFloat  # lambda_U
    role: ClassVar[Literal["unpaired"]] = "unpaired"
    needs_reference: ClassVar[bool] = True

    def __call__(self, policy: UnpairedLogps, reference: UnpairedLogps) -> Tensor:
        """Loss per completion, shape [B]."""
        import torch

        above = self.beta * (policy.completion - reference.completion - self.reference_point(policy, reference))
        desirable = self.desirable_weight * torch.sigmoid(-above)  # 1 - sigmoid(z) = sigmoid(-z), without cancellation
        undesirable = self.undesirable_weight * torch.sigmoid(above)
        return torch.where(policy.label, desirable, undesirable)

    def reference_point(self, policy: UnpairedLogps, reference: UnpairedLogps) -> Tensor:
        """z0 in nats, a scalar without gradient."""
        return (policy.kl - reference.kl).detach().mean().clamp(min=0)

    def metrics(self, policy: UnpairedLogps, reference: UnpairedLogps) -> dict[str, Tensor]:
        reward = self.beta * (policy.completion - reference.completion).detach()
        return {
            "reward_desirable": reward[policy.label],
            "reward_undesirable": reward[~policy.label],
            "kl": self.reference_point(policy, reference).reshape(1),
        }


@dataclass(frozen=True, config=FORBID)
class APOZeroUnpaired(KTO):
    """APO-zero on single labelled completions: KTO with its reference point at zero, so that nothing is estimated over a batch.

    D'Oosterlinck et al. 2024 (arXiv:2408.06266), Eq. 7, its two terms on completions of their own, with r = log [pi(y|x) / ref(y|x)]:
    desirable y:   desirable_weight * (1 - sigmoid(beta * r))
    undesirable y: undesirable_weight * sigmoid(beta * r)

    Same as trl's `KTOTrainer(loss_type="apo_zero_unpaired")`.
    """

    reads_kl: ClassVar[bool] = False

    def reference_point(self, policy: UnpairedLogps, reference: UnpairedLogps) -> Tensor:
        """Zero, a scalar."""
        return policy.completion.new_zeros(())

    def metrics(self, policy: UnpairedLogps, reference: UnpairedLogps) -> dict[str, Tensor]:
        return {name: value for name, value in super().metrics(policy, reference).items() if name != "kl"}

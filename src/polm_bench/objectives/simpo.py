"""Simple preference optimisation."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import NonNegativeFloat, PositiveFloat
from pydantic.dataclasses import dataclass

from polm_bench.graph import FORBID
from polm_bench.objectives.base import PairLogps, PairObjective, pair_rewards

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, config=FORBID)
class SimPO(PairObjective):
    """Reference-free preference loss on length-normalised log-probabilities.

    Meng et al. 2024 (arXiv:2405.14734), Eq. 6:
    -log sigmoid(beta * logp(y_w|x)/|y_w| - beta * logp(y_l|x)/|y_l| - gamma)

    Same as trl's `CPOTrainer(loss_type="simpo", cpo_alpha=0)`.
    """

    beta: PositiveFloat  # reward per (nat per token)
    gamma: NonNegativeFloat  # target margin between the two rewards
    role: ClassVar[Literal["preference"]] = "preference"
    needs_reference: ClassVar[bool] = False

    def __call__(self, policy: PairLogps, reference: PairLogps | None) -> Tensor:
        """Loss per pair in nats, shape [B]."""
        import torch.nn.functional as F

        chosen, rejected = self.rewards(policy)
        return -F.logsigmoid(chosen - rejected - self.gamma)

    def rewards(self, policy: PairLogps) -> tuple[Tensor, Tensor]:
        """Rewards of chosen and rejected, each [B]."""
        return self.beta * policy.chosen / policy.chosen_len, self.beta * policy.rejected / policy.rejected_len

    def metrics(self, policy: PairLogps, reference: PairLogps | None) -> dict[str, Tensor]:
        return pair_rewards(*self.rewards(policy))

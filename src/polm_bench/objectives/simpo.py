"""Simple preference optimisation, and a reward of another shape."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import NonNegativeFloat, PositiveFloat
from pydantic.dataclasses import dataclass

from polm_bench.graph import FORBID
from polm_bench.objectives.base import PairLogps, PairObjective, pair_rewards

if TYPE_CHECKING:
    from torch import Tensor

MAX_EXPONENT = 80.0  # exp stays finite in float32


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


@dataclass(frozen=True, config=FORBID)
class AlphaPO(SimPO):
    """SimPO whose reward is a power of the mean token's probability, not its logarithm: how fast a completion gets unlikely has a price.

    Gupta et al. 2025 (arXiv:2501.03884), with p(y) = exp(log pi(y|x) / |y|) and r(y) = beta * (1 - p(y)^-alpha) / alpha:
    -log sigmoid(r(y_w) - r(y_l) - gamma)

    Same as trl's `CPOTrainer(loss_type="alphapo")`; as alpha goes to 0 it is SimPO. Exponents are bounded, so that nothing overflows.
    """

    alpha: PositiveFloat  # the paper tries negative ones too

    def rewards(self, policy: PairLogps) -> tuple[Tensor, Tensor]:
        """Rewards of chosen and rejected, each [B]."""

        def reward(logps: Tensor, length: Tensor) -> Tensor:
            return -self.beta / self.alpha * (-self.alpha * logps / length).clamp(max=MAX_EXPONENT).expm1()

        return reward(policy.chosen, policy.chosen_len), reward(policy.rejected, policy.rejected_len)

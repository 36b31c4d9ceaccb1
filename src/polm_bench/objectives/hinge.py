"""Hinge losses: a pair that is far enough apart is left alone."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import NonNegativeFloat, PositiveFloat
from pydantic.dataclasses import dataclass

from polm_bench.graph import FORBID
from polm_bench.objectives.base import ImplicitReward, PairLogps, PairObjective, pair_rewards

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, config=FORBID)
class SLiC(PairObjective):
    """Sequence likelihood calibration: a margin between the log-likelihoods themselves, and cross-entropy on a good answer.

    Zhao et al. 2023 (arXiv:2305.10425), Section 2, the rank calibration loss:
    max(0, delta - log pi(y_w|x) + log pi(y_l|x)) - sft_weight * log pi(y_ref|x)

    y_ref is y_w here: a preference row has no third answer. Its log-likelihood is per token, as cross-entropy is in the SFT stage; trl's
    `CPOTrainer(loss_type="hinge", beta=1/delta)` is 1/delta of this where all completions are equally long.
    """

    delta: PositiveFloat  # wanted margin, nats
    sft_weight: NonNegativeFloat  # lambda; weight of a nat per token of y_w
    role: ClassVar[Literal["preference"]] = "preference"
    needs_reference: ClassVar[bool] = False

    def __call__(self, policy: PairLogps, reference: PairLogps | None) -> Tensor:
        """Loss per pair in nats, shape [B]."""
        calibration = (self.delta - policy.chosen + policy.rejected).clamp(min=0)
        return calibration - self.sft_weight * policy.chosen / policy.chosen_len

    def metrics(self, policy: PairLogps, reference: PairLogps | None) -> dict[str, Tensor]:
        return pair_rewards(policy.chosen, policy.rejected)


@dataclass(frozen=True, config=FORBID)
class HingeDPO(ImplicitReward):
    """SLiC's hinge on DPO's reward: normalised by the reference.

    Liu et al. 2023 (RSO, arXiv:2309.06657), the loss "hinge-norm":
    max(0, 1 - beta * (log [pi(y_w|x) / ref(y_w|x)] - log [pi(y_l|x) / ref(y_l|x)]))

    Same as trl's `DPOTrainer(loss_type="hinge")`.
    """

    def __call__(self, policy: PairLogps, reference: PairLogps) -> Tensor:
        """Loss per pair in nats, shape [B]."""
        chosen, rejected = self.rewards(policy, reference)
        return (1 - (chosen - rejected)).clamp(min=0)

"""DPO with other divergences than the reverse KL, and a loss that was found by search."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import Field, PositiveFloat
from pydantic.dataclasses import dataclass

from polm_bench.graph import FORBID
from polm_bench.objectives.base import ImplicitReward, PairLogps

if TYPE_CHECKING:
    from torch import Tensor

MAX_EXPONENT = 80.0  # exp stays finite in float32, as in trl


@dataclass(frozen=True, config=FORBID)
class DivergenceDPO(ImplicitReward):
    """DPO whose reward follows from a divergence D_f between policy and reference, u = pi(y|x) / ref(y|x).

    Wang et al. 2023 (arXiv:2309.16240): -log sigmoid(beta * f'(u_w) - beta * f'(u_l))
    """

    def __call__(self, policy: PairLogps, reference: PairLogps) -> Tensor:
        """Loss per pair in nats, shape [B]."""
        import torch.nn.functional as F

        chosen, rejected = self.rewards(policy, reference)
        return -F.logsigmoid(chosen - rejected)

    def rewards(self, policy: PairLogps, reference: PairLogps) -> tuple[Tensor, Tensor]:
        """Rewards of chosen and rejected, each [B]."""
        chosen, rejected = policy.chosen - reference.chosen, policy.rejected - reference.rejected
        return self.beta * self.slope(chosen), self.beta * self.slope(rejected)

    def slope(self, log_u: Tensor) -> Tensor:
        """f'(u) from log u in nats, up to a constant, which the difference cancels."""
        raise TypeError(f"{type(self).__name__} does not say which divergence it is")


@dataclass(frozen=True, config=FORBID)
class ForwardKLDPO(DivergenceDPO):
    """DPO with the forward KL from the reference to the policy: f'(u) = 1 - 1/u.

    Same as trl's `f_divergence_type="forward_kl"`; exponents are bounded, so that a log-ratio of -100 nats does not overflow.
    """

    def slope(self, log_u: Tensor) -> Tensor:
        """1 - 1/u."""
        return 1 - (-log_u).clamp(max=MAX_EXPONENT).exp()


@dataclass(frozen=True, config=FORBID)
class JensenShannonDPO(DivergenceDPO):
    """DPO with the Jensen-Shannon divergence: f'(u) = log(2u / (1 + u)).

    Same as trl's `f_divergence_type="js_divergence"`. It is at most log 2, so a chosen completion stops to gain.
    """

    def slope(self, log_u: Tensor) -> Tensor:
        """log 2 + log(u / (1 + u))."""
        import math

        import torch.nn.functional as F

        return math.log(2) + F.logsigmoid(log_u)


@dataclass(frozen=True, config=FORBID)
class AlphaDPO(DivergenceDPO):
    """DPO with an alpha-divergence: f'(u) = (1 - u^-alpha) / alpha.

    Same as trl's `f_divergence_type="alpha_divergence"` with `f_alpha_divergence_coef` = 1 - alpha. alpha 1 is the forward KL; as alpha
    goes to 0 it becomes DPO.
    """

    alpha: float = Field(gt=0, le=1)

    def slope(self, log_u: Tensor) -> Tensor:
        """(1 - u^-alpha) / alpha."""
        return (1 - (-self.alpha * log_u).clamp(max=MAX_EXPONENT).exp()) / self.alpha


@dataclass(frozen=True, config=FORBID)
class DiscoPOP(ImplicitReward):
    """Discovered preference optimisation, a log-ratio modulated loss that a language model proposed.

    Lu et al. 2024 (arXiv:2406.08414), Eq. 5, with h the difference of the rewards and m = sigmoid(h / tau):
    (1 - m) * -log sigmoid(h) + m * exp(-h)

    Same as trl's `loss_type="discopop"`. It is not convex: pairs at h of about -tau to tau are left where they are.
    """

    tau: PositiveFloat  # reward over which the two losses blend

    def __call__(self, policy: PairLogps, reference: PairLogps) -> Tensor:
        """Loss per pair in nats, shape [B]."""
        import torch
        import torch.nn.functional as F

        chosen, rejected = self.rewards(policy, reference)
        h = chosen - rejected
        # Where h is far below 0 the exponential's weight vanishes faster than it grows, as tau < 1; exp(h/tau - h) says so without overflow.
        exponential = torch.exp(F.logsigmoid(h / self.tau) - h)
        return torch.sigmoid(-h / self.tau) * -F.logsigmoid(h) + exponential

"""Losses that care for one side of a pair: the chosen completion's likelihood, or the rejected one alone."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import NonNegativeFloat
from pydantic.dataclasses import dataclass

from polm_bench.graph import FORBID
from polm_bench.objectives.base import ImplicitReward, PairLogps

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, config=FORBID)
class DPOP(ImplicitReward):
    """DPO-positive: DPO with a penalty where the preferred completion became less likely than under the reference.

    Pal et al. 2024 (Smaug, arXiv:2402.13228), Eq. 3:
    -log sigmoid(beta * (log [pi(y_w|x) / ref(y_w|x)] - log [pi(y_l|x) / ref(y_l|x)] - weight * max(0, log [ref(y_w|x) / pi(y_w|x)])))
    """

    weight: NonNegativeFloat  # lambda

    def __call__(self, policy: PairLogps, reference: PairLogps) -> Tensor:
        """Loss per pair in nats, shape [B]."""
        import torch.nn.functional as F

        chosen, rejected = self.rewards(policy, reference)
        return -F.logsigmoid(chosen - rejected - self.weight * (-chosen).clamp(min=0))


@dataclass(frozen=True, config=FORBID)
class NPO(ImplicitReward):
    """Negative preference optimisation: makes the rejected completion unlikely, ever more slowly; the chosen one is not read.

    Zhang et al. 2024 (arXiv:2404.05868):
    -2/beta * log sigmoid(-beta * log [pi(y_l|x) / ref(y_l|x)])

    The paper's y_l is an answer to forget. As beta goes to 0 the gradient is that of gradient ascent on y_l.
    """

    def __call__(self, policy: PairLogps, reference: PairLogps) -> Tensor:
        """Loss per pair in nats, shape [B]."""
        import torch.nn.functional as F

        _, rejected = self.rewards(policy, reference)
        return -2 / self.beta * F.logsigmoid(-rejected)

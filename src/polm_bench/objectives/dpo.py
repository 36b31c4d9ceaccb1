"""Direct preference optimisation."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic.dataclasses import dataclass

from polm_bench.graph import FORBID
from polm_bench.objectives.base import ImplicitReward, PairLogps

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, config=FORBID)
class DPO(ImplicitReward):
    """Bradley-Terry likelihood of the preferred completion under the reward that the policy itself implies.

    Rafailov et al. 2023 (arXiv:2305.18290), Eq. 7:
    -log sigmoid(beta * log [pi(y_w|x) / ref(y_w|x)] - beta * log [pi(y_l|x) / ref(y_l|x)])

    Same as trl's `loss_type="sigmoid"`.
    """

    def __call__(self, policy: PairLogps, reference: PairLogps) -> Tensor:
        """Loss per pair in nats, shape [B]."""
        import torch.nn.functional as F

        chosen, rejected = self.rewards(policy, reference)
        return -F.logsigmoid(chosen - rejected)

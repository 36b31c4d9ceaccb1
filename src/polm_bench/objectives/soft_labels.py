"""DPO whose labels are not certain: some may be the wrong way round, or one completion only a little better."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from pydantic import Field, PositiveFloat
from pydantic.dataclasses import dataclass

from polm_bench.graph import FORBID
from polm_bench.objectives.base import ImplicitReward, PairLogps

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, config=FORBID)
class ConservativeDPO(ImplicitReward):
    """DPO whose target is not certain: a share of the labels is taken to be flipped, and the reward difference stays finite.

    Mitchell 2023 (https://ericmitchell.ai/cdpo.pdf), with h the difference of the rewards:
    -(1 - flipped) * log sigmoid(h) - flipped * log sigmoid(-h)
    """

    flipped: float = Field(ge=0, lt=0.5)  # epsilon: share of pairs whose label is wrong

    def __call__(self, policy: PairLogps, reference: PairLogps) -> Tensor:
        """Loss per pair in nats, shape [B]."""
        import torch.nn.functional as F

        chosen, rejected = self.rewards(policy, reference)
        h = chosen - rejected
        return -(1 - self.flipped) * F.logsigmoid(h) - self.flipped * F.logsigmoid(-h)


@dataclass(frozen=True, config=FORBID)
class RobustDPO(ImplicitReward):
    """DPO's loss on clean labels, estimated without bias from flipped ones. It can be negative.

    Chowdhury et al. 2024 (arXiv:2403.00409), with h the difference of the rewards:
    [-(1 - flipped) * log sigmoid(h) + flipped * log sigmoid(-h)] / (1 - 2 flipped)

    Same as trl's `loss_type="robust"`.
    """

    flipped: float = Field(ge=0, lt=0.5)  # epsilon: share of pairs whose label is wrong

    def __call__(self, policy: PairLogps, reference: PairLogps) -> Tensor:
        """Loss per pair in nats, shape [B]."""
        import torch.nn.functional as F

        chosen, rejected = self.rewards(policy, reference)
        h = chosen - rejected
        return (-(1 - self.flipped) * F.logsigmoid(h) + self.flipped * F.logsigmoid(-h)) / (1 - 2 * self.flipped)


@dataclass(frozen=True, config=FORBID)
class EXO(ImplicitReward):
    """Efficient exact optimisation: the reverse KL from the policy's choice between the two completions to the labelled one.

    Ji et al. 2024 (arXiv:2402.00856), Eq. 16, with h the difference of the rewards and q = sigmoid(h) the policy's choice of y_w:
    q * [log q - log(1 - smoothing)] + (1 - q) * [log(1 - q) - log smoothing]

    Same as trl's `loss_type="exo_pair"`.
    """

    smoothing: float = Field(gt=0, lt=0.5)  # epsilon: what the label leaves to y_l, or the KL were infinite

    def __call__(self, policy: PairLogps, reference: PairLogps) -> Tensor:
        """Loss per pair in nats, shape [B]."""
        import math

        import torch
        import torch.nn.functional as F

        chosen, rejected = self.rewards(policy, reference)
        h = chosen - rejected
        right = torch.sigmoid(h) * (F.logsigmoid(h) - math.log1p(-self.smoothing))
        wrong = torch.sigmoid(-h) * (F.logsigmoid(-h) - math.log(self.smoothing))
        return right + wrong


@dataclass(frozen=True, config=FORBID)
class DNO(ImplicitReward):
    """Direct Nash optimisation on given pairs: cross-entropy to how much better the one completion was, not to which was.

    Rosset et al. 2024 (arXiv:2404.03715), Algorithm 1, with r(y) the explicit reward and h the difference of the implied ones:
    -p * log sigmoid(h) - (1 - p) * log sigmoid(-h), p = sigmoid(r(y_w) - r(y_l))

    The paper takes r(y) as the chance to be preferred to an answer of the policy and samples the pairs anew every round; here
    r(y_w) - r(y_l) is `scale` times the row's margin, and the pairs stay as they are. Its reference is the last round's policy.
    """

    scale: PositiveFloat  # reward per unit of the data's margin
    reads_margin: ClassVar[bool] = True

    def __call__(self, policy: PairLogps, reference: PairLogps) -> Tensor:
        """Loss per pair in nats, shape [B]. Raises ValueError for pairs without a margin."""
        import torch
        import torch.nn.functional as F

        if policy.margin is None:
            raise ValueError("DNO reads the margin of each pair, and these have none")
        chosen, rejected = self.rewards(policy, reference)
        h, better = chosen - rejected, torch.sigmoid(self.scale * policy.margin)
        return -better * F.logsigmoid(h) - (1 - better) * F.logsigmoid(-h)

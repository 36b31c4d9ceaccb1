"""Losses that judge each completion of a pair by itself: is it a good one?"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import PositiveFloat
from pydantic.dataclasses import dataclass

from polm_bench.graph import FORBID
from polm_bench.objectives.base import ImplicitReward, PairLogps, PairObjective, pair_rewards

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, config=FORBID)
class NCA(ImplicitReward):
    """Noise contrastive alignment: which completions are the data's and which the reference's, so that the chosen one does not get less likely.

    Chen et al. 2024 (arXiv:2402.05369), NCA for preference pairs, with r the rewards:
    -log sigmoid(r(y_w)) - 1/2 * log sigmoid(-r(y_w)) - 1/2 * log sigmoid(-r(y_l))

    Same as trl's `loss_type="nca_pair"`.
    """

    def __call__(self, policy: PairLogps, reference: PairLogps) -> Tensor:
        """Loss per pair in nats, shape [B]."""
        import torch.nn.functional as F

        chosen, rejected = self.rewards(policy, reference)
        return -F.logsigmoid(chosen) - 0.5 * F.logsigmoid(-chosen) - 0.5 * F.logsigmoid(-rejected)


@dataclass(frozen=True, config=FORBID)
class BCO(ImplicitReward):
    """Binary classifier optimisation: the reward is the logit of a classifier of chosen against rejected completions.

    Jung et al. 2024 (arXiv:2404.04656), with r the rewards and delta their mean over chosen and rejected completions,
    through which no gradient flows:
    -log sigmoid(r(y_w) - delta) - log sigmoid(-(r(y_l) - delta))

    The authors take delta as a moving average over batches, here it is that of the optimiser batch; trl's `loss_type="bco_pair"` has delta 0.
    """

    reads_batch: ClassVar[bool] = True

    def __call__(self, policy: PairLogps, reference: PairLogps) -> Tensor:
        """Loss per pair in nats, shape [B]. Raises ValueError without the whole batch."""
        if policy.whole is None or policy.whole.reference is None:
            raise ValueError("BCO reads the mean reward of the optimiser batch")
        return self.around(policy, reference, self.shift(policy.whole.policy, policy.whole.reference))

    def shift(self, policy: PairLogps, reference: PairLogps) -> Tensor:
        """delta: mean reward of K chosen and K rejected completions, a scalar without gradient."""
        chosen, rejected = self.rewards(policy, reference)
        return ((chosen + rejected) / 2).mean().detach()

    def around(self, policy: PairLogps, reference: PairLogps, shift: Tensor | float) -> Tensor:
        """Loss per pair in nats, shape [B], of a classifier whose threshold is `shift`."""
        import torch.nn.functional as F

        chosen, rejected = self.rewards(policy, reference)
        return -F.logsigmoid(chosen - shift) - F.logsigmoid(shift - rejected)


@dataclass(frozen=True, config=FORBID)
class UNA(ImplicitReward):
    """Unified alignment: the implicit reward is fitted to an explicit one, here 1 for the chosen and 0 for the rejected completion.

    Wang et al. 2024 (arXiv:2408.15339), for binary feedback, with r the rewards and s(y) = sigmoid(r(y)):
    mse: (1 - s(y_w))^2 + s(y_l)^2;  bce: -log s(y_w) - log(1 - s(y_l))

    bce is trl's `loss_type="bco_pair"`.
    """

    distance: Literal["mse", "bce"]

    def __call__(self, policy: PairLogps, reference: PairLogps) -> Tensor:
        """Loss per pair, shape [B]; in nats for bce."""
        import torch
        import torch.nn.functional as F

        chosen, rejected = self.rewards(policy, reference)
        if self.distance == "bce":
            return -F.logsigmoid(chosen) - F.logsigmoid(-rejected)
        return torch.sigmoid(-chosen) ** 2 + torch.sigmoid(rejected) ** 2


@dataclass(frozen=True, config=FORBID)
class APOZero(ImplicitReward):
    """Anchored preference optimisation for data better than the model: chosen up, rejected down, each by itself.

    D'Oosterlinck et al. 2024 (arXiv:2408.06266), Eq. 7, with r the rewards:
    -sigmoid(r(y_w)) + sigmoid(r(y_l)), and 1 added, so that it is positive

    Same as trl's `loss_type="apo_zero"`.
    """

    def __call__(self, policy: PairLogps, reference: PairLogps) -> Tensor:
        """Loss per pair, shape [B], between 0 and 2."""
        import torch

        chosen, rejected = self.rewards(policy, reference)
        return torch.sigmoid(-chosen) + torch.sigmoid(rejected)


@dataclass(frozen=True, config=FORBID)
class APODown(ImplicitReward):
    """Anchored preference optimisation for a model better than its data: both down, the rejected one more.

    D'Oosterlinck et al. 2024 (arXiv:2408.06266), Eq. 8, with r the rewards:
    sigmoid(r(y_w)) - sigmoid(r(y_w) - r(y_l)), and 1 added, so that it is positive

    Same as trl's `loss_type="apo_down"`.
    """

    def __call__(self, policy: PairLogps, reference: PairLogps) -> Tensor:
        """Loss per pair, shape [B], between 0 and 2."""
        import torch

        chosen, rejected = self.rewards(policy, reference)
        return torch.sigmoid(chosen) + torch.sigmoid(rejected - chosen)


@dataclass(frozen=True, config=FORBID)
class SPPO(PairObjective):
    """Self-play preference optimisation with hard labels: each log-ratio is regressed on how often the completion wins, 1 or 0.

    Wu et al. 2024 (arXiv:2405.00675), with P(y beats the policy|x) = 1 for y_w and 0 for y_l:
    (log [pi(y_w|x) / ref(y_w|x)] - eta/2)^2 + (log [pi(y_l|x) / ref(y_l|x)] + eta/2)^2

    Same as trl's `loss_type="sppo_hard"` with beta = 1/eta. The paper samples and judges new completions every round.
    """

    eta: PositiveFloat  # nats by which a sure win should be likelier than a draw, times 2
    role: ClassVar[Literal["preference"]] = "preference"
    needs_reference: ClassVar[bool] = True

    def __call__(self, policy: PairLogps, reference: PairLogps) -> Tensor:
        """Loss per pair in nats squared, shape [B]."""
        won, lost = policy.chosen - reference.chosen, policy.rejected - reference.rejected
        return (won - self.eta / 2) ** 2 + (lost + self.eta / 2) ** 2

    def metrics(self, policy: PairLogps, reference: PairLogps) -> dict[str, Tensor]:
        return pair_rewards(policy.chosen - reference.chosen, policy.rejected - reference.rejected)

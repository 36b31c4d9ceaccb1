"""Listwise objectives: several answers to one prompt, in an order."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from pydantic import NonNegativeFloat, PositiveFloat, model_validator
from pydantic.dataclasses import dataclass

from polm_bench.graph import FORBID
from polm_bench.objectives.base import ListLogps, ListObjective, PairLogps, PairObjective

if TYPE_CHECKING:
    from torch import Tensor

NEVER = -1e30  # log of a weight that counts for nothing; an infinity would make the gradient of a log-sum undefined


@dataclass(frozen=True, config=FORBID)
class RRHF(ListObjective):
    """Rank responses: a hinge on log-likelihoods per token wherever a worse answer is the likelier one, and cross-entropy on the best.

    Yuan et al. 2023 (arXiv:2304.05302), with p_i = log pi(y_i|x) / |y_i|:
    rank_weight * sum over i, j with score_i < score_j of max(0, p_i - p_j) - log pi(y_best|x) / |y_best|

    The paper sums the last term over tokens; the authors' train.py averages it, and so does this.
    """

    rank_weight: NonNegativeFloat
    needs_reference: ClassVar[bool] = False

    def __call__(self, policy: ListLogps, reference: ListLogps | None) -> Tensor:
        """Loss per prompt in nats per token, shape [B]."""
        p = policy.logps / policy.lengths
        worse = p[:, :, None] - p[:, None, :]  # [B, i, j]
        ranking = (worse.clamp(min=0) * better_than(policy).transpose(1, 2)).sum((1, 2))
        return self.rank_weight * ranking - p[:, 0]

    def metrics(self, policy: ListLogps, reference: ListLogps | None) -> dict[str, Tensor]:
        return agreement(policy, policy.logps / policy.lengths)


@dataclass(frozen=True, config=FORBID)
class PRO(ListObjective):
    """Preference ranking optimisation: from the best answer on, each is told apart from all those after it; and cross-entropy on the best.

    Song et al. 2023 (arXiv:2306.17492), with p_i = log pi(y_i|x) / |y_i|, T_ki = 1 / (score_k - score_i) and
    T_kk = min over i > k of T_ki:
    -sum over k < M of log [exp(p_k / T_kk) / (exp(p_k / T_kk) + sum over i > k of exp(p_i / T_ki))] - sft_weight * (M-1)^2 * log pi(y_1|x)

    The last log-likelihood is summed over tokens, as in the authors' code. Answers of equal score are not told apart.
    """

    sft_weight: NonNegativeFloat  # the paper's beta, without its (M-1)^2
    needs_reference: ClassVar[bool] = False

    def __call__(self, policy: ListLogps, reference: ListLogps | None) -> Tensor:
        """Loss per prompt, shape [B]."""
        p = policy.logps / policy.lengths
        gap = (policy.scores[:, :, None] - policy.scores[:, None, :]) * better_than(policy)  # [B, k, i], 1/T_ki
        own = gap.max(2).values * p  # p_k / T_kk
        others = (gap * p[:, None, :]).masked_fill(gap == 0, NEVER).logsumexp(2)
        told = (own.logaddexp(others) - own).masked_fill(gap.max(2).values == 0, 0.0)  # none is worse than the last
        supervised = self.sft_weight * (policy.mask.sum(1) - 1) ** 2 * policy.logps[:, 0]
        return told.sum(1) - supervised

    def metrics(self, policy: ListLogps, reference: ListLogps | None) -> dict[str, Tensor]:
        return agreement(policy, policy.logps / policy.lengths)


@dataclass(frozen=True, config=FORBID)
class TPO(ListObjective):
    """Triple preference optimisation: cross-entropy on the best answer, and a preference for the second best over the worst.

    Saeidi et al. 2024 (arXiv:2405.16681), with y_1 the best of M answers, y_2 the next and y_M the worst; of two, y_1 is also preferred:
    pair(y_2, y_M) - sft_weight * log pi(y_1|x) / |y_1|

    `pair` knows no reference, or one to which all answers are alike: DPO is the paper's TPO, SimPO its TPO-L, and so are trl's `loss_type`s
    "sigmoid" and "tpo-l" (HingeDPO is "hinge", IPO "ipo"). trl averages the last term over the tokens of a batch, this over prompts.
    """

    pair: PairObjective
    sft_weight: NonNegativeFloat  # alpha: weight of a nat per token of y_1
    needs_reference: ClassVar[bool] = False

    @model_validator(mode="after")
    def _whole_pairs(self) -> TPO:
        if self.pair.role != "preference" or self.pair.reads_tokens or self.pair.reads_batch or self.pair.reads_margin:
            raise ValueError(
                f"{type(self.pair).__name__} reads more than log-probs of a pair, so TPO can't set two of three answers against each other"
            )
        return self

    def __call__(self, policy: ListLogps, reference: ListLogps | None) -> Tensor:
        """Loss per prompt, shape [B]."""
        return self.pair(*self._sides(policy)) - self.sft_weight * policy.logps[:, 0] / policy.lengths[:, 0]

    def metrics(self, policy: ListLogps, reference: ListLogps | None) -> dict[str, Tensor]:
        return self.pair.metrics(*self._sides(policy))

    def _sides(self, policy: ListLogps) -> tuple[PairLogps, PairLogps]:
        """The pair, and what a reference gives to which all answers are alike."""
        import torch

        last = policy.mask.sum(1, keepdim=True) - 1
        second = (last - 1).clamp(0, 1)
        (chosen, rejected), (long, longer) = (
            [of.gather(1, place)[:, 0] for place in (second, last)] for of in (policy.logps, policy.lengths)
        )
        alike = torch.zeros_like(chosen)
        return PairLogps(chosen, rejected, long, longer), PairLogps(alike, alike, long, longer)


@dataclass(frozen=True, config=FORBID)
class ListReward(ListObjective):
    """A loss on the reward that a policy implies for every answer of a list: s_i = beta * log [pi(y_i|x) / ref(y_i|x)]."""

    beta: PositiveFloat  # reward per nat
    needs_reference: ClassVar[bool] = True

    def rewards(self, policy: ListLogps, reference: ListLogps | None) -> Tensor:
        """s, [B, M]; 0 where there is no answer. Raises ValueError without a reference."""
        if reference is None:
            raise ValueError(f"{type(self).__name__} compares the policy with a reference, and there is none")
        return self.beta * (policy.logps - reference.logps) * policy.mask

    def metrics(self, policy: ListLogps, reference: ListLogps | None) -> dict[str, Tensor]:
        return agreement(policy, self.rewards(policy, reference))


@dataclass(frozen=True, config=FORBID)
class LiPO(ListReward):
    """Listwise preference optimisation with LambdaLoss: pairs count by what swapping them would change of a ranking metric (DCG).

    Liu et al. 2024 (arXiv:2402.01878), LiPO-lambda, with s the rewards and rank_i the place of y_i when sorted by s:
    sum over i, j with score_i > score_j of |2^score_i - 2^score_j| * |1/log(1 + rank_i) - 1/log(1 + rank_j)| * log(1 + exp(s_j - s_i))

    No gradient flows through the ranks. The paper's scores are win rates between 0 and 1.
    """

    def __call__(self, policy: ListLogps, reference: ListLogps | None) -> Tensor:
        """Loss per prompt in nats times gain, shape [B]."""
        import torch.nn.functional as F

        s = self.rewards(policy, reference)
        ranked = s.detach().masked_fill(~policy.mask, float("-inf"))
        rank = ranked.argsort(dim=1, descending=True, stable=True).argsort(dim=1) + 1
        gain, discount = 2**policy.scores, 1 / (1 + rank).to(s.dtype).log()
        weight = (gain[:, :, None] - gain[:, None, :]).abs() * (discount[:, :, None] - discount[:, None, :]).abs()
        losses = -F.logsigmoid(s[:, :, None] - s[:, None, :])
        return (weight * losses * better_than(policy)).sum((1, 2))


@dataclass(frozen=True, config=FORBID)
class PlackettLuce(ListReward):
    """DPO on whole rankings: the likelihood that the answers are drawn in this order, one after the other, by their rewards.

    Rafailov et al. 2023 (arXiv:2305.18290), Appendix A.3, Eq. 20, with s the rewards, best answer first:
    -sum over k of log [exp(s_k) / sum over i >= k of exp(s_i)]

    Two answers make it DPO. Answers of equal score keep the order they stand in.
    """

    def __call__(self, policy: ListLogps, reference: ListLogps | None) -> Tensor:
        """Loss per prompt in nats, shape [B]."""
        s = self.rewards(policy, reference)
        rest = s.masked_fill(~policy.mask, NEVER).flip(1).logcumsumexp(1).flip(1)  # log of the sum over i >= k
        return ((rest - s) * policy.mask).sum(1)


@dataclass(frozen=True, config=FORBID)
class D2O(ListReward):
    """Distributional dispreference optimisation ("negating negatives"): a rejected answer against the mean of the model's own, without good ones.

    Duan et al. 2024 (arXiv:2403.03419), Eq. 3, with y_1 to y_K own answers and y_l the rejected one, which is the last of the list:
    -log sigmoid(beta/K * sum over i of log [pi(y_i|x) / ref(y_i|x)] - alpha * log [pi(y_l|x) / ref(y_l|x)])

    The paper has a reference of its own for each term (a harmful and a harmless model), and new own answers as training goes on; here both
    references are the start, which also wrote the answers.
    """

    alpha: PositiveFloat  # reward per nat of the rejected answer

    def __call__(self, policy: ListLogps, reference: ListLogps | None) -> Tensor:
        """Loss per prompt in nats, shape [B]."""
        import torch.nn.functional as F

        s = self.rewards(policy, reference)
        last = policy.mask.sum(1, keepdim=True) - 1
        rejected = s.gather(1, last)[:, 0]
        own = (s.sum(1) - rejected) / last[:, 0]
        return -F.logsigmoid(own - self.alpha / self.beta * rejected)


def better_than(policy: ListLogps) -> Tensor:
    """[B, M, M], bool: answer i is scored higher than answer j, and both are there."""
    there = policy.mask[:, :, None] & policy.mask[:, None, :]
    return there & (policy.scores[:, :, None] > policy.scores[:, None, :])


def agreement(policy: ListLogps, rewards: Tensor) -> dict[str, Tensor]:
    """Metrics of rewards [B, M]: those of the best and the last answer, and the share of pairs that they order as the scores do."""
    rewards = rewards.detach()
    pairs = better_than(policy)
    right = (pairs & (rewards[:, :, None] > rewards[:, None, :])).sum((1, 2))
    last = rewards.gather(1, policy.mask.sum(1, keepdim=True) - 1)[:, 0]
    return {
        "reward_best": rewards[:, 0],
        "reward_last": last,
        "reward_accuracy": right / pairs.sum((1, 2)).clamp(min=1),
    }

"""Preference losses that carry their own supervised term and need no reference."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import NonNegativeFloat, PositiveFloat
from pydantic.dataclasses import dataclass

from polm_bench.graph import FORBID
from polm_bench.objectives.base import PairLogps, PairObjective, pair_rewards

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, config=FORBID)
class CPO(PairObjective):
    """Contrastive preference optimisation: DPO against a uniform reference, and cross-entropy on the preferred completion.

    Xu et al. 2024 (arXiv:2401.08417), Eq. 3 and the supervised term beside it:
    -log sigmoid(beta * log pi(y_w|x) - beta * log pi(y_l|x)) - sft_weight * log pi(y_w|x)

    The second log-likelihood is per token, as in the authors' code. They average it over the tokens of a batch and so does trl
    (`CPOTrainer(loss_type="sigmoid", cpo_alpha=sft_weight)`); here it is averaged over pairs, which is the same where all are equally long.
    """

    beta: PositiveFloat  # reward per nat
    sft_weight: NonNegativeFloat  # weight of a nat per token of y_w
    role: ClassVar[Literal["preference"]] = "preference"
    needs_reference: ClassVar[bool] = False

    def __call__(self, policy: PairLogps, reference: PairLogps | None) -> Tensor:
        """Loss per pair in nats, shape [B]."""
        import torch.nn.functional as F

        preferred = -F.logsigmoid(self.beta * (policy.chosen - policy.rejected))
        return preferred - self.sft_weight * policy.chosen / policy.chosen_len

    def metrics(self, policy: PairLogps, reference: PairLogps | None) -> dict[str, Tensor]:
        return pair_rewards(self.beta * policy.chosen, self.beta * policy.rejected)


@dataclass(frozen=True, config=FORBID)
class ORPO(PairObjective):
    """Odds ratio preference optimisation: supervised fine-tuning with a penalty on the odds of the rejected completion.

    Hong et al. 2024 (arXiv:2403.07691), Eq. 4 and 7 and the supervised term beside them, with P(y|x) = exp(log pi(y|x) / |y|) and odds(y) = P(y|x) / (1 - P(y|x)):
    -log P(y_w|x) - weight * log sigmoid(log [odds(y_w) / odds(y_l)])

    trl's ORPOTrainer has the same odds ratio, but its supervised term counts the prompt's tokens too.
    """

    weight: NonNegativeFloat  # lambda
    role: ClassVar[Literal["preference"]] = "preference"
    needs_reference: ClassVar[bool] = False

    def __call__(self, policy: PairLogps, reference: PairLogps | None) -> Tensor:
        """Loss per pair in nats, shape [B]."""
        import torch.nn.functional as F

        chosen, rejected = self.log_odds(policy)
        return -policy.chosen / policy.chosen_len - self.weight * F.logsigmoid(chosen - rejected)

    def log_odds(self, policy: PairLogps) -> tuple[Tensor, Tensor]:
        """Log-odds of chosen and rejected, each [B]."""
        chosen, rejected = policy.chosen / policy.chosen_len, policy.rejected / policy.rejected_len
        return chosen - log_one_minus_exp(chosen), rejected - log_one_minus_exp(rejected)

    def metrics(self, policy: PairLogps, reference: PairLogps | None) -> dict[str, Tensor]:
        return pair_rewards(*self.log_odds(policy))


def log_one_minus_exp(logp: Tensor) -> Tensor:
    """log(1 - exp(logp)) for log-probs below 0, without cancellation at either end (Maechler 2012, log1mexp, Eq. 7)."""
    import math

    import torch

    logp = logp.clamp(max=-torch.finfo(logp.dtype).eps)  # a completion that is certain has infinite odds
    near = logp > -math.log(2)  # of 1: expm1 keeps its digits there
    small = torch.where(
        near, logp, torch.full_like(logp, -math.log(2))
    )  # the branch not taken must have a finite gradient
    large = torch.where(near, torch.full_like(logp, -math.log(2)), logp)
    return torch.where(near, torch.log(-torch.expm1(small)), torch.log1p(-torch.exp(large)))

"""DPO that does not learn to be long."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from pydantic import Field, NonNegativeFloat
from pydantic.dataclasses import dataclass

from polm_bench.graph import FORBID
from polm_bench.objectives.base import ImplicitReward, PairLogps

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, config=FORBID)
class RDPO(ImplicitReward):
    """DPO of a reward that charges for every token.

    Park et al. 2024 (arXiv:2403.19159), with h the difference of the rewards:
    -log sigmoid(h + alpha * |y_w| - alpha * |y_l|)

    A longer y_w has part of its margin given, so it pulls less.
    """

    alpha: NonNegativeFloat  # reward per token

    def __call__(self, policy: PairLogps, reference: PairLogps) -> Tensor:
        """Loss per pair in nats, shape [B]."""
        import torch.nn.functional as F

        chosen, rejected = self.rewards(policy, reference)
        return -F.logsigmoid(chosen - rejected + self.alpha * (policy.chosen_len - policy.rejected_len))


@dataclass(frozen=True, config=FORBID)
class NormalizedDPO(ImplicitReward):
    """DPO on log-ratios per token.

    Lambert et al. 2024 (Tulu 3, arXiv:2411.15124), Section 5:
    -log sigmoid(beta/|y_w| * log [pi(y_w|x) / ref(y_w|x)] - beta/|y_l| * log [pi(y_l|x) / ref(y_l|x)])

    Same as trl's `loss_type="sigmoid_norm"`.
    """

    def __call__(self, policy: PairLogps, reference: PairLogps) -> Tensor:
        """Loss per pair in nats, shape [B]."""
        import torch.nn.functional as F

        chosen, rejected = self.rewards(policy, reference)
        return -F.logsigmoid(chosen - rejected)

    def rewards(self, policy: PairLogps, reference: PairLogps) -> tuple[Tensor, Tensor]:
        """Rewards of chosen and rejected, each [B]; beta is reward per (nat per token)."""
        chosen, rejected = policy.chosen - reference.chosen, policy.rejected - reference.rejected
        return self.beta * chosen / policy.chosen_len, self.beta * rejected / policy.rejected_len


@dataclass(frozen=True, config=FORBID)
class LDDPO(ImplicitReward):
    """Length-desensitised DPO: what the longer completion has beyond the other's length counts less.

    Liu et al. 2024 (arXiv:2409.06411), with l the tokens of the shorter of the two completions:
    DPO with log p(y|x) replaced by sum over t <= l of log p(y_t|...) + alpha * sum over t > l of log p(y_t|...)

    Same as trl's `ld_alpha`. alpha 1 is DPO; alpha 0 cuts both completions to the same length.
    """

    alpha: float = Field(ge=0, le=1)  # weight of a token beyond the shared length
    reads_tokens: ClassVar[bool] = True
    live_reference: ClassVar[bool] = True

    def __call__(self, policy: PairLogps, reference: PairLogps) -> Tensor:
        """Loss per pair in nats, shape [B]. Raises ValueError without values for tokens."""
        import torch.nn.functional as F

        chosen, rejected = self.rewards(policy, reference)
        return -F.logsigmoid(chosen - rejected)

    def token_values(self, logits: Tensor, ids: Tensor, reference: Tensor | None) -> Tensor:
        """Log-ratio of each token to the reference, [N], in nats."""
        import torch.nn.functional as F

        if reference is None:
            raise ValueError("LD-DPO reads the reference's log-prob of each token")
        return F.cross_entropy(reference, ids, reduction="none") - F.cross_entropy(logits, ids, reduction="none")

    def rewards(self, policy: PairLogps, reference: PairLogps) -> tuple[Tensor, Tensor]:
        """Rewards of chosen and rejected, each [B]."""
        import torch

        if policy.chosen_tokens is None or policy.rejected_tokens is None:
            raise ValueError("LD-DPO reads the log-ratio of each token, and there are none")
        shared = torch.minimum(policy.chosen_len, policy.rejected_len)

        def reward(tokens: Tensor) -> Tensor:
            beyond = torch.arange(tokens.shape[1], device=tokens.device) >= shared[:, None]
            return self.beta * torch.where(beyond, self.alpha * tokens, tokens).sum(1)

        return reward(policy.chosen_tokens), reward(policy.rejected_tokens)

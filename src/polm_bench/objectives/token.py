"""Losses that look at every token's distribution."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import NonNegativeFloat, PositiveFloat, PositiveInt
from pydantic.dataclasses import dataclass

from polm_bench.graph import FORBID
from polm_bench.objectives.base import ImplicitReward, PairLogps, PairObjective, pair_rewards

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, config=FORBID)
class TDPO1(ImplicitReward):
    """Token-level DPO: the KL along each completion is part of its reward.

    Zeng et al. 2024 (arXiv:2404.11999), with h the difference of the rewards and
    D(y) = sum over t of KL(ref(.|x, y_<t) || pi(.|x, y_<t)), the sequential forward KL:
    -log sigmoid(h - beta * (D(y_l) - D(y_w)))
    """

    reads_tokens: ClassVar[bool] = True
    live_reference: ClassVar[bool] = True

    def __call__(self, policy: PairLogps, reference: PairLogps) -> Tensor:
        """Loss per pair in nats, shape [B]. Raises ValueError without values for tokens."""
        import torch.nn.functional as F

        chosen, rejected = self.rewards(policy, reference)
        kl_chosen, kl_rejected = sequential(policy)
        return -F.logsigmoid(chosen - rejected - self.beta * (kl_rejected - kl_chosen))

    def token_values(self, logits: Tensor, ids: Tensor, reference: Tensor | None) -> Tensor:
        """KL(ref || pi) at each token, [N], in nats."""
        return forward_kl(logits, reference)

    def metrics(self, policy: PairLogps, reference: PairLogps) -> dict[str, Tensor]:
        return pair_rewards(*self.rewards(policy, reference)) | _plotted(policy)


@dataclass(frozen=True, config=FORBID)
class TDPO2(ImplicitReward):
    """Token-level DPO whose KL term only holds back the rejected completion.

    Zeng et al. 2024 (arXiv:2404.11999), with h and D as in TDPO1 and sg for no gradient:
    -log sigmoid(h - alpha * beta * (D(y_l) - sg(D(y_w))))
    """

    alpha: NonNegativeFloat  # weight of the KL term
    reads_tokens: ClassVar[bool] = True
    live_reference: ClassVar[bool] = True

    def __call__(self, policy: PairLogps, reference: PairLogps) -> Tensor:
        """Loss per pair in nats, shape [B]. Raises ValueError without values for tokens."""
        import torch.nn.functional as F

        chosen, rejected = self.rewards(policy, reference)
        kl_chosen, kl_rejected = sequential(policy)
        return -F.logsigmoid(chosen - rejected - self.alpha * self.beta * (kl_rejected - kl_chosen.detach()))

    def token_values(self, logits: Tensor, ids: Tensor, reference: Tensor | None) -> Tensor:
        """KL(ref || pi) at each token, [N], in nats."""
        return forward_kl(logits, reference)

    def metrics(self, policy: PairLogps, reference: PairLogps) -> dict[str, Tensor]:
        return pair_rewards(*self.rewards(policy, reference)) | _plotted(policy)


@dataclass(frozen=True, config=FORBID)
class WPO(ImplicitReward):
    """Weighted preference optimisation: DPO on off-policy pairs, weighted by how likely the policy is to write them.

    Zhou et al. 2024 (arXiv:2406.11827), Eq. 2, with sampled alignment:
    w(y_w) * w(y_l) * DPO, w(y) = exp(1/|y| * sum over t of log [pi(y_t|...) / sum over v of pi(v|...)^2]), no gradient through w

    Same as trl's `use_weighting` with `loss_type="sigmoid"`; the authors' code (wzhouad/WPO, scripts/run_wpo.py) bounds w(y_w) * w(y_l) at 1.
    """

    reads_tokens: ClassVar[bool] = True

    def __call__(self, policy: PairLogps, reference: PairLogps) -> Tensor:
        """Loss per pair in nats, shape [B]. Raises ValueError without values for tokens."""
        import torch.nn.functional as F

        chosen, rejected = self.rewards(policy, reference)
        aligned, other = sequential(policy)
        weight = (aligned / policy.chosen_len + other / policy.rejected_len).exp().detach()
        return -weight * F.logsigmoid(chosen - rejected)

    def token_values(self, logits: Tensor, ids: Tensor, reference: Tensor | None) -> Tensor:
        """log [pi(y_t|...) / sum over v of pi(v|...)^2] of each token, [N], in nats, without gradient."""
        logps = logits.detach().log_softmax(-1)
        return logps.gather(-1, ids[:, None]).squeeze(-1) - (2 * logps).logsumexp(-1)


@dataclass(frozen=True, config=FORBID)
class PairwiseCringe(PairObjective):
    """Pairwise CRINGE: likelihood of the chosen tokens, contrast of the rejected ones with what the model would rather say, gated by the margin.

    Xu et al. 2023 (arXiv:2312.16682), with M = log pi(y_w|x) - log pi(y_l|x), s_t the logit of a rejected token and s* that of
    another of the `candidates` likeliest tokens at its place, drawn by their probabilities:
    sigmoid((threshold - M) / temperature) * [-1/|y_w| log pi(y_w|x) + weight/|y_l| * sum over t of -log(exp(s*) / (exp(s*) + exp(s_t)))]

    The draw is replaced by its expectation, so that the loss is a function of the model alone; no gradient flows through the gate. The
    paper labels new answers of the policy every round; these are the data's pairs.
    """

    weight: NonNegativeFloat  # alpha: of the contrast
    candidates: PositiveInt  # k
    threshold: float  # b: margin in nats at which the gate is half open
    temperature: PositiveFloat  # tau: nats over which it closes
    role: ClassVar[Literal["preference"]] = "preference"
    needs_reference: ClassVar[bool] = False
    reads_tokens: ClassVar[bool] = True

    def __call__(self, policy: PairLogps, reference: PairLogps | None) -> Tensor:
        """Loss per pair in nats per token, shape [B]. Raises ValueError without values for tokens."""
        import torch

        _, contrast = sequential(policy)
        gate = torch.sigmoid((self.threshold - policy.chosen + policy.rejected) / self.temperature).detach()
        return gate * (-policy.chosen / policy.chosen_len + self.weight * contrast / policy.rejected_len)

    def token_values(self, logits: Tensor, ids: Tensor, reference: Tensor | None) -> Tensor:
        """Expected -log(exp(s*) / (exp(s*) + exp(s_t))) of each token, [N], in nats."""
        import torch.nn.functional as F

        said = logits.gather(-1, ids[:, None])  # [N, 1]
        others = logits.scatter(-1, ids[:, None], float("-inf")).topk(min(self.candidates, logits.shape[-1] - 1)).values
        drawn = others.detach().softmax(-1)  # [N, k]; the draw itself carries no gradient in the paper
        return -(drawn * F.logsigmoid(others - said)).sum(-1)

    def metrics(self, policy: PairLogps, reference: PairLogps | None) -> dict[str, Tensor]:
        return pair_rewards(policy.chosen, policy.rejected)


def forward_kl(logits: Tensor, reference: Tensor | None) -> Tensor:
    """KL(ref || pi) in nats, [N], of distributions given by logits [N, V]. Raises ValueError without a reference."""
    if reference is None:
        raise ValueError("the KL is to a reference, and there is none")
    theirs = reference.log_softmax(-1)
    return (theirs.exp() * (theirs - logits.log_softmax(-1))).sum(-1)


def sequential(policy: PairLogps) -> tuple[Tensor, Tensor]:
    """Sums [B] of the values of the tokens of chosen and rejected completions. Raises ValueError where there are none."""
    if policy.chosen_tokens is None or policy.rejected_tokens is None:
        raise ValueError("this objective reads a value for each token, and there are none")
    return policy.chosen_tokens.sum(1), policy.rejected_tokens.sum(1)


def _plotted(policy: PairLogps) -> dict[str, Tensor]:
    chosen, rejected = sequential(policy)
    return {"kl_chosen": chosen.detach(), "kl_rejected": rejected.detach()}

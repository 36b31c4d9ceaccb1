"""Policy-gradient objectives on sampled tokens, the critic's loss, and estimators of the divergence from a reference."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal, NamedTuple

from pydantic import NonNegativeFloat, PositiveFloat
from pydantic.dataclasses import dataclass

from polm_bench.graph import FORBID

if TYPE_CHECKING:
    from torch import Tensor

Average = Literal["sequence", "token", "length", "answer"]


class TokenLogps(NamedTuple):
    """N sampled answers of at most T tokens. Log-probs are of the sampled tokens, in nats; padding may hold anything finite."""

    policy: Tensor
    """[N, T], under the weights being trained."""
    old: Tensor
    """[N, T], under the weights that sampled them; without gradient."""
    reference: Tensor | None
    """[N, T], under the frozen reference."""
    entropy: Tensor | None
    """[N, T], of the policy's distribution at each token, in nats."""
    mask: Tensor
    """[N, T], bool, True on the answer's tokens."""


def kl(logps: Tensor, reference: Tensor, estimator: Literal["k1", "k2", "k3"]) -> Tensor:
    """Estimate per token of KL(policy || reference) in nats from a sample of the policy, same shape as the log-probs.

    Schulman 2020, "Approximating KL divergence" (http://joschu.net/blog/kl-approx.html), with d = log policy - log reference:
    k1 = d (unbiased, of any sign), k2 = d^2 / 2 (biased, never negative), k3 = exp(-d) - 1 + d (unbiased, never negative).
    """
    d = logps - reference
    match estimator:
        case "k1":
            return d
        case "k2":
            return d.square() / 2
        case "k3":
            return (-d).exp() - 1 + d


@dataclass(frozen=True, config=FORBID)
class PolicyLoss:
    """A surrogate whose gradient is a policy gradient. Its fields are its hyperparameters; none has a default."""

    version: ClassVar[int] = 1
    """Raise it when what the objective computes changes."""

    average: Average
    """Weight of a token: `sequence` 1/(N * its answer's tokens), `token` 1/(the batch's tokens), `length` 1/(N * the most tokens an answer may have),
    `answer` 1/N: an answer's costs are summed."""
    kl: NonNegativeFloat  # weight of k3 towards the reference in the loss, nats to reward; 0 needs no reference here
    entropy: NonNegativeFloat  # weight of the entropy bonus

    def surrogate(self, logps: TokenLogps, advantages: Tensor) -> Tensor:
        """Cost per token before KL and entropy, [N, T] or [N, 1]; less is better."""
        raise TypeError(f"{type(self).__name__} does not say what it costs")

    def costs(self, logps: TokenLogps, advantages: Tensor) -> Tensor:
        """Cost per token [N, T], to be summed with `weights`."""
        cost = self.surrogate(logps, advantages).expand_as(logps.policy)
        if self.kl:
            if logps.reference is None:
                raise ValueError(f"{type(self).__name__} with kl={self.kl} needs a reference")
            cost = cost + self.kl * kl(logps.policy, logps.reference, "k3")
        if self.entropy:
            if logps.entropy is None:
                raise ValueError(f"{type(self).__name__} with entropy={self.entropy} needs the entropy of each token")
            cost = cost - self.entropy * logps.entropy
        return cost

    def weights(self, mask: Tensor, longest: int) -> Tensor:
        """Weight of each token of an optimiser batch [N, T]; the loss is the weighted sum of costs. `longest`: tokens an answer may have."""
        lengths = mask.sum(1, keepdim=True).clamp(min=1)
        match self.average:
            case "sequence":
                return mask / lengths / len(mask)
            case "token":
                return mask / lengths.sum()
            case "length":
                return mask / (len(mask) * longest)
            case "answer":
                return mask / len(mask)


@dataclass(frozen=True, config=FORBID)
class Clipped(PolicyLoss):
    """Proximal policy optimisation's clipped surrogate.

    Schulman et al. 2017 (arXiv:1707.06347), Eq. 7: -min(w * A, clip(w, 1 - low, 1 + high) * A), w = policy / old.
    Two bounds as in DAPO (arXiv:2503.14476, Eq. 10). `ratio="sequence"` takes the geometric mean of w over the answer's tokens
    (GSPO, arXiv:2507.18071, Eq. 7), `ratio="answer"` the product over them: the whole answer as one action (RLOO, arXiv:2402.14740, Section 2.2).
    """

    low: NonNegativeFloat
    high: NonNegativeFloat
    ratio: Literal["token", "sequence", "answer"]

    def surrogate(self, logps: TokenLogps, advantages: Tensor) -> Tensor:
        import torch

        w = importance(logps, self.ratio)
        return -torch.min(w * advantages, w.clamp(1 - self.low, 1 + self.high) * advantages)


@dataclass(frozen=True, config=FORBID)
class ClippedWeight(PolicyLoss):
    """REINFORCE whose importance weight is clipped and has no gradient, so that every token keeps one.

    MiniMax-M1 2025 (arXiv:2506.13585), Eqs. 4-5 (CISPO): -sg(min(w, high)) * A * log policy. `high` bounds w itself, as in trl.
    """

    high: PositiveFloat

    def surrogate(self, logps: TokenLogps, advantages: Tensor) -> Tensor:
        return -importance(logps, "token").clamp(max=self.high).detach() * advantages * logps.policy


@dataclass(frozen=True, config=FORBID)
class Reinforce(PolicyLoss):
    """Williams 1992: -A * log policy; on the policy's own samples an unbiased policy gradient."""

    def surrogate(self, logps: TokenLogps, advantages: Tensor) -> Tensor:
        return -advantages * logps.policy


def importance(logps: TokenLogps, level: Literal["token", "sequence", "answer"]) -> Tensor:
    """Weights of samples from `old` under `policy`: [N, T] per token, [N, 1] for the geometric mean or the product over the answer."""
    log_ratio = (logps.policy - logps.old) * logps.mask
    if level == "token":
        return log_ratio.exp()
    whole = log_ratio.sum(1, keepdim=True)
    return (whole / logps.mask.sum(1, keepdim=True).clamp(min=1) if level == "sequence" else whole).exp()


@dataclass(frozen=True, config=FORBID)
class Critic:
    """A value of every token, learnt beside the policy.

    Its loss per token is 1/2 * max((V - R)^2, (clip(V, V_old - clip, V_old + clip) - R)^2), as in the PPO of Ziegler et al. 2019
    (arXiv:1909.08593; their train_policy.py), averaged over the batch's tokens. `clip=None` is the plain square.
    """

    weight: PositiveFloat  # of the critic's loss beside the policy's
    clip: float | None  # how far a value may move from the one at sampling, in units of the reward
    own: bool  # True: a network of its own that starts from the reward model; False: a head on the policy's hidden states

    def costs(self, values: Tensor, old: Tensor, returns: Tensor) -> Tensor:
        """Cost per token, all [N, T]."""
        import torch

        cost = (values - returns).square()
        if self.clip is not None:
            near = old + (values - old).clamp(-self.clip, self.clip)
            cost = torch.max(cost, (near - returns).square())
        return cost / 2

"""Advantages: how much better a sampled token was than expected, from scores of whole answers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, ClassVar, Literal, NamedTuple

from pydantic import Field
from pydantic.dataclasses import dataclass

from polm_bench.graph import FORBID

if TYPE_CHECKING:
    from torch import Tensor

SMALL = 1e-4
"""Added to a standard deviation before dividing by it, in units of the reward; trl's value."""


class Scored(NamedTuple):
    """N = P * G sampled answers, the G answers to one prompt next to each other, of at most T tokens."""

    scores: Tensor
    """[N], reward of each whole answer."""
    penalty: Tensor
    """[N, T], what each token costs of the reward for leaving the reference (0 where nothing is charged); 0 on padding."""
    mask: Tensor
    """[N, T], bool, True on the answer's tokens, its end token included."""
    group: int
    """G."""
    values: Tensor | None = None
    """[N, T], a critic's expectation of the reward to come before each token."""
    greedy: Tensor | None = None
    """[P], reward of the likeliest answer to each prompt."""

    def totals(self) -> Tensor:
        """Reward of each answer less its penalty, [N]."""
        return self.scores - self.penalty.sum(1)

    def groups(self) -> Tensor:
        """The totals as [P, G]."""
        return self.totals().view(-1, self.group)

    def spread(self, per_answer: Tensor) -> Tensor:
        """A number per answer [N] at each of its tokens [N, T]."""
        return per_answer[:, None] * self.mask


@dataclass(frozen=True, config=FORBID)
class Advantage:
    """An estimator of advantages. Its fields are its hyperparameters; none has a default."""

    version: ClassVar[int] = 1
    """Raise it when what the estimator computes changes."""
    needs_values: ClassVar[bool] = False
    needs_greedy: ClassVar[bool] = False

    def __call__(self, scored: Scored) -> Tensor:
        """Advantage of each token, [N, T]; 0 on padding."""
        raise TypeError(f"{type(self).__name__} does not say how it estimates")


@dataclass(frozen=True, config=FORBID)
class GAE(Advantage):
    """Generalised advantage estimation on a critic's values.

    Schulman et al. 2016 (arXiv:1506.02438), Eq. 16: A_t = sum_l (gamma * lam)^l * delta_{t+l}, delta_t = r_t + gamma * V_{t+1} - V_t.
    A token's reward is minus its penalty, and the last token's has the answer's score added; after the last token nothing is expected.
    `lam=1` is the whole return less the value (the advantage of A3C with a step count that reaches the end).
    """

    gamma: Annotated[float, Field(gt=0, le=1)]
    lam: Annotated[float, Field(ge=0, le=1)]
    whiten: bool  # advantages of the batch's tokens are brought to mean 0 and variance 1
    needs_values: ClassVar[bool] = True

    def raw(self, scored: Scored) -> Tensor:
        """Advantages before whitening, [N, T]; value plus this is what a critic learns to expect."""
        import torch

        if scored.values is None:
            raise ValueError("GAE needs a critic's values")
        mask = scored.mask
        last = mask.sum(1) - 1
        rewards = -scored.penalty
        rewards = rewards.scatter_add(1, last[:, None], scored.scores[:, None].to(rewards.dtype))
        values = scored.values * mask
        following = torch.cat([values[:, 1:], torch.zeros_like(values[:, :1])], dim=1)
        deltas = (rewards + self.gamma * following - values) * mask
        advantages = torch.zeros_like(deltas)
        running = torch.zeros_like(deltas[:, 0])
        for token in range(deltas.shape[1] - 1, -1, -1):
            running = deltas[:, token] + self.gamma * self.lam * running
            advantages[:, token] = running
        return advantages * mask

    def __call__(self, scored: Scored) -> Tensor:
        advantages = self.raw(scored)
        return whitened(advantages, scored.mask) if self.whiten else advantages


@dataclass(frozen=True, config=FORBID)
class LeaveOneOut(Advantage):
    """An answer's reward less the mean reward of the other answers to its prompt.

    Ahmadian et al. 2024 (arXiv:2402.14740), Section 2.3: R(y_i) - 1/(k-1) * sum_{j != i} R(y_j); the reward has the KL penalty in it.
    """

    def __call__(self, scored: Scored) -> Tensor:
        rewards = scored.groups()
        others = (rewards.sum(1, keepdim=True) - rewards) / (scored.group - 1)
        return scored.spread((rewards - others).flatten())


@dataclass(frozen=True, config=FORBID)
class GroupRelative(Advantage):
    """An answer's reward less its group's mean, over a standard deviation.

    Shao et al. 2024 (arXiv:2402.03300), Section 4.1.2: (r_i - mean(r)) / std(r) over the group. `scale="none"` leaves the division out, as
    Liu et al. 2025 (arXiv:2503.20783), Section 3.2, do; `scale="batch"` divides by the deviation over all answers.
    """

    scale: Literal["group", "batch", "none"]

    def __call__(self, scored: Scored) -> Tensor:
        rewards = scored.groups()
        centred = rewards - rewards.mean(1, keepdim=True)
        if self.scale == "group":
            centred = centred / (rewards.std(1, keepdim=True) + SMALL)
        elif self.scale == "batch":
            centred = centred / (rewards.std() + SMALL)
        return scored.spread(centred.flatten())


@dataclass(frozen=True, config=FORBID)
class GreedyBaseline(Advantage):
    """An answer's reward less that of the likeliest answer to the same prompt; the penalty is charged to each token and those after it.

    Li et al. 2024 (arXiv:2310.10505), Algorithm 2: r(x, y) - r(x, y_greedy). The KL penalty enters each token's return undiscounted; the authors'
    code (liziniu/ReMax, step3_rlhf_finetuning/remax_trainer.py) discounts the reward by 0.99 a token, and charges a token its own penalty alone.
    """

    needs_greedy: ClassVar[bool] = True

    def __call__(self, scored: Scored) -> Tensor:
        if scored.greedy is None:
            raise ValueError("GreedyBaseline needs the rewards of the likeliest answers")
        better = scored.scores - scored.greedy.repeat_interleave(scored.group)
        return (better[:, None] - to_come(scored.penalty)) * scored.mask


@dataclass(frozen=True, config=FORBID)
class BatchWhitened(Advantage):
    """Each token's return (score less the penalties from here on), whitened over all tokens of the batch.

    Hu et al. 2025 (arXiv:2501.03262v9), Eqs. 4 and 5: A_t = r(x, y) - beta * sum_{i >= t} KL_i, then (A - mean) / std over the global batch. No critic and no group.
    """

    def __call__(self, scored: Scored) -> Tensor:
        returns = (scored.scores[:, None] - to_come(scored.penalty)) * scored.mask
        return whitened(returns, scored.mask)


@dataclass(frozen=True, config=FORBID)
class OnlineDPO(Advantage):
    """How much DPO's loss on the best and the worst answer to a prompt falls with the log-prob of each; the others have none.

    Guo et al. 2024 (arXiv:2402.04792), Algorithm 1, with the loss of DPO (arXiv:2305.18290, Eq. 7): its gradient is
    -beta * sigmoid(-h) * (grad log pi(best) - grad log pi(worst)), h = beta * (log-ratio of the best - log-ratio of the worst). The penalty must be
    the log-ratio in nats itself (`rollouts.penalty: 1.0`), the loss REINFORCE averaged by answer, with one step on each round; then the gradient is that
    of the mean over pairs. Log-probs are at the temperature of sampling, where trl's are at 1. A prompt whose answers have the same reward teaches nothing; trl prefers the first of them.
    """

    beta: Annotated[float, Field(gt=0)]

    def __call__(self, scored: Scored) -> Tensor:
        scores = scored.scores.view(-1, scored.group)
        ratios = scored.penalty.sum(1).view(-1, scored.group)
        best, worst = scores.argmax(1, keepdim=True), scores.argmin(1, keepdim=True)
        apart = self.beta * (ratios.gather(1, best) - ratios.gather(1, worst))
        pull = self.beta * (-apart).sigmoid() * scored.group * (scores.gather(1, best) > scores.gather(1, worst))
        found = scores.new_zeros(scores.shape).scatter_add(1, best, pull).scatter_add(1, worst, -pull)
        return scored.spread(found.flatten())


def to_come(penalty: Tensor) -> Tensor:
    """Sums over this and all later tokens, [N, T]."""
    return penalty.flip(1).cumsum(1).flip(1)


def whitened(values: Tensor, mask: Tensor) -> Tensor:
    """`values` [N, T] with mean 0 and variance 1 over the True places of `mask`, 0 elsewhere."""
    chosen = values[mask]
    return (values - chosen.mean()) / (chosen.std(unbiased=False) + SMALL) * mask

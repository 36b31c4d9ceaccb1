"""Distillation objectives: what a student's next-token distribution costs beside its teacher's."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, ClassVar, NamedTuple

from pydantic import Field, NonNegativeFloat, PositiveFloat
from pydantic.dataclasses import dataclass

from polm_bench.graph import FORBID

if TYPE_CHECKING:
    from torch import Tensor


class TokenViews(NamedTuple):
    """Student's and teacher's view of the N completion tokens of a batch, sequence after sequence and in order within one."""

    student: Tensor
    """[N, V], logits before each token."""
    teacher: Tensor
    """[N, V], logits before each token, without gradient."""
    ids: Tensor
    """[N], the tokens."""
    rows: Tensor
    """[N], number of the sequence that each token stands in."""


@dataclass(frozen=True, config=FORBID)
class DistillObjective:
    """A loss per token. Its fields are its hyperparameters; none has a default, a recipe states each with its source."""

    version: ClassVar[int] = 1
    """Raise it when what the objective computes changes."""

    def __call__(self, views: TokenViews) -> Tensor:
        """Loss per token in nats, shape [N]."""
        raise TypeError(f"{type(self).__name__} does not say what it costs")


@dataclass(frozen=True, config=FORBID)
class KD(DistillObjective):
    """Tempered soft targets and the hard label.

    Hinton et al. 2015 (arXiv:1503.02531), Section 2:  T^2 * KL(softmax(teacher / T) || softmax(student / T)) + hard * -log p_student(token)

    T^2 keeps the soft part's gradient of one size whatever T is (the same section). The paper writes the soft part as a cross-entropy, which
    differs by the teacher's entropy, a constant.
    """

    temperature: PositiveFloat
    hard: NonNegativeFloat  # weight of the cross-entropy with the row's own tokens

    def __call__(self, views: TokenViews) -> Tensor:
        import torch.nn.functional as F

        soft = forward_kl(views.student / self.temperature, views.teacher / self.temperature)
        return self.temperature**2 * soft + self.hard * F.cross_entropy(views.student, views.ids, reduction="none")


@dataclass(frozen=True, config=FORBID)
class GKD(DistillObjective):
    """Generalised Jensen-Shannon divergence between teacher P and student Q.

    Agarwal et al. 2024 (arXiv:2306.13649), Eq. 1:  beta * KL(P || M) + (1 - beta) * KL(Q || M)  with  M = beta * P + (1 - beta) * Q.

    At beta 0 it is KL(P || Q) and at beta 1 KL(Q || P), the limits of the formula divided by beta and 1 - beta; trl's GKDTrainer does so too.
    """

    beta: Annotated[float, Field(ge=0, le=1)]
    temperature: PositiveFloat  # of both distributions

    def __call__(self, views: TokenViews) -> Tensor:
        import math

        import torch

        student, teacher = views.student / self.temperature, views.teacher / self.temperature
        if self.beta == 0:
            return forward_kl(student, teacher)
        if self.beta == 1:
            return forward_kl(teacher, student)
        q, p = student.log_softmax(-1), teacher.log_softmax(-1)
        mixture = torch.logaddexp(p + math.log(self.beta), q + math.log1p(-self.beta))
        from_teacher, from_student = (p.exp() * (p - mixture)).sum(-1), (q.exp() * (q - mixture)).sum(-1)
        return self.beta * from_teacher + (1 - self.beta) * from_student


@dataclass(frozen=True, config=FORBID)
class SkewKL(DistillObjective):
    """KL of the teacher P from a mixture that holds a little of it, or of the student Q from one that holds a little of it.

    Ko et al. 2024 (DistiLLM, arXiv:2402.03898), SKL and SRKL:  KL(P || alpha P + (1 - alpha) Q), reverse: KL(Q || alpha Q + (1 - alpha) P).
    """

    alpha: Annotated[float, Field(ge=0, lt=1)]
    reverse: bool

    def __call__(self, views: TokenViews) -> Tensor:
        import math

        import torch

        q, p = views.student.log_softmax(-1), views.teacher.log_softmax(-1)
        first, second = (q, p) if self.reverse else (p, q)
        mixture = second
        if self.alpha:
            mixture = torch.logaddexp(first + math.log(self.alpha), second + math.log1p(-self.alpha))
        return (first.exp() * (first - mixture)).sum(-1)


@dataclass(frozen=True, config=FORBID)
class MiniLLM(DistillObjective):
    """Reverse KL of whole answers that the student wrote, by policy gradient.

    Gu et al. 2024 (arXiv:2306.08543). With r_t = log p(y_t) - log q(y_t), teacher less student, the gradient's single-step part is that of
    KL(q || p) over the vocabulary at each token (Eq. 3), and its long part that of -R_{t+1} * log q(y_t), where R_{t+1} is the mean of r over the
    tokens after t (Eq. 6: length normalisation). The value is a surrogate: only its gradient means something. Answers must be the student's own,
    fresh ones; so importance weights are 1, and there is no teacher-mixed sampling.
    """

    def __call__(self, views: TokenViews) -> Tensor:
        q, p = views.student.log_softmax(-1), views.teacher.log_softmax(-1)
        chosen = views.ids.unsqueeze(-1)
        logq = q.gather(-1, chosen).squeeze(-1)
        gain = (p.gather(-1, chosen).squeeze(-1) - logq).detach()
        return forward_kl(p, q) - mean_after(gain, views.rows) * logq


def forward_kl(student: Tensor, teacher: Tensor) -> Tensor:
    """KL(teacher || student) of logits [N, V] in nats, [N]; the gradient flows to both."""
    p, q = teacher.log_softmax(-1), student.log_softmax(-1)
    return (p.exp() * (p - q)).sum(-1)


def mean_after(values: Tensor, rows: Tensor) -> Tensor:
    """Mean of the values [N] that follow each token in its sequence; 0 after the last. `rows` [N] are ascending."""
    import torch

    after, count = torch.zeros_like(values), torch.zeros_like(values)
    for row in rows.unique():
        here = rows == row
        own = values[here]
        total = own.flip(0).cumsum(0).flip(0) - own
        length = torch.arange(len(own) - 1, -1, -1, device=own.device, dtype=own.dtype)
        after[here], count[here] = total, length
    return after / count.clamp(min=1)

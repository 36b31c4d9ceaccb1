"""Knowledge editing as arithmetic: losses on the new answer, closed-form updates of a linear layer, and how varied a text is."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, ClassVar

from pydantic import Field, NonNegativeFloat, PositiveFloat, PositiveInt
from pydantic.dataclasses import dataclass

from polm_bench.graph import FORBID

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, config=FORBID)
class EditLoss:
    """What learning one token of a new answer costs."""

    version: ClassVar[int] = 1
    """Raise it when what the loss computes changes."""

    def __call__(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Nats per token, [N], from logits [N, V] and token ids [N]."""
        raise TypeError(f"{type(self).__name__} does not say what it costs")


@dataclass(frozen=True, config=FORBID)
class Likelihood(EditLoss):
    """-log p(token)."""

    def __call__(self, logits: Tensor, labels: Tensor) -> Tensor:
        import torch.nn.functional as F

        return F.cross_entropy(logits.float(), labels, reduction="none")


@dataclass(frozen=True, config=FORBID)
class OverTone(EditLoss):
    """Likelihood with a target that follows the model where it already agrees, so that no token is fitted further than the others.

    Liu et al. 2025 (arXiv:2502.00602): target = mix * onehot(token) + (1 - mix) * p', where p' is the model's own distribution (no
    gradient) over the tokens whose logit is within `sigmas` standard deviations of the highest, the others left out; the one-hot target where
    the mixed one would prefer another token. Loss: max(KL(target || p), floor), so a token that is fitted well enough has no gradient.
    """

    mix: Annotated[float, Field(gt=0, le=1)]  # lambda there
    sigmas: PositiveFloat  # n there
    floor: NonNegativeFloat  # epsilon there, nats

    def __call__(self, logits: Tensor, labels: Tensor) -> Tensor:
        import torch.nn.functional as F

        logits = logits.float()
        target = self.target(logits.detach(), labels)
        return F.kl_div(logits.log_softmax(-1), target, reduction="none").sum(-1).clamp(min=self.floor)

    def target(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Target distributions [N, V]."""
        import torch.nn.functional as F

        near = logits >= logits.max(-1, keepdim=True).values - self.sigmas * logits.std(-1, keepdim=True)
        own = logits.masked_fill(~near, -math.inf).softmax(-1)
        plain = F.one_hot(labels, logits.shape[-1]).to(own.dtype)
        mixed = self.mix * plain + (1 - self.mix) * own
        agrees = mixed.argmax(-1, keepdim=True) == labels[:, None]
        return mixed.where(agrees, plain)


@dataclass(frozen=True, config=FORBID)
class PatchLoss:
    """What a neuron costs that should answer to one token's query q and to no other; `a` is its input, q k + b.

    Huang et al. 2023, Transformer-Patcher (arXiv:2301.09785; the authors' src/models/patch.py and src/utils.py), with S the mean of the
    largest few of its argument: active * S(exp(-a(own))) + memory * (S(exp(a(other) - quiet)) + S(exp(a(other) - a(own) + margin)))
    """

    active: NonNegativeFloat  # weight of the activation loss, a there
    memory: NonNegativeFloat  # weight of the memory loss, m there
    quiet: float  # what `a` should stay below elsewhere, beta there
    margin: float  # by how much its own `a` should be above all others, -gamma there
    own_top: PositiveInt  # patches that S counts in the activation loss
    memory_top: PositiveInt  # pairs of patch and memory that S counts in the memory loss

    def __call__(self, own: Tensor, other: Tensor) -> Tensor:
        """Loss, from inputs [P] of the patches at their own queries, and [M, P] at the memory's."""
        return self.active * self.activation(own) + self.memory * self.disturbance(own, other)

    def activation(self, own: Tensor) -> Tensor:
        return mean_of_largest((-own).exp(), self.own_top)

    def disturbance(self, own: Tensor, other: Tensor) -> Tensor:
        loud, near = other - self.quiet, other - own + self.margin
        return mean_of_largest(loud.exp(), self.memory_top) + mean_of_largest(near.exp(), self.memory_top)


def mean_of_largest(values: Tensor, count: int) -> Tensor:
    """Mean of the `count` largest of all values together, or of all where there are fewer."""
    flat = values.flatten()
    return flat.topk(min(count, len(flat))).values.mean()


def essence_drift(after: Tensor, before: Tensor) -> Tensor:
    """KL(after || before) in nats, [N], of log-probabilities [N, V] of what follows the subject in another text.

    Meng et al. 2022, ROME (arXiv:2202.05262), Eq. 4; the authors' rome/compute_v.py and memit/compute_z.py.
    """
    return (after.exp() * (after - before)).sum(-1)


def rank_one(weight: Tensor, key: Tensor, value: Tensor, moment: Tensor) -> Tensor:
    """Change of `weight` [out, in] after which it takes `key` [in] to `value` [out], and other keys as little elsewhere as can be.

    Meng et al. 2022, ROME (arXiv:2202.05262; the authors' rome/compute_u.py and compute_v.py): (v* - W k*) (C^-1 k*)^T / ((C^-1 k*)^T k*), with
    C = E[k k^T] [in, in] over other text.
    """
    import torch

    direction = torch.linalg.solve(moment.double(), key.double())
    residual = value.double() - weight.double() @ key.double()
    return (torch.outer(residual, direction) / (direction @ key.double())).to(weight.dtype)


def spread(keys: Tensor, residuals: Tensor, moment: Tensor, weight: float) -> Tensor:
    """Change [out, in] of a layer that adds `residuals` [out, N] at `keys` [in, N], least squares against what it does to other text.

    Meng et al. 2023, MEMIT (arXiv:2210.07229; the authors' memit/memit_main.py): R K^T (weight * C + K K^T)^-1, with C = E[k k^T] [in, in].
    """
    import torch

    keys, residuals = keys.double(), residuals.double()
    return torch.linalg.solve(weight * moment.double() + keys @ keys.T, keys @ residuals.T).T


def ngram_entropy(words: Sequence[str]) -> float:
    """How varied a text is, in bits: the mean of 2/3 of the entropy of its pairs of words and 4/3 of that of its triples.

    ROME's fluency (arXiv:2202.05262; the authors' experiments/py/eval_utils_counterfact.py). A text that repeats itself is near 0.
    """
    parts = []
    for length, share in ((2, 2 / 3), (3, 4 / 3)):
        counts = Counter(zip(*(words[start:] for start in range(length)), strict=False))
        whole = sum(counts.values())
        parts.append(share * -sum(n / whole * math.log2(n / whole) for n in counts.values()))
    return sum(parts) / 2

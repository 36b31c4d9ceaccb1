"""What every pairwise or unpaired preference objective is given, and what it gives back."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, Literal, NamedTuple

from pydantic.dataclasses import dataclass

from polm_bench.graph import FORBID

if TYPE_CHECKING:
    from torch import Tensor


class PairLogps(NamedTuple):
    """One model's view of B preference pairs. Log-probs are sums over the completion's tokens given the prompt, in nats."""

    chosen: Tensor
    """[B], log p(y_w|x)."""
    rejected: Tensor
    """[B], log p(y_l|x)."""
    chosen_len: Tensor
    """[B], tokens of y_w, its end token included."""
    rejected_len: Tensor
    """[B], tokens of y_l, its end token included."""


class UnpairedLogps(NamedTuple):
    """One model's view of B labelled completions, and of K mismatched ones that estimate how far it has moved.

    K rows may be more than B: the trainer gives those of the whole optimiser batch, of which the B rows are a part. Log-probs are sums over
    the completion's tokens given the prompt, in nats.
    """

    completion: Tensor
    """[B], log p(y|x)."""
    kl: Tensor
    """[K], log p(y'|x), where y' answers another prompt."""
    completion_len: Tensor
    """[B], tokens of y, its end token included."""
    kl_len: Tensor
    """[K], tokens of y', its end token included."""
    label: Tensor
    """[B], bool, True where y is desirable."""


@dataclass(frozen=True, config=FORBID)
class PairObjective:
    """A loss on two log-probs per row. Its fields are its hyperparameters; none has a default, a recipe states each with its source."""

    version: ClassVar[int] = 1
    """Raise it when what the objective computes changes."""
    role: ClassVar[Literal["preference", "unpaired"]]
    """Data role it learns from; decides which record it is called with, `PairLogps` or `UnpairedLogps`."""
    needs_reference: ClassVar[bool]
    """Whether it compares the policy with a frozen reference; otherwise it is called with None as reference."""

    def __call__(self, policy: Any, reference: Any) -> Tensor:
        """Loss per row in nats, shape [B]."""
        raise TypeError(f"{type(self).__name__} does not say what it costs")

    def metrics(self, policy: Any, reference: Any) -> dict[str, Tensor]:
        """What to plot beside the loss: a value per row it is defined for, to be averaged by the caller; without gradient."""
        return {}


def pair_rewards(chosen: Tensor, rejected: Tensor) -> dict[str, Tensor]:
    """Metrics of implicit rewards [B]: the two, their margin, and whether the chosen one is higher (1.0) or not (0.0)."""
    chosen, rejected = chosen.detach(), rejected.detach()
    return {
        "reward_chosen": chosen,
        "reward_rejected": rejected,
        "reward_margin": chosen - rejected,
        "reward_accuracy": (chosen > rejected).to(chosen.dtype),
    }

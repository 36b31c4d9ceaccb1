"""What every preference objective is given, and what it gives back."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, Literal, NamedTuple

from pydantic import PositiveFloat
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
    margin: Tensor | None = None
    """[B], by how much y_w was scored higher than y_l, in the data's unit; only for objectives with `reads_margin`."""
    chosen_tokens: Tensor | None = None
    """[B, T], what the objective's `token_values` gave for the tokens of y_w, 0 after its end; only with `reads_tokens`."""
    rejected_tokens: Tensor | None = None
    """[B, T], the same of y_l."""
    whole: WholeBatch | None = None
    """The optimiser batch that these pairs are a part of; only for objectives with `reads_batch`."""


class WholeBatch(NamedTuple):
    """K pairs of an optimiser batch over all processes, without gradient. B of them are the pairs of the record that holds this one."""

    policy: PairLogps
    """[K] each."""
    reference: PairLogps | None
    """[K] each."""
    rows: Tensor
    """[B], int, which of the K pairs the B pairs are."""


class ListLogps(NamedTuple):
    """One model's view of B prompts with up to M answers each, best first. Log-probs are sums over an answer's tokens given the prompt, in nats."""

    logps: Tensor
    """[B, M], log p(y|x); 0 where there is no answer."""
    lengths: Tensor
    """[B, M], tokens of y, its end token included; 1 where there is no answer."""
    scores: Tensor
    """[B, M], what the data says an answer is worth, in its own unit, falling along M; 0 where there is no answer."""
    mask: Tensor
    """[B, M], bool, True where there is an answer."""


class UnpairedLogps(NamedTuple):
    """One model's view of B labelled completions, and of K mismatched ones that estimate how far it has moved.

    K rows may be more than B: the trainer gives those of the whole optimiser batch, of which the B rows are a part, and none to an objective
    that does not read them (`reads_kl`). Log-probs are sums over the completion's tokens given the prompt, in nats.
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
    reads_margin: ClassVar[bool] = False
    """Whether it reads by how much the chosen completion was scored higher."""
    reads_tokens: ClassVar[bool] = False
    """Whether it reads a value for every token, which `token_values` gives."""
    live_reference: ClassVar[bool] = False
    """Whether `token_values` reads the reference's distributions, so that the reference must stay in memory."""
    reads_batch: ClassVar[bool] = False
    """Whether it reads the log-probs of the whole optimiser batch; they cost one more forward pass."""
    reads_kl: ClassVar[bool] = True
    """Of the role `unpaired`: whether it reads the mismatched completions, which cost a forward pass; without it they are none."""

    def __call__(self, policy: Any, reference: Any) -> Tensor:
        """Loss per row in nats, shape [B]."""
        raise TypeError(f"{type(self).__name__} does not say what it costs")

    def token_values(self, logits: Tensor, ids: Tensor, reference: Tensor | None) -> Tensor:
        """A value for each of the N completion tokens `ids` [N] of a batch, from the logits [N, V] that predict it.

        `reference`: the reference's logits [N, V], with `live_reference`.
        """
        raise TypeError(f"{type(self).__name__} does not say what it reads from a token")

    def metrics(self, policy: Any, reference: Any) -> dict[str, Tensor]:
        """What to plot beside the loss: a value per row it is defined for, to be averaged by the caller; without gradient."""
        return {}


@dataclass(frozen=True, config=FORBID)
class ImplicitReward(PairObjective):
    """A loss on pairs of the reward that a policy implies: beta times its log-ratio to the reference, r(y) = beta * log [pi(y|x) / ref(y|x)]."""

    beta: PositiveFloat  # strength of the pull towards the reference; reward per nat
    role: ClassVar[Literal["preference"]] = "preference"
    needs_reference: ClassVar[bool] = True

    def rewards(self, policy: PairLogps, reference: PairLogps) -> tuple[Tensor, Tensor]:
        """Rewards of chosen and rejected, each [B]."""
        return self.beta * (policy.chosen - reference.chosen), self.beta * (policy.rejected - reference.rejected)

    def metrics(self, policy: PairLogps, reference: PairLogps) -> dict[str, Tensor]:
        return pair_rewards(*self.rewards(policy, reference))


@dataclass(frozen=True, config=FORBID)
class ListObjective:
    """A loss on ranked answers to one prompt. Its fields are its hyperparameters; none has a default, a recipe states each with its source."""

    version: ClassVar[int] = 1
    """Raise it when what the objective computes changes."""
    needs_reference: ClassVar[bool]
    """Whether it compares the policy with a frozen reference; otherwise it is called with None as reference."""

    def __call__(self, policy: ListLogps, reference: ListLogps | None) -> Tensor:
        """Loss per prompt, shape [B]."""
        raise TypeError(f"{type(self).__name__} does not say what it costs")

    def metrics(self, policy: ListLogps, reference: ListLogps | None) -> dict[str, Tensor]:
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

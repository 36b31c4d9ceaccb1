"""Identity preference optimisation."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import PositiveFloat
from pydantic.dataclasses import dataclass

from polm_bench.graph import FORBID
from polm_bench.objectives.base import PairLogps, PairObjective, pair_rewards

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, config=FORBID)
class IPO(PairObjective):
    """Squared distance of the log-ratios' difference from a fixed one, so that a certain pair does not push the policy away without end.

    Azar et al. 2023 (arXiv:2310.12036), Eq. 17, with h = log [pi(y_w|x) / ref(y_w|x)] - log [pi(y_l|x) / ref(y_l|x)]:
    (h - 1 / (2 tau))^2

    With `per_token` each log-ratio is divided by its completion's tokens. The paper has one-token actions and so no length; trl divides,
    citing its authors, and is the same as this then (`loss_type="ipo"`).
    """

    tau: PositiveFloat  # strength of the pull towards the reference, 1/nats; the wanted difference is 1 / (2 tau) nats
    per_token: bool
    role: ClassVar[Literal["preference"]] = "preference"
    needs_reference: ClassVar[bool] = True

    def __call__(self, policy: PairLogps, reference: PairLogps) -> Tensor:
        """Loss per pair in nats squared, shape [B]."""
        chosen, rejected = self.ratios(policy, reference)
        return (chosen - rejected - 1 / (2 * self.tau)) ** 2

    def ratios(self, policy: PairLogps, reference: PairLogps) -> tuple[Tensor, Tensor]:
        """Log-ratios of chosen and rejected, each [B], in nats or in nats per token."""
        chosen, rejected = policy.chosen - reference.chosen, policy.rejected - reference.rejected
        return (chosen / policy.chosen_len, rejected / policy.rejected_len) if self.per_token else (chosen, rejected)

    def metrics(self, policy: PairLogps, reference: PairLogps) -> dict[str, Tensor]:
        return pair_rewards(*self.ratios(policy, reference))

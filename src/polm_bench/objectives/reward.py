"""What a reward model learns from pairs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, ClassVar

from pydantic import Field, PositiveFloat
from pydantic.dataclasses import dataclass

from polm_bench.graph import FORBID

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, config=FORBID)
class BradleyTerry:
    """Likelihood of the preferences under P(first over second) = sigmoid(r_first - r_second - margin).

    Christiano et al. 2017 (arXiv:1706.03741), Eq. 1; Ouyang et al. 2022 (arXiv:2203.02155), Eq. 1. With a share p of judgements for the first,
    the cross-entropy -p * log P - (1 - p) * log(1 - P), as on an AI's soft labels (Lee et al. 2024, arXiv:2309.00267, Section 2.2.1).
    """

    version: ClassVar[int] = 1
    centre: float = Field(
        ge=0
    )  # weight of (r_first + r_second)^2, which keeps rewards near 0 (Eisenstein et al. 2023, arXiv:2312.09244)
    margin: float = Field(
        ge=0
    )  # weight of the row's margin inside the sigmoid (Llama 2, arXiv:2307.09288, Eq. 2); 0 leaves it out

    def __call__(self, first: Tensor, second: Tensor, share: Tensor, margin: Tensor | None) -> Tensor:
        """Loss per pair in nats; all [B]. `share` is 1 where the first answer is simply the preferred one."""
        import torch.nn.functional as F

        apart = first - second
        if self.margin:
            if margin is None:
                raise ValueError("BradleyTerry with a margin needs rows that have one")
            apart = apart - self.margin * margin
        loss = -share * F.logsigmoid(apart) - (1 - share) * F.logsigmoid(-apart)
        return loss + self.centre * (first + second).square() if self.centre else loss


@dataclass(frozen=True, config=FORBID)
class KeepWriting:
    """Regularises a reward model's hidden states: the language model's output layer must still write the preferred answers from them.

    Yang et al. 2024 (GRM, arXiv:2406.10216), Section 3.2: (1 - alpha) * L_reward + alpha * L_text with the SFT regularisation
    L_text = -log sigmoid(beta * log p(y_w|x)). The head of the reward is linear here; the authors' may have a layer more.
    """

    version: ClassVar[int] = 1
    alpha: Annotated[float, Field(gt=0, lt=1)]
    beta: PositiveFloat  # per nat

    def __call__(self, reward: Tensor, logps: Tensor) -> Tensor:
        """Loss per pair [B], from the reward's losses [B] and the log-probs [B] of the preferred answers in nats."""
        import torch.nn.functional as F

        return (1 - self.alpha) * reward - self.alpha * F.logsigmoid(self.beta * logps)


@dataclass(frozen=True, config=FORBID)
class SquaredError:
    """Regression on ratings: (r(x, y) - rating)^2.

    Wang et al. 2024 (HelpSteer2, arXiv:2406.08673): mean squared error to the annotators' rating, on its own scale.
    """

    version: ClassVar[int] = 1

    def __call__(self, rewards: Tensor, ratings: Tensor) -> Tensor:
        """Loss per answer, in the rating's unit squared; all [B]."""
        return (rewards - ratings).square()

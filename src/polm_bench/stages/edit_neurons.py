"""Which weights hold facts: those that the chance of an answer hangs on most."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from pydantic import Field, PositiveInt
from pydantic.dataclasses import dataclass

from polm_bench.graph import FORBID

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import PreTrainedModel

    from polm_bench.stages.edit import Batches
    from polm_bench.trainers.purse import Purse

Share = Annotated[float, Field(gt=0, lt=1)]


@dataclass(frozen=True, config=FORBID)
class KnowledgeNeurons:
    """The weights with the highest attribution for the new answers' tokens; an edit moves only these, in all layers together.

    Li et al. 2024, Knowledge Neuronal Ensemble (arXiv:2412.20637), abstract: a gradient attribution score for each parameter of each layer. The score is
    integrated as Dai et al. 2022 (arXiv:2104.08696, Eq. 2) do it for neurons: |w * 1/m sum over k = 1..m of dP(y | x; w k/m)/dw|.
    """

    points: PositiveInt  # m, of the integral
    kept: Share  # of the weights that an editor may change
    look: Share  # of the spend, at most, for the attribution; the batch that reaches it is the last

    def masks(self, model: PreTrainedModel, batches: Batches, purse: Purse) -> dict[str, Tensor]:
        """1 where a trainable weight is of the ensemble, else 0, by name."""
        from polm_bench.models.selection import largest

        found = {name: score.abs() for name, score in self.attribution(model, batches, purse).items()}
        count = int(self.kept * sum(score.numel() for score in found.values()))
        return largest(found, max(1, count))

    def attribution(self, model: PreTrainedModel, batches: Batches, purse: Purse) -> dict[str, Tensor]:
        """Signed score of each trainable weight, summed over batches of facts; the weights are as before when it returns."""
        import torch

        from polm_bench.stages.edit import answer_loss, lengths_of

        trained = {name: weight for name, weight in model.named_parameters() if weight.requires_grad}
        before = {name: weight.detach().clone() for name, weight in trained.items()}
        found = {name: torch.zeros_like(weight) for name, weight in before.items()}
        for point in range(self.points, 0, -1):
            with torch.no_grad():
                for name, weight in trained.items():
                    weight.copy_(before[name] * (point / self.points))
            for batch in batches.each(purse):
                model.zero_grad()
                answer_loss(model, batch["new"], chance).backward()
                for name, weight in trained.items():
                    found[name] += weight.grad  # type: ignore[operator]  # every one of them is read
                purse.pay(lengths_of(batch))
                if looked := purse.used() >= self.look * purse.spend.amount:
                    break
            if looked:
                break
        model.zero_grad()
        with torch.no_grad():
            for name, weight in trained.items():
                weight.copy_(before[name])
        return {name: before[name] * found[name] / self.points for name in found}


def chance(logits: Tensor, labels: Tensor) -> Tensor:
    """Probability of each token, [N], from logits [N, V] and token ids [N]."""
    return logits.float().softmax(-1).gather(1, labels[:, None])[:, 0]

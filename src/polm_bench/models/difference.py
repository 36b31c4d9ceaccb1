"""Training a sparse difference from a model's weights, whose places are learned with it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from pydantic import Field
from pydantic.dataclasses import dataclass

from polm_bench.errors import BadBudget
from polm_bench.graph import FORBID
from polm_bench.models.tuning import Training, Tuning

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel

BOUNDARY = "diff_pruning_boundary"
"""Attribute of a model in training: the step after which the mask is fixed."""


@dataclass(frozen=True, config=FORBID)
class DiffPruning(Tuning):
    """theta + z * w: w is trained for all weights under a mask z that is drawn at every step, then for the few that are kept.

    Diff pruning, Guo et al. 2021 (arXiv:2012.07463), Section 3.1: z is hard concrete, and its expected number of ones is penalised. Section 3.3:
    in the end the changes of largest size stay, and are trained on under this fixed mask. Without the variant whose groups share a part of the mask.
    The weight `l0` of the penalty is for all of them together, so that it means the same for models of other sizes.
    """

    alpha: float  # log odds of the mask at the start
    density: float = Field(gt=0, lt=1)  # share of all weights that is changed in the end
    share: float = Field(gt=0, lt=1)  # of the steps, after which the mask is fixed
    l0: float = Field(ge=0)  # nats of the penalty, were all weights changed
    alpha_rate: float = Field(gt=0)  # factor on the learning rate for the log odds
    low: float = Field(lt=0)
    high: float = Field(gt=1)

    def attach(self, model: PreTrainedModel) -> PreTrainedModel:
        from polm_bench.models.reparameterized import Difference, reparameterize, weights

        reparameterize(
            model, [Difference(weight.detach(), self.alpha, self.low, self.high) for weight in weights(model)]
        )
        model.register_forward_pre_hook(_draw)  # once for both places of a tied weight
        return model

    def begin(self, model: PreTrainedModel, run: Training) -> None:
        """Raises BadBudget for a budget in seconds: its number of steps is not known."""
        if run.timed:
            raise BadBudget(
                "diff pruning fixes its mask after a share of the steps, which a budget in seconds does not tell; give steps or tokens"
            )
        setattr(model, BOUNDARY, max(1, round(self.share * run.steps)))

    def rate(self, name: str) -> float:
        return self.alpha_rate if name.endswith(".alpha") else 1.0

    def penalty(self, model: PreTrainedModel) -> torch.Tensor | None:
        from polm_bench.objectives.sparsity import expected_nonzero

        parts = _differences(model)
        if parts[0].mask is not None:
            return None
        ones = sum(expected_nonzero(part.alpha, self.low, self.high).sum() for part in parts)
        return self.l0 * ones / sum(part.alpha.numel() for part in parts)

    def after_step(self, model: PreTrainedModel, step: int) -> None:
        if step + 1 == getattr(model, BOUNDARY):
            self.fix(model)

    def fix(self, model: PreTrainedModel) -> None:
        """Keep the largest changes, as the mask most likely is, and only these."""
        from polm_bench.models.selection import largest

        parts = {str(number): part for number, part in enumerate(_differences(model))}
        for part in parts.values():
            part.change.data = part.change.detach() * part.gate(0.5).detach()
        masks = largest({name: part.change.detach().abs() for name, part in parts.items()}, self.trained(model))
        for name, part in parts.items():
            part.mask = masks[name]

    def state(self, model: PreTrainedModel) -> dict[str, torch.Tensor]:
        """Masks that are fixed are kept; before that the random state of the run draws them."""
        masks = {f"mask/{n}": part.mask for n, part in enumerate(_differences(model)) if part.mask is not None}
        return {**super().state(model), **masks}

    def restore(self, model: PreTrainedModel, state: Mapping[str, torch.Tensor]) -> None:
        for number, part in enumerate(_differences(model)):
            if (mask := state.get(f"mask/{number}")) is not None:
                part.mask = mask.to(part.change)
        super().restore(model, state)

    def trained(self, model: PreTrainedModel) -> int:
        return max(1, int(self.density * sum(part.change.numel() for part in _differences(model))))

    def finish(self, model: PreTrainedModel) -> None:
        from polm_bench.models.reparameterized import settle

        settle(model)


def _differences(model: PreTrainedModel) -> list[Any]:
    from polm_bench.models.reparameterized import Difference

    return [module for module in model.modules() if isinstance(module, Difference)]


def _draw(model: PreTrainedModel, args: Any) -> None:
    for part in _differences(model):
        part.draw()

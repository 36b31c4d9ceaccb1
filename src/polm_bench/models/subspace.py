"""Training in a random subspace of few dimensions of all of a model's weights."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pydantic import Field
from pydantic.dataclasses import dataclass

from polm_bench.errors import BadOverride
from polm_bench.graph import FORBID
from polm_bench.models.tuning import Tuning

if TYPE_CHECKING:
    import torch
    from torch import nn
    from transformers import PreTrainedModel


@dataclass(frozen=True, config=FORBID)
class IntrinsicSaid(Tuning):
    """Every weight is what it was plus a random projection of one short vector, times a factor of its own.

    Structure-aware intrinsic dimension, Aghajanyan et al. 2020 (arXiv:2012.13255), Equation 3: theta_i = theta_i0 + lambda_i P(theta_(d-m))_i, with m
    factors lambda and P the Fastfood transform. The factors start at 1 and the vector at 0. Projections are drawn from the stage's seed and are not
    kept: in the end the change is folded into the weights.
    """

    dimensions: int = Field(gt=0)  # d, of the vector and the factors together

    def attach(self, model: PreTrainedModel) -> PreTrainedModel:
        """Raises BadOverride where the dimensions are no more than the weights that need a factor."""
        from torch.nn.utils.parametrize import register_parametrization

        from polm_bench.models.reparameterized import Projected, Subspace

        model.requires_grad_(False)
        places = _places(model)
        numbers = {weight: number for number, weight in enumerate(dict.fromkeys(weight for *_, weight in places))}
        if self.dimensions <= len(numbers):
            raise BadOverride(
                f"adapter.dimensions is {self.dimensions}, of which the factors of {len(numbers)} weights take one each; give more"
            )
        subspace = Subspace(self.dimensions - len(numbers), len(numbers)).to(model.device)
        drawn = {weight: Projected(subspace, number, weight.numel()).to(weight) for weight, number in numbers.items()}
        for module, name, weight in places:
            register_parametrization(module, name, drawn[weight])
        model.add_module("intrinsic", subspace)
        return model

    def finish(self, model: PreTrainedModel) -> None:
        from torch.nn.utils.parametrize import is_parametrized, remove_parametrizations

        found: dict[torch.Tensor, torch.Tensor] = {}
        changed = [module for module in model.modules() if is_parametrized(module)]
        for module in changed:
            for name in list(module.parametrizations):
                value = getattr(module, name).detach()
                remove_parametrizations(module, name, leave_parametrized=False)
                found[getattr(module, name)] = value
        for weight, value in found.items():
            weight.data = value
        del model.intrinsic


def _places(model: PreTrainedModel) -> list[tuple[nn.Module, str, Any]]:
    """Every weight where it stands: module, name in it, weight; a tied one stands in several places."""
    return [
        (module, name, weight)
        for module in model.modules()
        for name, weight in list(module.named_parameters(recurse=False))
    ]

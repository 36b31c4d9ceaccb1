"""Training in a random subspace of few dimensions of all of a model's weights."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import Field
from pydantic.dataclasses import dataclass

from polm_bench.errors import BadOverride
from polm_bench.graph import FORBID
from polm_bench.models.tuning import Tuning

if TYPE_CHECKING:
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
        from polm_bench.models.reparameterized import Projected, Subspace, reparameterize, weights

        own = weights(model)
        if self.dimensions <= len(own):
            raise BadOverride(
                f"adapter.dimensions is {self.dimensions}, of which the factors of {len(own)} weights take one each; give more"
            )
        subspace = Subspace(self.dimensions - len(own), len(own)).to(model.device)
        reparameterize(model, [Projected(subspace, number, w.numel()).to(w) for number, w in enumerate(own)])
        model.add_module("intrinsic", subspace)
        return model

    def finish(self, model: PreTrainedModel) -> None:
        from polm_bench.models.reparameterized import settle

        settle(model)
        del model.intrinsic

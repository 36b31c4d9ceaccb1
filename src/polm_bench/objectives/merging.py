"""Merging as arithmetic on weights: several models of one architecture to one, by name of the weight."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from pydantic import Field, PositiveFloat, PositiveInt
from pydantic.dataclasses import dataclass

from polm_bench.graph import FORBID

if TYPE_CHECKING:
    from torch import Tensor

    Weights = Mapping[str, Tensor]


@dataclass(frozen=True, config=FORBID)
class MergeRule:
    """How the weights of T models that were fine-tuned from one base become those of one model."""

    version: ClassVar[int] = 1
    """Raise it when what the rule computes changes."""
    statistics: ClassVar[Literal["none", "fisher", "gram"]] = "none"
    """What it must know of each model beside its weights."""

    def __call__(self, base: Weights, models: Sequence[Weights], statistics: Sequence[Weights]) -> dict[str, Tensor]:
        """Merged weights by name. `statistics` has one mapping a model, or is empty."""
        raise TypeError(f"{type(self).__name__} does not say how it merges")


@dataclass(frozen=True, config=FORBID)
class Average(MergeRule):
    """The mean of the weights.

    Wortsman et al. 2022 (arXiv:2203.05482), uniform soup: theta = 1/T sum_t theta_t
    """

    def __call__(self, base: Weights, models: Sequence[Weights], statistics: Sequence[Weights]) -> dict[str, Tensor]:
        return {name: sum(model[name] for model in models) / len(models) for name in base}  # type: ignore[misc]


@dataclass(frozen=True, config=FORBID)
class NormWeighted(MergeRule):
    """Task arithmetic with coefficients in closed form, from the lengths of the task vectors tau_t = theta_t - theta_0 alone.

    Zhou et al. 2024, MetaGPT (arXiv:2406.11385): lambda_t = |tau_t|^2 / sum_k |tau_k|^2;  theta = theta_0 + sum_t lambda_t tau_t

    The norm is over all weights together, as the closed form is derived for the whole model.
    """

    def __call__(self, base: Weights, models: Sequence[Weights], statistics: Sequence[Weights]) -> dict[str, Tensor]:
        scales = self.coefficients(base, models)
        return {
            name: start + sum(scale * (model[name] - start) for scale, model in zip(scales, models, strict=True))
            for name, start in base.items()
        }

    def coefficients(self, base: Weights, models: Sequence[Weights]) -> list[float]:
        """lambda_t of each model; they add up to 1. Models equal to the base share it."""
        squares = [
            sum(float((model[name].double() - start.double()).square().sum()) for name, start in base.items())
            for model in models
        ]
        whole = sum(squares)
        return [square / whole if whole else 1 / len(models) for square in squares]


@dataclass(frozen=True, config=FORBID)
class Consensus(MergeRule):
    """Task arithmetic without the weights that matter to fewer than `agree` tasks.

    Wang et al. 2024, TALL masks (arXiv:2405.07813; the authors' src/utils/tallmask_utils.py), with tau = sum_t tau_t:
    m_t = [|tau_t| > threshold * |tau - tau_t|];  theta = theta_0 + scale * [sum_t m_t >= agree] * tau
    """

    threshold: PositiveFloat  # lambda_t there: how much larger than the others' part a task's own must be
    agree: PositiveInt  # tasks that must need a weight for it to be kept
    scale: PositiveFloat  # alpha there, task arithmetic's coefficient

    def __call__(self, base: Weights, models: Sequence[Weights], statistics: Sequence[Weights]) -> dict[str, Tensor]:
        return {name: self._one(start, [model[name] - start for model in models]) for name, start in base.items()}

    def _one(self, start: Tensor, vectors: Sequence[Tensor]) -> Tensor:
        whole = sum(vectors[1:], vectors[0])
        needed = sum((vector.abs() > self.threshold * (whole - vector).abs()).to(start.dtype) for vector in vectors)
        return start + self.scale * (needed >= self.agree) * whole  # type: ignore[operator]


@dataclass(frozen=True, config=FORBID)
class FisherAverage(MergeRule):
    """Weights averaged by how sure each model is of them.

    Matena and Raffel 2022 (arXiv:2111.09832): theta^j = sum_t F_t^j theta_t^j / sum_t F_t^j, F_t the diagonal of the Fisher information
    """

    floor: PositiveFloat  # added to each F, so that a weight no model is sure of is averaged plainly
    statistics: ClassVar[Literal["fisher"]] = "fisher"

    def __call__(self, base: Weights, models: Sequence[Weights], statistics: Sequence[Weights]) -> dict[str, Tensor]:
        merged = {}
        for name in base:
            sure = [known[name] + self.floor for known in statistics]
            top = sum(f * model[name] for f, model in zip(sure, models, strict=True))
            merged[name] = top / sum(sure[1:], sure[0])
        return merged


@dataclass(frozen=True, config=FORBID)
class RegMean(MergeRule):
    """Linear layers merged so that the merged layer gives what each model's own gives, on that model's inputs, in least squares; others averaged.

    Jin et al. 2023 (arXiv:2212.09849), Section 3, with inputs X_t [N, in], G_t = X_t^T X_t and W_t [out, in] (the authors' regmean_demo.ipynb divides
    G_t by its tokens, so that a model with more of them counts no more):
    W = (sum_t W_t G'_t) (sum_t G'_t)^-1,  G' = alpha G + (1 - alpha) diag(G)
    """

    alpha: Annotated[float, Field(ge=0, le=1)]  # how much of the products between different inputs counts
    statistics: ClassVar[Literal["gram"]] = "gram"

    def __call__(self, base: Weights, models: Sequence[Weights], statistics: Sequence[Weights]) -> dict[str, Tensor]:
        merged = Average()(base, models, ())
        for name in statistics[0]:
            merged[name] = self._linear([model[name] for model in models], [known[name] for known in statistics])
        return merged

    def _linear(self, weights: Sequence[Tensor], grams: Sequence[Tensor]) -> Tensor:
        """[out, in] from T weights [out, in] and T products [in, in]."""
        import torch

        shrunk = []
        for gram in grams:
            gram = gram.double()
            shrunk.append(self.alpha * gram + (1 - self.alpha) * torch.diag(torch.diag(gram)))
        whole = sum(shrunk[1:], shrunk[0])
        floor = (
            1e-8 * float(torch.diag(whole).mean()) or 1.0
        )  # an input that is always 0 leaves its column undetermined
        mean = sum(weights[1:], weights[0]).double() / len(weights)
        target = sum(w.double() @ g for w, g in zip(weights, shrunk, strict=True)) + floor * mean
        ridge = whole + floor * torch.eye(len(whole), dtype=whole.dtype, device=whole.device)
        return torch.linalg.solve(ridge, target.T).T.to(weights[0].dtype)  # ridge is symmetric

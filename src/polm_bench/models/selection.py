"""Training some of a model's own weights: by name, by a mask found on rows of the data, or by a mask drawn at every step."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field
from pydantic.dataclasses import dataclass

from polm_bench.errors import BadModel
from polm_bench.graph import FORBID
from polm_bench.models.tuning import Look, Training, Tuning

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel

BIAS_SWITCHES = ("attention_bias", "mlp_bias")
"""Switches of transformers' configurations that give linear layers a bias."""


@dataclass(frozen=True, config=FORBID)
class Selection(Tuning):
    """The weights whose names match; all else stays as it is. The model remains a plain one."""

    names: tuple[str, ...]  # regular expressions, found anywhere in a weight's name
    add_biases: bool = False  # first give linear layers biases of zero, where the architecture can have them

    def attach(self, model: PreTrainedModel) -> PreTrainedModel:
        """Raises BadModel where no weight matches."""
        model = with_biases(model) if self.add_biases else model
        for name, weight in model.named_parameters():
            weight.requires_grad_(any(re.search(pattern, name) for pattern in self.names))
        if not any(weight.requires_grad for weight in model.parameters()):
            raise BadModel(
                f"a {model.config.model_type} model has no weight whose name matches {' or '.join(self.names)}"
            )
        return model


@dataclass(frozen=True, config=FORBID)
class Masked(Tuning):
    """The `density` weights of the whole model with the largest score on some rows; the mask is found once, and the rest never moves.

    `fisher`: mean over rows of the squared gradient, the diagonal of the empirical Fisher information; FISH mask, Sung et al. 2021
    (arXiv:2111.09839), and Child-Tuning-D, Xu et al. 2021 (arXiv:2109.05687), whose authors square the gradients of whole batches, rank the
    weights inside the layers, train all others, and mask after the clipping (their ChildTuningD.py); here the mask comes before it.
    `second_order`: square of the mean gradient; SAM, Fu et al. 2023 (arXiv:2211.15583), with equal curvatures: the weights by which the
    loss can fall most. Its authors' src/runner.py takes the same share of each tensor.
    """

    version: ClassVar[int] = 2

    score: Literal["fisher", "second_order"]
    density: float = Field(gt=0, lt=1)  # share of all weights that are trained
    rows: int = Field(gt=0)  # that are looked at, at most
    share: float = Field(gt=0, lt=1)  # of the budget, at most, for looking at them

    @property
    def look(self) -> Look:
        return Look(self.share, self.rows)

    def attach(self, model: PreTrainedModel) -> PreTrainedModel:
        return model.requires_grad_(True)

    def begin(self, model: PreTrainedModel, run: Training) -> None:
        """Find the mask; from here on gradients outside of it are zero, so that AdamW without decay leaves those weights alone."""
        masks = largest(scores(model, run.seen, self.score), self.trained(model))
        for name, weight in model.named_parameters():
            weight.register_hook(masks[name].mul)

    def trained(self, model: PreTrainedModel) -> int:
        return max(1, int(self.density * sum(weight.numel() for weight in model.parameters())))


@dataclass(frozen=True, config=FORBID)
class Dropped(Tuning):
    """At every step other weights move: a gradient is kept with probability `kept`, and then divided by it.

    Child-Tuning-F, Xu et al. 2021 (arXiv:2109.05687). As in the authors' ChildTuningOptimizer.py, the mask meets the clipped gradient, before Adam's
    moments; a weight whose gradient was dropped still moves by its momentum.
    """

    kept: float = Field(gt=0, lt=1)

    def attach(self, model: PreTrainedModel) -> PreTrainedModel:
        return model.requires_grad_(True)

    def before_step(self, model: PreTrainedModel, step: int, seed: int) -> None:
        import torch

        drawing = torch.Generator().manual_seed(
            seed * 1_000_003 + step
        )  # of the step alone, so that a resumed run draws the same
        for weight in model.parameters():
            if weight.grad is not None:
                kept = torch.rand(weight.shape, generator=drawing) < self.kept
                weight.grad.mul_(kept.to(weight.grad) / self.kept)


def scores(
    model: PreTrainedModel, rows: Iterable[Mapping[str, torch.Tensor]], score: Literal["fisher", "second_order"]
) -> dict[str, torch.Tensor]:
    """Score of each weight over rows [1, T]; the loss of a row is the mean of its answer's tokens, in nats."""
    import torch

    summed = {name: torch.zeros_like(weight) for name, weight in model.named_parameters()}
    count = 0
    for row in rows:
        model.zero_grad()
        model(**row).loss.backward()
        for name, weight in model.named_parameters():
            if weight.grad is not None:
                summed[name] += weight.grad.square() if score == "fisher" else weight.grad
        count += 1
    model.zero_grad()
    means = {name: total / count for name, total in summed.items()}
    return means if score == "fisher" else {name: mean.square() for name, mean in means.items()}


def largest(values: Mapping[str, torch.Tensor], count: int) -> dict[str, torch.Tensor]:
    """Masks of 1 and 0 with exactly `count` ones, at the largest values over all tensors together."""
    import torch

    whole = torch.cat([value.flatten() for value in values.values()])
    mask = torch.zeros_like(whole)
    mask[whole.topk(count).indices] = 1
    parts = mask.split([value.numel() for value in values.values()])
    return {name: part.reshape(value.shape) for (name, value), part in zip(values.items(), parts, strict=True)}


def with_biases(model: PreTrainedModel) -> PreTrainedModel:
    """The same model, saying the same, with biases of zero in its linear layers. Raises BadModel where its architecture has none."""
    import copy

    import torch
    from transformers import AutoModelForCausalLM

    config = copy.deepcopy(model.config)
    switches = [name for name in BIAS_SWITCHES if hasattr(config, name)]
    for name in switches:
        setattr(config, name, True)
    wider = AutoModelForCausalLM.from_config(
        config, dtype=model.dtype, attn_implementation=model.config._attn_implementation
    )
    missing, unexpected = wider.load_state_dict(model.state_dict(), strict=False)
    if unexpected or not all(name.endswith(".bias") for name in missing):
        raise BadModel(f"a {config.model_type} model can't be given biases: {[*missing, *unexpected][:3]} do not fit")
    if not any(name.endswith(".bias") for name, _ in wider.named_parameters()):
        raise BadModel(f"the architecture {config.model_type} has no biases and no switch for them")
    with torch.no_grad():
        for name in missing:
            wider.get_parameter(name).zero_()
    wider.generation_config = model.generation_config
    return wider.to(model.device).train(model.training)

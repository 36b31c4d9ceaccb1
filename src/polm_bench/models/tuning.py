"""What of a model is trained: the seam between a training stage and the ways to train less than all weights."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

from pydantic.dataclasses import dataclass

from polm_bench.errors import BadOverride
from polm_bench.graph import FORBID

if TYPE_CHECKING:
    from pathlib import Path

    import torch
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


class Training(NamedTuple):
    """What a tuning may know of the run that it is used in."""

    steps: int
    accumulation: int  # micro-batches to one optimiser step
    timed: bool  # the budget is in seconds, so `steps` is only a bound
    seen: Sequence[Mapping[str, torch.Tensor]]  # what `look` asked for: rows of the training data, each a batch [1, T]


class Look(NamedTuple):
    """Rows that a tuning reads before training starts."""

    share: float  # of the stage's budget, at most spent on them
    rows: int  # at most


@dataclass(frozen=True, config=FORBID)
class Tuning:
    """A way to train less than all weights of a model. Called in the order of the methods below; a step counts from 0."""

    writes: ClassVar[str] = "model"
    """`model`: a whole model folder; `adapter`: a folder that only means something beside its base."""
    plain: ClassVar[bool] = True
    """Whether the model that was trained has the modules of its architecture and no others."""

    @property
    def look(self) -> Look | None:
        """What it must read before training starts; it costs a forward and a backward pass a row."""
        return None

    def attach(self, model: PreTrainedModel) -> PreTrainedModel:
        """`model` with what is trained in place; only this has gradients."""
        raise TypeError(f"{type(self).__name__} does not say what it trains")

    def warm(self, model: Any, folder: Path) -> None:
        """Take the trained weights of an earlier training of the same kind, whose output is `folder`."""
        raise BadOverride(f"{type(self).__name__} can't go on from an earlier training; a peft adapter can")

    def begin(self, model: PreTrainedModel, run: Training) -> None:
        """The length of the run is known now, and the rows it asked to see are there."""

    def rate(self, name: str) -> float:
        """Factor on the learning rate of the trained weight `name`."""
        return 1.0

    def before_step(self, model: PreTrainedModel, step: int, seed: int) -> None:
        """The step's gradients are summed and clipped; the weights have not moved."""

    def after_step(self, model: PreTrainedModel, step: int) -> None:
        """The weights have moved; the step's gradients are still there."""

    def penalty(self, model: PreTrainedModel) -> torch.Tensor | None:
        """What is added to the loss of a step, in nats."""
        return None

    def state(self, model: PreTrainedModel) -> dict[str, torch.Tensor]:
        """All that a checkpoint must keep beside the optimiser's state."""
        return {name: weight.detach() for name, weight in model.named_parameters() if weight.requires_grad}

    def restore(self, model: PreTrainedModel, state: Mapping[str, torch.Tensor]) -> None:
        """Put back what `state` gave."""
        import torch

        with torch.no_grad():
            for name, weight in model.named_parameters():
                if weight.requires_grad:
                    weight.copy_(state[name])

    def finish(self, model: PreTrainedModel) -> None:
        """Training is over; the model is written next."""

    def trained(self, model: PreTrainedModel) -> int:
        """Number of weights that training may move."""
        return sum(weight.numel() for weight in model.parameters() if weight.requires_grad)

    def save(self, model: Any, tokenizer: PreTrainedTokenizerBase, folder: Path) -> None:
        """Write what `writes` says."""
        from polm_bench.models.load import save_model

        save_model(model, tokenizer, folder)

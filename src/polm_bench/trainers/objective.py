"""What trainers share whose loss is a mean over rows: that mean over an optimiser batch, its plots, and a reference that stays in memory."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from accelerate.utils import gather_object
from safetensors.torch import load_model, save_model
from torch import Tensor, nn
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from polm_bench.trainers.base import ScheduledTrainer
from polm_bench.trainers.logps import Batch

REFERENCE = "reference.safetensors"  # in a checkpoint's folder: the reference as it had moved


class LiveReference(NamedTuple):
    """A reference model that stays in memory, and how it follows the policy: reference = share * policy + (1 - share) * reference."""

    model: nn.Module
    share: float = 0.0
    every: int = 0
    """Optimiser steps between two moves; 0 for a reference that stays as it is."""


class MeanTrainer(ScheduledTrainer):
    """Minimises the mean of a loss over the rows of each optimiser batch.

    The gradient is that of the mean over all rows of the optimiser batch, over all processes, whatever its split into micro-batches.
    """

    def __init__(
        self,
        *,
        model: nn.Module,
        args: TrainingArguments,
        rows: Sequence[Any],
        batches: Sequence[Sequence[int]],
        collator: Any,
        callbacks: Sequence[TrainerCallback] = (),
    ) -> None:
        super().__init__(
            model=model, args=args, rows=rows, batches=batches, data_collator=collator, callbacks=list(callbacks)
        )
        # compute_loss divides by the rows of the optimiser batch; with False, Trainer would divide by the accumulation again.
        self.model_accepts_loss_kwargs = True
        self.plotted: dict[str, list[Tensor]] = {}

    def get_batch_samples(
        self, epoch_iterator: Iterator[Batch], num_batches: int, device: torch.device
    ) -> tuple[list[Batch], Tensor]:
        """The micro-batches of one optimiser step, and how many rows they have over all processes."""
        batches, _ = super().get_batch_samples(epoch_iterator, num_batches, device)
        rows = torch.tensor(sum(self.rows_in(batch) for batch in batches), device=device)
        if batches:
            self.look_ahead(batches)
        return batches, self.accelerator.gather(rows).sum()

    def rows_in(self, batch: Batch) -> int:
        """Rows of a micro-batch."""
        raise TypeError(f"{type(self).__name__} does not say how it counts rows")

    def look_ahead(self, batches: Sequence[Batch]) -> None:
        """Called with the micro-batches of an optimiser step before the first is trained on."""

    def losses(self, model: nn.Module, inputs: Batch) -> Tensor:
        """The loss of each row of a micro-batch."""
        raise TypeError(f"{type(self).__name__} does not say what it minimises")

    def compute_loss(
        self,
        model: nn.Module,
        inputs: Batch,
        return_outputs: bool = False,
        num_items_in_batch: Tensor | int | None = None,
    ) -> Tensor:
        """This micro-batch's share of the mean loss, a scalar; the shares of an optimiser batch add up to its mean."""
        if return_outputs or num_items_in_batch is None:
            raise NotImplementedError(f"{type(self).__name__} trains only; score a model with a stage that evaluates")
        losses = self.losses(model, inputs)
        return losses.sum() / num_items_in_batch * self.accelerator.num_processes  # processes' gradients are averaged

    def plot(self, values: dict[str, Tensor]) -> None:
        """Keep values for the next log, which takes their means."""
        for name, value in values.items():
            self.plotted.setdefault(name, []).append(value)

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Adds the means of what was plotted since the last log, over the rows of all processes."""
        plotted = {name: torch.cat(values) for name, values in self.plotted.items()}
        if self.accelerator.num_processes > 1:
            parts = gather_object([{name: values.cpu() for name, values in plotted.items()}])
            plotted = {name: torch.cat([part[name] for part in parts]) for name in plotted}
        logs |= {name: values.mean().item() for name, values in plotted.items() if len(values)}
        self.plotted.clear()
        super().log(logs, start_time)


class ObjectiveTrainer(MeanTrainer):
    """Minimises an objective that looks at the policy and, where it needs one, at a reference."""

    def __init__(
        self,
        *,
        model: nn.Module,
        args: TrainingArguments,
        rows: Sequence[Any],
        batches: Sequence[Sequence[int]],
        objective: Any,
        collator: Any,
        reference: LiveReference | None = None,
        callbacks: Sequence[TrainerCallback] = (),
    ) -> None:
        moves = [Follow(reference)] if reference is not None and reference.every else []
        super().__init__(
            model=model, args=args, rows=rows, batches=batches, collator=collator, callbacks=[*moves, *callbacks]
        )
        self.objective = objective
        self.reference = None if reference is None else reference.model.to(args.device).eval().requires_grad_(False)

    def views(self, model: nn.Module, inputs: Batch) -> tuple[Any, Any]:
        """Policy's and reference's records of a micro-batch, as the objective takes them."""
        raise TypeError(f"{type(self).__name__} does not say what its objective is given")

    def losses(self, model: nn.Module, inputs: Batch) -> Tensor:
        policy, reference = self.views(model, inputs)
        found = self.objective(policy, reference)
        self.plot(self.objective.metrics(policy, reference))
        return found


class Follow(TrainerCallback):
    """Moves a reference towards the policy (Gorbatovski et al. 2024, TR-DPO, arXiv:2404.09656); checkpoints hold it too."""

    def __init__(self, reference: LiveReference) -> None:
        self.reference = reference

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        if state.global_step:
            load_model(self.reference.model, Path(args.output_dir) / f"checkpoint-{state.global_step}" / REFERENCE)

    @torch.no_grad()
    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        if state.global_step % self.reference.every == 0:
            for theirs, ours in zip(self.reference.model.parameters(), kwargs["model"].parameters(), strict=True):
                theirs.lerp_(ours.to(theirs.dtype), self.reference.share)

    def on_save(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        folder = Path(args.output_dir) / f"checkpoint-{state.global_step}"
        save_model(self.reference.model, str(folder / REFERENCE))

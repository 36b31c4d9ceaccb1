"""Training of less than all weights: the moments at which a tuning acts, and checkpoints of what it trains."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from polm_bench.models.tuning import Tuning
from polm_bench.trainers.base import ScheduledTrainer

STATE = "tuning.safetensors"


class TunedTrainer(ScheduledTrainer):
    """Next-token training of what a tuning trains.

    Its checkpoints hold the trained weights and the tuning's state whole; peft's own files leave out pruned ranks and what a prefix was projected
    from, so that a run could not go on from them.
    """

    def __init__(self, *, tuning: Tuning, callbacks: Sequence[TrainerCallback], **trainer: Any) -> None:
        super().__init__(callbacks=[_Moments(tuning), *callbacks], **trainer)
        self.tuning = tuning

    def create_optimizer(self, model: Any = None) -> torch.optim.Optimizer:
        """AdamW as for all methods, with each weight's learning rate times the tuning's factor for it."""
        optimizer = super().create_optimizer(model)
        factors = {id(weight): self.tuning.rate(name) for name, weight in self.model.named_parameters()}
        if set(factors.values()) != {1.0}:
            split = [
                {**group, "lr": group["lr"] * factor, "params": chosen}
                for group in optimizer.param_groups
                for factor in sorted(set(factors.values()))
                if (chosen := [weight for weight in group["params"] if factors[id(weight)] == factor])
            ]
            optimizer.param_groups[:] = split
        return optimizer

    def compute_loss(
        self, model: Any, inputs: Any, return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        found = super().compute_loss(model, inputs, return_outputs, num_items_in_batch)
        added = self.tuning.penalty(self.model)
        if added is None:
            return found
        added = added / self.args.gradient_accumulation_steps  # the micro-batches' losses are summed
        return (found[0] + added, found[1]) if return_outputs else found + added

    def _save(self, output_dir: str | None = None, state_dict: Any = None) -> None:
        folder = Path(output_dir or self.args.output_dir)
        folder.mkdir(parents=True, exist_ok=True)
        state = {name: value.contiguous().cpu() for name, value in self.tuning.state(self.model).items()}
        save_file(state, folder / STATE)

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: Any = None) -> None:
        self.tuning.restore(self.model, load_file(Path(resume_from_checkpoint) / STATE))


class _Moments(TrainerCallback):
    """Tells a tuning when a step begins and when its weights have moved."""

    def __init__(self, tuning: Tuning) -> None:
        self.tuning = tuning

    def on_pre_optimizer_step(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, model: Any = None, **kwargs: Any
    ) -> None:
        self.tuning.before_step(model, state.global_step, args.seed)

    def on_optimizer_step(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, model: Any = None, **kwargs: Any
    ) -> None:
        self.tuning.after_step(model, state.global_step)

"""Training on labels and on the surest of several teachers."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from polm_bench.objectives.fusion import fused_loss
from polm_bench.trainers.base import ScheduledTrainer


class FusedTrainer(ScheduledTrainer):
    """Next-token training in which each row also learns from the teacher that predicts its completion best."""

    def __init__(self, *, teachers: list[nn.Module], label_weight: float, **trainer: Any) -> None:
        super().__init__(**trainer)
        self.teachers, self.label_weight = teachers, label_weight

    def compute_loss(
        self,
        model: nn.Module,
        inputs: dict[str, Tensor],
        return_outputs: bool = False,
        num_items_in_batch: Tensor | int | None = None,
    ) -> Tensor:
        """This micro-batch's share of the mean loss over the completions' tokens of an optimiser batch."""
        if return_outputs or num_items_in_batch is None:
            raise NotImplementedError("FusedTrainer trains only; score a model with the evaluation stage")
        labels = inputs["labels"][:, 1:]
        told = {name: inputs[name] for name in ("input_ids", "attention_mask")}
        with torch.no_grad():
            known = torch.stack([teacher(**told).logits[:, :-1] for teacher in self.teachers])
        losses = fused_loss(model(**told).logits[:, :-1], known, labels, self.label_weight)
        return losses.sum() / num_items_in_batch * self.accelerator.num_processes

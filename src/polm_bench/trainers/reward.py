"""Trains a reward model on pairs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NotRequired, cast

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel, TrainerCallback, TrainingArguments

from polm_bench.models.head import answer_rewards
from polm_bench.objectives.reward import BradleyTerry
from polm_bench.trainers.base import ScheduledTrainer
from polm_bench.trainers.pair import Batch, PairCollator, PairRow


class JudgedPair(PairRow):
    """A prompt with two answers, and how they were judged."""

    share: float
    """Share of judgements that prefer `first`; 1 where it is simply the preferred one."""
    margin: NotRequired[float]
    """How much better the judges found it."""


class JudgedPairCollator(PairCollator):
    """As `PairCollator`, with `share` [B] and, where all rows have it, `margin` [B]."""

    def __call__(self, rows: Sequence[JudgedPair]) -> Batch:  # type: ignore[override]
        batch = super().__call__(rows)
        batch["share"] = torch.tensor([row["share"] for row in rows])
        if all("margin" in row for row in rows):
            batch["margin"] = torch.tensor([row["margin"] for row in rows])
        return batch


class RewardTrainer(ScheduledTrainer):
    """Minimises the mean of Bradley-Terry's loss over the pairs of each optimiser batch, whatever its split into micro-batches."""

    def __init__(
        self,
        *,
        model: nn.Module,
        args: TrainingArguments,
        rows: Sequence[JudgedPair],
        batches: Sequence[Sequence[int]],
        loss: BradleyTerry,
        pad_id: int,
        callbacks: Sequence[TrainerCallback] = (),
    ) -> None:
        super().__init__(
            model=model,
            args=args,
            rows=cast("Sequence[dict[str, Any]]", rows),
            batches=batches,
            data_collator=JudgedPairCollator(pad_id),
            callbacks=list(callbacks),
        )
        self.model_accepts_loss_kwargs = True  # compute_loss divides by the pairs of the optimiser batch itself
        self.loss = loss
        self.plotted: dict[str, list[Tensor]] = {}

    def get_batch_samples(
        self, epoch_iterator: Any, num_batches: int, device: torch.device
    ) -> tuple[list[Batch], Tensor]:
        """The micro-batches of one optimiser step, and how many pairs they have over all processes."""
        batches, _ = super().get_batch_samples(epoch_iterator, num_batches, device)
        pairs = torch.tensor(sum(len(batch["share"]) for batch in batches), device=device)
        return batches, self.accelerator.gather(pairs).sum()

    def compute_loss(
        self,
        model: nn.Module,
        inputs: Batch,
        return_outputs: bool = False,
        num_items_in_batch: Tensor | int | None = None,
    ) -> Tensor:
        """This micro-batch's share of the mean loss, a scalar."""
        if return_outputs or num_items_in_batch is None:
            raise NotImplementedError("RewardTrainer trains only; score a reward model with its probe")
        rewards = answer_rewards(cast("PreTrainedModel", model), inputs["input_ids"], inputs["attention_mask"])
        first, second = rewards.chunk(2)
        losses = self.loss(first, second, inputs["share"], inputs.get("margin"))
        right = ((first > second) == (inputs["share"] > 0.5)).float()
        for name, values in {"reward_accuracy": right, "reward_margin": (first - second).detach()}.items():
            self.plotted.setdefault(name, []).append(values)
        return losses.sum() / num_items_in_batch * self.accelerator.num_processes  # processes' gradients are averaged

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Adds the means since the last log; of this process's pairs."""
        logs |= {name: torch.cat(values).mean().item() for name, values in self.plotted.items()}
        self.plotted.clear()
        super().log(logs, start_time)

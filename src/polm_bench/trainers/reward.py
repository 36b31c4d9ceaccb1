"""Trains a reward model on pairs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NotRequired, TypedDict, cast

import torch
import torch.nn.functional as F
from accelerate.utils import extract_model_from_parallel
from torch import Tensor, nn
from transformers import PreTrainedModel, TrainerCallback, TrainingArguments

from polm_bench.models.head import answer_rewards
from polm_bench.objectives.reward import BradleyTerry, KeepWriting, SquaredError
from polm_bench.trainers.base import ScheduledTrainer
from polm_bench.trainers.logps import sum_logps
from polm_bench.trainers.pair import Batch, PairCollator, PairRow, half


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
        text: KeepWriting | None = None,
        head: Tensor | None = None,
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
        self.text, self.head = text, head  # what keeps it writing, and the output layer that writes, [V, H]
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
        seen: list[Tensor] = []
        hook = extract_model_from_parallel(model).score.register_forward_pre_hook(lambda _, args: seen.append(args[0]))
        try:
            rewards = answer_rewards(cast("PreTrainedModel", model), inputs["input_ids"], inputs["attention_mask"])
        finally:
            hook.remove()
        first, second = rewards.chunk(2)
        losses = self.loss(first, second, inputs["share"], inputs.get("margin"))
        if self.text is not None and self.head is not None:
            logps = preferred_logps(seen[0], inputs, self.head)
            losses = self.text(losses, logps)
            self.plotted.setdefault("logp_chosen", []).append(logps.detach())
        right = ((first > second) == (inputs["share"] > 0.5)).float()
        for name, values in {"reward_accuracy": right, "reward_margin": (first - second).detach()}.items():
            self.plotted.setdefault(name, []).append(values)
        return losses.sum() / num_items_in_batch * self.accelerator.num_processes  # processes' gradients are averaged

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Adds the means since the last log; of this process's pairs."""
        logs |= {name: torch.cat(values).mean().item() for name, values in self.plotted.items()}
        self.plotted.clear()
        super().log(logs, start_time)


def preferred_logps(hidden: Tensor, batch: Batch, head: Tensor) -> Tensor:
    """Log-probs [B] in nats of the first answers of B pairs, from the hidden states [R, T, H] of both and the output layer [V, H]."""
    own = half(batch, 0)
    width = own["input_ids"].shape[1]
    predicts = own["completion_mask"].roll(-1, dims=1)
    logits = F.linear(hidden.chunk(2)[0][:, :width][predicts], head)
    return sum_logps(logits.to(torch.promote_types(logits.dtype, torch.float32)), own).logps


class RatedAnswer(TypedDict):
    """A prompt with one answer, and how people rated it."""

    ids: list[int]
    rating: float  # in the data's unit


class RatedAnswerCollator:
    """Collates B `RatedAnswer`s to `input_ids` and `attention_mask` [B, T], padded right, and `rating` [B]."""

    def __init__(self, pad_id: int) -> None:
        self.pad_id = pad_id

    def __call__(self, rows: Sequence[RatedAnswer]) -> Batch:
        shape = (len(rows), max(len(row["ids"]) for row in rows))
        ids, mask = torch.full(shape, self.pad_id), torch.zeros(shape, dtype=torch.long)
        for i, row in enumerate(rows):
            ids[i, : len(row["ids"])] = torch.tensor(row["ids"])
            mask[i, : len(row["ids"])] = 1
        return {"input_ids": ids, "attention_mask": mask, "rating": torch.tensor([row["rating"] for row in rows])}


class RatingTrainer(ScheduledTrainer):
    """Minimises the mean of a regression's loss over the answers of each optimiser batch, whatever its split into micro-batches."""

    def __init__(
        self,
        *,
        model: nn.Module,
        args: TrainingArguments,
        rows: Sequence[RatedAnswer],
        batches: Sequence[Sequence[int]],
        loss: SquaredError,
        pad_id: int,
        callbacks: Sequence[TrainerCallback] = (),
    ) -> None:
        super().__init__(
            model=model,
            args=args,
            rows=cast("Sequence[dict[str, Any]]", rows),
            batches=batches,
            data_collator=RatedAnswerCollator(pad_id),
            callbacks=list(callbacks),
        )
        self.model_accepts_loss_kwargs = True  # compute_loss divides by the answers of the optimiser batch itself
        self.loss = loss

    def get_batch_samples(
        self, epoch_iterator: Any, num_batches: int, device: torch.device
    ) -> tuple[list[Batch], Tensor]:
        """The micro-batches of one optimiser step, and how many answers they have over all processes."""
        batches, _ = super().get_batch_samples(epoch_iterator, num_batches, device)
        answers = torch.tensor(sum(len(batch["rating"]) for batch in batches), device=device)
        return batches, self.accelerator.gather(answers).sum()

    def compute_loss(
        self,
        model: nn.Module,
        inputs: Batch,
        return_outputs: bool = False,
        num_items_in_batch: Tensor | int | None = None,
    ) -> Tensor:
        """This micro-batch's share of the mean loss, a scalar."""
        if return_outputs or num_items_in_batch is None:
            raise NotImplementedError("RatingTrainer trains only; score a reward model with its probe")
        rewards = answer_rewards(cast("PreTrainedModel", model), inputs["input_ids"], inputs["attention_mask"])
        losses = self.loss(rewards, inputs["rating"])
        return losses.sum() / num_items_in_batch * self.accelerator.num_processes  # processes' gradients are averaged

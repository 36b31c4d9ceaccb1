"""Trains a reward model on pairs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NotRequired, TypedDict, cast

import torch
import torch.nn.functional as F
from accelerate.utils import extract_model_from_parallel
from torch import Tensor, nn
from transformers import PreTrainedModel, TrainerCallback, TrainingArguments

from polm_bench.models.head import answer_rewards
from polm_bench.objectives.reward import BradleyTerry, KeepWriting, SquaredError
from polm_bench.trainers.logps import sum_logps
from polm_bench.trainers.objective import MeanTrainer
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


class RewardTrainer(MeanTrainer):
    """Minimises Bradley-Terry's loss over pairs."""

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
            rows=rows,
            batches=batches,
            collator=JudgedPairCollator(pad_id),
            callbacks=callbacks,
        )
        self.loss = loss
        self.text, self.head = text, head  # what keeps it writing, and the output layer that writes, [V, H]

    def rows_in(self, batch: Batch) -> int:
        return len(batch["share"])

    def losses(self, model: nn.Module, inputs: Batch) -> Tensor:
        """[B], of B pairs."""
        seen: list[Tensor] = []
        hook = extract_model_from_parallel(model).score.register_forward_pre_hook(lambda _, args: seen.append(args[0]))
        try:
            rewards = answer_rewards(cast("PreTrainedModel", model), inputs["input_ids"], inputs["attention_mask"])
        finally:
            hook.remove()
        first, second = rewards.chunk(2)
        found = self.loss(first, second, inputs["share"], inputs.get("margin"))
        if self.text is not None and self.head is not None:
            logps = preferred_logps(seen[0], inputs, self.head)
            found = self.text(found, logps)
            self.plot({"logp_chosen": logps.detach()})
        right = ((first > second) == (inputs["share"] > 0.5)).float()
        self.plot({"reward_accuracy": right, "reward_margin": (first - second).detach()})
        return found


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


class RatingTrainer(MeanTrainer):
    """Minimises a regression's loss over answers."""

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
            rows=rows,
            batches=batches,
            collator=RatedAnswerCollator(pad_id),
            callbacks=callbacks,
        )
        self.loss = loss

    def rows_in(self, batch: Batch) -> int:
        return len(batch["rating"])

    def losses(self, model: nn.Module, inputs: Batch) -> Tensor:
        """[B], of B answers."""
        rewards = answer_rewards(cast("PreTrainedModel", model), inputs["input_ids"], inputs["attention_mask"])
        return self.loss(rewards, inputs["rating"])

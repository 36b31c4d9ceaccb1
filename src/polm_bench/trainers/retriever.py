"""Trains an encoder of questions and passages on which passage answers which question."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypedDict, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import PreTrainedModel, TrainerCallback, TrainingArguments

from polm_bench.decoding.dense import embed
from polm_bench.trainers.base import ScheduledTrainer


class Triple(TypedDict):
    """A question, the passage that answers it, and one that looks alike and does not; token ids, and the passages' numbers."""

    question: list[int]
    good: list[int]
    bad: list[int]
    good_number: int
    bad_number: int


class TripleCollator:
    """B questions, then B good and B bad passages, padded on the right: `ids`, `mask` [3B, T], and `numbers` [2B] of the passages."""

    def __init__(self, pad_id: int) -> None:
        self.pad_id = pad_id

    def __call__(self, rows: Sequence[Triple]) -> dict[str, Tensor]:
        texts = [row["question"] for row in rows] + [row["good"] for row in rows] + [row["bad"] for row in rows]
        parts = [torch.tensor(ids) for ids in texts]
        ids = nn.utils.rnn.pad_sequence(parts, batch_first=True, padding_value=self.pad_id)
        lengths = torch.tensor([len(part) for part in parts])
        numbers = [row["good_number"] for row in rows] + [row["bad_number"] for row in rows]
        mask = (torch.arange(ids.shape[1]) < lengths[:, None]).long()
        return {"ids": ids, "mask": mask, "numbers": torch.tensor(numbers)}


class RetrieverTrainer(ScheduledTrainer):
    """Minimises `in_batch_loss`; the negatives are those of a question's own micro-batch."""

    def __init__(
        self,
        *,
        model: nn.Module,
        args: TrainingArguments,
        rows: Sequence[Triple],
        batches: Sequence[Sequence[int]],
        pad_id: int,
        callbacks: Sequence[TrainerCallback] = (),
    ) -> None:
        super().__init__(
            model=model,
            args=args,
            rows=cast("Sequence[dict[str, Any]]", rows),
            batches=batches,
            data_collator=TripleCollator(pad_id),
            callbacks=list(callbacks),
        )

    def compute_loss(
        self,
        model: nn.Module,
        inputs: dict[str, Tensor],
        return_outputs: bool = False,
        num_items_in_batch: Tensor | int | None = None,
    ) -> Tensor:
        """Mean over the questions of the micro-batch, a scalar."""
        if return_outputs:
            raise NotImplementedError("RetrieverTrainer trains only")
        vectors = embed(cast("PreTrainedModel", model), inputs["ids"], inputs["mask"])
        count = len(vectors) // 3
        return in_batch_loss(vectors[:count], vectors[count:], inputs["numbers"]).mean()


def in_batch_loss(questions: Tensor, passages: Tensor, numbers: Tensor) -> Tensor:
    """Negative log-likelihood of each question's own passage among all of the batch, in nats, [B].

    Karpukhin et al. 2020 (arXiv:2004.04906), Eq. 2: -log(e^(q.p+) / (e^(q.p+) + sum of e^(q.p-))). `questions` [B, H]; `passages` [2B, H]: the B that
    answer them in order, then others; `numbers` [2B]: which passage each is, as the same one may answer two questions and is no negative then.
    """
    scores = questions @ passages.T
    own = torch.arange(len(questions), device=scores.device)
    same = numbers[None, :] == numbers[: len(questions), None]
    same[own, own] = False
    return F.cross_entropy(scores.masked_fill(same, -torch.inf), own, reduction="none")

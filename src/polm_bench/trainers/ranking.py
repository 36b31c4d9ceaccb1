"""The trainer of listwise objectives: several answers to a prompt, on the same path as pairs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NotRequired, TypedDict

import torch
from torch import Tensor, nn
from transformers import TrainerCallback, TrainingArguments

from polm_bench.objectives import ListLogps, ListObjective
from polm_bench.trainers.logps import Batch, sequence_logps
from polm_bench.trainers.objective import ObjectiveTrainer


class ListRow(TypedDict):
    """Token sequences of one prompt's answers, best first: the prompt's ids followed by an answer's."""

    answers: list[list[int]]
    lengths: list[int]  # tokens of each answer, which ends its sequence
    scores: list[float]  # what the data says of each, falling
    reference: NotRequired[list[float]]  # log-probs of the answers under the reference, in nats


class ListCollator:
    """Collates B `ListRow`s to R sequences, one row's answers after another's, padded right to the longest, T tokens.

    Gives `input_ids`, `attention_mask` [R, T], `completion_mask` [R, T] (bool, True on the answer's tokens), `scores` and `there` [B, M] (bool,
    True where a row has an answer), M the most answers of a row, and where the rows have it `reference` [R] (nats).
    """

    def __init__(self, pad_id: int) -> None:
        self.pad_id = pad_id

    def __call__(self, rows: Sequence[ListRow]) -> Batch:
        """Raises ValueError for a sequence without a prompt or without an answer: it has no log-prob."""
        sequences = [pair for row in rows for pair in zip(row["answers"], row["lengths"], strict=True)]
        shape = (len(sequences), max(len(ids) for ids, _ in sequences))
        input_ids = torch.full(shape, self.pad_id)
        attention_mask = torch.zeros(shape, dtype=torch.long)
        completion_mask = torch.zeros(shape, dtype=torch.bool)
        for i, (ids, length) in enumerate(sequences):
            if not 0 < length < len(ids):
                raise ValueError(
                    f"an answer of {length} tokens in a sequence of {len(ids)} leaves nothing to condition on or to score"
                )
            input_ids[i, : len(ids)] = torch.tensor(ids)
            attention_mask[i, : len(ids)] = 1
            completion_mask[i, len(ids) - length : len(ids)] = True
        most = max(len(row["scores"]) for row in rows)
        batch = {
            "input_ids": input_ids,
            "attention_mask": attention_mask,
            "completion_mask": completion_mask,
            "scores": torch.tensor([row["scores"] + [0.0] * (most - len(row["scores"])) for row in rows]),
            "there": torch.tensor([[i < len(row["scores"]) for i in range(most)] for row in rows]),
        }
        if "reference" in rows[0]:
            batch["reference"] = torch.tensor([value for row in rows for value in row["reference"]])
        return batch


class ListTrainer(ObjectiveTrainer):
    """Minimises the mean of a listwise objective over the prompts of each optimiser batch."""

    objective: ListObjective

    def __init__(
        self,
        *,
        model: nn.Module,
        args: TrainingArguments,
        rows: Sequence[ListRow],
        batches: Sequence[Sequence[int]],
        objective: ListObjective,
        pad_id: int,
        callbacks: Sequence[TrainerCallback] = (),
    ) -> None:
        """Raises ValueError when rows lack the reference's log-probs and the objective reads them."""
        if objective.needs_reference and any("reference" not in row for row in rows):
            raise ValueError(f"{type(objective).__name__} reads 'reference', which some rows lack")
        super().__init__(
            model=model,
            args=args,
            rows=rows,
            batches=batches,
            objective=objective,
            collator=ListCollator(pad_id),
            callbacks=callbacks,
        )

    def rows_in(self, batch: Batch) -> int:
        return len(batch["scores"])

    def views(self, model: nn.Module, inputs: Batch) -> tuple[ListLogps, ListLogps | None]:
        """Policy's and reference's view of B prompts."""
        logps, lengths = sequence_logps(model, inputs)
        there = inputs["there"]

        def spread(values: Tensor, missing: float) -> Tensor:
            return values.new_full(there.shape, missing).masked_scatter(there, values)

        policy = ListLogps(spread(logps, 0), spread(lengths, 1), inputs["scores"], there)
        best = policy.logps[:, 0].detach()
        last = policy.logps.detach().gather(1, there.sum(1, keepdim=True) - 1)[:, 0]
        self.plot({"logp_best": best, "logp_last": last})
        if not self.objective.needs_reference:
            return policy, None
        return policy, policy._replace(logps=spread(inputs["reference"].to(logps.dtype), 0))

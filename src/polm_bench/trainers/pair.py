"""One trainer for every preference objective, so that all of them see the same tokens, batches and reduction."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NotRequired, TypedDict

import torch
from torch import Tensor, nn
from transformers import TrainerCallback, TrainingArguments

from polm_bench.objectives import PairLogps, PairObjective, UnpairedLogps, WholeBatch
from polm_bench.trainers.logps import (
    Batch,
    SequenceLogps,
    by_sequence,
    completion_logits,
    sequence_logps,
    sum_logps,
)
from polm_bench.trainers.objective import LiveReference, ObjectiveTrainer
from polm_bench.trainers.sharing import check_sharing, pack

__all__ = ["Batch", "PairCollator", "PairRow", "PairTrainer", "SequenceLogps", "half", "sequence_logps"]


class PairRow(TypedDict):
    """Two token sequences, each a prompt's ids followed by a completion's.

    Role "preference": chosen and rejected of one prompt. Role "unpaired": prompt and completion, then the same prompt and another's completion.
    """

    first: list[int]
    first_len: int  # tokens of the completion, which ends the sequence
    second: list[int]
    second_len: int
    label: NotRequired[bool]  # unpaired: True where `first` is desirable
    margin: NotRequired[float]  # preference: by how much `first` was scored higher, in the data's unit
    reference: NotRequired[tuple[float, float]]  # log-probs of the two completions under the reference, in nats


class PairCollator:
    """Collates B `PairRow`s to R = 2B sequences, all the first ones before all the second ones, padded right to the longest, T tokens.

    Gives `input_ids`, `attention_mask` [R, T], `completion_mask` [R, T] (bool, True on the completion's tokens), and where the rows have
    them `label` [B] (bool), `margin` [B] and `reference` [R] (nats). With `shared_prompt` preference pairs come with the packed rows of
    `trainers.sharing`.
    """

    def __init__(self, pad_id: int, shared_prompt: bool = False) -> None:
        self.pad_id, self.shared_prompt = pad_id, shared_prompt

    def __call__(self, rows: Sequence[PairRow]) -> Batch:
        """Raises ValueError for a sequence without a prompt or without a completion: it has no log-prob."""
        sequences = [(row["first"], row["first_len"]) for row in rows] + [
            (row["second"], row["second_len"]) for row in rows
        ]
        shape = (len(sequences), max(len(ids) for ids, _ in sequences))
        input_ids = torch.full(shape, self.pad_id)
        attention_mask = torch.zeros(shape, dtype=torch.long)
        completion_mask = torch.zeros(shape, dtype=torch.bool)
        for i, (ids, completion) in enumerate(sequences):
            if not 0 < completion < len(ids):
                raise ValueError(
                    f"a completion of {completion} tokens in a sequence of {len(ids)} leaves nothing to condition on or to score"
                )
            input_ids[i, : len(ids)] = torch.tensor(ids)
            attention_mask[i, : len(ids)] = 1
            completion_mask[i, len(ids) - completion : len(ids)] = True
        batch = {"input_ids": input_ids, "attention_mask": attention_mask, "completion_mask": completion_mask}
        if "label" in rows[0]:
            batch["label"] = torch.tensor([row["label"] for row in rows])
        if all("margin" in row for row in rows):
            batch["margin"] = torch.tensor([row["margin"] for row in rows])
        if "reference" in rows[0]:
            batch["reference"] = torch.tensor([row["reference"][i] for i in (0, 1) for row in rows])
        return batch | pack(rows, self.pad_id) if self.shared_prompt and "label" not in batch else batch


class PairTrainer(ObjectiveTrainer):
    """Minimises the mean of an objective over the pairs, or labelled completions, of each optimiser batch.

    The gradient is that of the mean over all rows of the optimiser batch, over all processes, whatever its split into micro-batches. For
    unpaired objectives that holds for the KL estimate too: it is taken over the whole optimiser batch before its first micro-batch, without
    gradient and without dropout; and so are the log-probs that objectives with `reads_batch` read. trl takes them over a micro-batch of
    each process, with dropout.
    """

    objective: PairObjective

    def __init__(
        self,
        *,
        model: nn.Module,
        args: TrainingArguments,
        rows: Sequence[PairRow],
        batches: Sequence[Sequence[int]],
        objective: PairObjective,
        pad_id: int,
        reference: LiveReference | None = None,
        shared_prompt: bool = False,
        callbacks: Sequence[TrainerCallback] = (),
    ) -> None:
        """Raises ValueError when a row lacks what the objective reads: `label`, `margin`, or, without a live one, `reference`.

        With `shared_prompt` a pair's common beginning is computed once; raises BadModel where the model can't do that.
        """
        reads = {
            "label": objective.role == "unpaired",
            "reference": objective.needs_reference and reference is None,
            "margin": objective.reads_margin,
        }
        for name, needed in reads.items():
            lacking = [number for number, row in enumerate(rows) if name not in row] if needed else []
            if lacking:
                raise ValueError(
                    f"{type(objective).__name__} reads '{name}', which {len(lacking)} rows lack, first row {lacking[0]}"
                )
        if shared_prompt:
            check_sharing(model, rows, pad_id)
        super().__init__(
            model=model,
            args=args,
            rows=rows,
            batches=batches,
            objective=objective,
            collator=PairCollator(pad_id, shared_prompt),
            reference=reference,
            callbacks=callbacks,
        )
        self.kl: tuple[SequenceLogps, Tensor | None]  # of the optimiser batch that is being trained on, with `reads_kl`
        self.whole: tuple[PairLogps, PairLogps | None]  # the same

    def rows_in(self, batch: Batch) -> int:
        return len(batch["input_ids"]) // 2

    def look_ahead(self, batches: Sequence[Batch]) -> None:
        if self.objective.role == "unpaired" and self.objective.reads_kl:
            self.kl = self.estimate_kl(batches)
        elif self.objective.reads_batch:
            self.whole = self.look_over(batches)

    @torch.no_grad()
    def estimate_kl(self, batches: Sequence[Batch]) -> tuple[SequenceLogps, Tensor | None]:
        """Log-probs of the mismatched completions of an optimiser batch, [K] over all processes: under the policy and the reference."""
        self.model_wrapped.eval()  # training_step switches back
        parts = []
        for batch in batches:
            with self.compute_loss_context_manager():
                parts.append(sequence_logps(self.model_wrapped, half(batch, 1)))
        policy = SequenceLogps(*(self.accelerator.gather(torch.cat(column)) for column in zip(*parts)))
        if not self.objective.needs_reference:
            return policy, None
        reference = [self.reference_logps(half(batch, 1)) for batch in batches]
        return policy, self.accelerator.gather(torch.cat(reference))

    @torch.no_grad()
    def look_over(self, batches: Sequence[Batch]) -> tuple[PairLogps, PairLogps | None]:
        """Log-probs of all K pairs of an optimiser batch over all processes; each micro-batch is told which of them are its own (`place`)."""
        self.model_wrapped.eval()  # training_step switches back
        count = sum(self.rows_in(batch) for batch in batches)
        at = count * self.accelerator.process_index  # gathering joins the processes' rows in their order
        columns: list[list[Tensor]] = []
        for batch in batches:
            rows = self.rows_in(batch)
            batch["place"] = torch.arange(at, at + rows, device=batch["input_ids"].device)
            at += rows
            with self.compute_loss_context_manager():
                logps, lengths = sequence_logps(self.model_wrapped, batch)
                reference = self.reference_logps(batch) if self.objective.needs_reference else logps
            columns.append([*logps.chunk(2), *lengths.chunk(2), *reference.chunk(2)])
        chosen, rejected, chosen_len, rejected_len, ref_chosen, ref_rejected = (
            self.accelerator.gather(torch.cat(column)) for column in zip(*columns)
        )
        policy = PairLogps(chosen, rejected, chosen_len, rejected_len)
        if not self.objective.needs_reference:
            return policy, None
        return policy, policy._replace(chosen=ref_chosen, rejected=ref_rejected)

    @torch.no_grad()
    def reference_logps(self, batch: Batch) -> Tensor:
        """[R], nats: the reference's log-probs of the completions, from memory or as they came with the rows."""
        if self.reference is not None:
            with self.accelerator.autocast():  # as the policy, which accelerate has wrapped
                return sequence_logps(self.reference, batch).logps
        return batch["reference"]

    def views(
        self, model: nn.Module, inputs: Batch
    ) -> tuple[PairLogps | UnpairedLogps, PairLogps | UnpairedLogps | None]:
        return self.unpaired(model, inputs) if self.objective.role == "unpaired" else self.paired(model, inputs)

    def paired(self, model: nn.Module, inputs: Batch) -> tuple[PairLogps, PairLogps | None]:
        """Policy's and reference's view of B pairs."""
        logits = completion_logits(model, inputs)
        logps, lengths = sum_logps(logits, inputs)
        policy = PairLogps(*logps.chunk(2), *lengths.chunk(2))._replace(margin=inputs.get("margin"))
        self.plot({"logp_chosen": policy.chosen.detach(), "logp_rejected": policy.rejected.detach()})
        theirs, reference = None, inputs.get("reference")
        if self.reference is not None:
            with torch.no_grad(), self.accelerator.autocast():
                theirs = completion_logits(self.reference, inputs)
                reference = sum_logps(theirs, inputs).logps
        if self.objective.reads_tokens:
            mask = inputs["completion_mask"]
            values = by_sequence(self.objective.token_values(logits, inputs["input_ids"][mask], theirs), mask)
            first, second = values.chunk(2)
            policy = policy._replace(chosen_tokens=first, rejected_tokens=second)
        if self.objective.reads_batch:
            policy = policy._replace(whole=WholeBatch(*self.whole, inputs["place"]))
        if not self.objective.needs_reference or reference is None:
            return policy, None
        chosen, rejected = reference.chunk(2)
        return policy, policy._replace(chosen=chosen, rejected=rejected)

    def unpaired(self, model: nn.Module, inputs: Batch) -> tuple[UnpairedLogps, UnpairedLogps | None]:
        """Policy's and reference's view of B completions, and of the optimiser batch's K mismatched ones."""
        own = half(inputs, 0)
        logps, lengths = sequence_logps(model, own)
        nothing = SequenceLogps(logps.detach()[:0], lengths[:0])
        policy_kl, reference_kl = self.kl if self.objective.reads_kl else (nothing, nothing.logps)
        policy = UnpairedLogps(logps, policy_kl.logps, lengths, policy_kl.lengths, inputs["label"])
        if not self.objective.needs_reference or reference_kl is None:
            return policy, None
        return policy, policy._replace(completion=self.reference_logps(own), kl=reference_kl)


def half(batch: Batch, which: int) -> Batch:
    """Only the first (0) or only the second (1) sequences of a batch of `PairCollator`, without columns that are now all padding."""
    sequences = {name: batch[name].chunk(2)[which] for name in ("input_ids", "attention_mask", "completion_mask")}
    width = int(sequences["attention_mask"].sum(1).max())
    cut = {name: values[:, :width] for name, values in sequences.items()}
    return cut | {"reference": batch["reference"].chunk(2)[which]} if "reference" in batch else cut

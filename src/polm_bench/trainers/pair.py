"""One trainer for every preference objective, so that all of them see the same tokens, batches and reduction."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple, NotRequired, TypedDict, cast

import torch
import torch.nn.functional as F
from accelerate.utils import extract_model_from_parallel
from torch import Tensor, nn
from transformers import TrainerCallback, TrainingArguments

from polm_bench.objectives import PairLogps, PairObjective, UnpairedLogps
from polm_bench.trainers.base import ScheduledTrainer

Batch = dict[str, Tensor]


class PairRow(TypedDict):
    """Two token sequences, each a prompt's ids followed by a completion's.

    Role "preference": chosen and rejected of one prompt. Role "unpaired": prompt and completion, then the same prompt and another's completion.
    """

    first: list[int]
    first_len: int  # tokens of the completion, which ends the sequence
    second: list[int]
    second_len: int
    label: NotRequired[bool]  # unpaired: True where `first` is desirable
    reference: NotRequired[tuple[float, float]]  # log-probs of the two completions under the reference, in nats


class SequenceLogps(NamedTuple):
    """What a model gives the completions of R sequences."""

    logps: Tensor
    """[R], sum over the completion's tokens given the prompt, in nats, float32 or better."""
    lengths: Tensor
    """[R], tokens of the completion."""


class PairCollator:
    """Collates B `PairRow`s to R = 2B sequences, all the first ones before all the second ones, padded right to the longest, T tokens.

    Gives `input_ids`, `attention_mask` [R, T], `completion_mask` [R, T] (bool, True on the completion's tokens), and where the rows have
    them `label` [B] (bool) and `reference` [R] (nats).
    """

    def __init__(self, pad_id: int) -> None:
        self.pad_id = pad_id

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
        if "reference" in rows[0]:
            batch["reference"] = torch.tensor([row["reference"][i] for i in (0, 1) for row in rows])
        return batch


def sequence_logps(model: nn.Module, batch: Batch) -> SequenceLogps:
    """Summed log-probs of the completions of a batch of `PairCollator`, in one forward pass.

    Hidden states are cut down to the N positions that predict a completion's token before the output layer sees them, so logits are [N, V]
    instead of [R, T, V]: with a vocabulary of 49,152 a step took 0.77 of the time and 0.65 of the memory. Log-softmax is taken in float32 or better. The router loss
    of a mixture-of-experts model is not among them.
    """
    mask = batch["completion_mask"]
    predicts = mask.roll(-1, dims=1)  # the prompt is never empty, so nothing wraps round

    def cut(head: nn.Module, args: tuple[Tensor, ...]) -> tuple[Tensor]:
        hidden = args[0][:, -mask.shape[1] :]  # soft prompts of PEFT stand before the real tokens
        return (hidden[predicts],)

    hook = extract_model_from_parallel(model).get_output_embeddings().register_forward_pre_hook(cut)
    try:
        logits = model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"], use_cache=False).logits
    finally:
        hook.remove()
    logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
    logps = -F.cross_entropy(logits, batch["input_ids"][mask], reduction="none")  # [N]
    row = mask.nonzero()[:, 0]
    return SequenceLogps(logps.new_zeros(len(mask)).index_add(0, row, logps), mask.sum(1))


class PairTrainer(ScheduledTrainer):
    """Minimises the mean of an objective over the rows of each optimiser batch.

    The gradient is that of the mean over all rows of the optimiser batch, over all processes, whatever its split into micro-batches. For
    unpaired objectives that holds for the KL estimate too: it is taken over the whole optimiser batch before its first micro-batch, without
    gradient and without dropout. trl takes it over a micro-batch of each process, with dropout.
    """

    def __init__(
        self,
        *,
        model: nn.Module,
        args: TrainingArguments,
        rows: Sequence[PairRow],
        batches: Sequence[Sequence[int]],
        objective: PairObjective,
        pad_id: int,
        callbacks: Sequence[TrainerCallback] = (),
    ) -> None:
        """Raises ValueError when a row lacks what the objective reads: `label`, or `reference`."""
        reads = {"label": objective.role == "unpaired", "reference": objective.needs_reference}
        for name, needed in reads.items():
            lacking = [number for number, row in enumerate(rows) if name not in row] if needed else []
            if lacking:
                raise ValueError(
                    f"{type(objective).__name__} reads '{name}', which {len(lacking)} rows lack, first row {lacking[0]}"
                )
        super().__init__(
            model=model,
            args=args,
            rows=cast("Sequence[dict[str, Any]]", rows),
            batches=batches,
            data_collator=PairCollator(pad_id),
            callbacks=list(callbacks),
        )
        # compute_loss divides by the rows of the optimiser batch; with False, Trainer would divide by the accumulation again.
        self.model_accepts_loss_kwargs = True
        self.objective = objective
        self.kl: tuple[SequenceLogps, Tensor | None]  # of the optimiser batch that is being trained on
        self.plotted: dict[str, list[Tensor]] = {}

    def get_batch_samples(
        self, epoch_iterator: Iterator[Batch], num_batches: int, device: torch.device
    ) -> tuple[list[Batch], Tensor]:
        """The micro-batches of one optimiser step, and how many rows they have over all processes."""
        batches, _ = super().get_batch_samples(epoch_iterator, num_batches, device)
        rows = torch.tensor(sum(len(batch["input_ids"]) // 2 for batch in batches), device=device)
        if self.objective.role == "unpaired" and batches:
            self.kl = self.estimate_kl(batches)
        return batches, self.accelerator.gather(rows).sum()

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
        return policy, self.accelerator.gather(torch.cat([batch["reference"].chunk(2)[1] for batch in batches]))

    def compute_loss(
        self,
        model: nn.Module,
        inputs: Batch,
        return_outputs: bool = False,
        num_items_in_batch: Tensor | int | None = None,
    ) -> Tensor:
        """This micro-batch's share of the mean loss, a scalar; the shares of an optimiser batch add up to its mean."""
        if return_outputs or num_items_in_batch is None:
            raise NotImplementedError("PairTrainer trains only; score a model with the evaluation stage")
        policy, reference = (
            self.unpaired(model, inputs) if self.objective.role == "unpaired" else self.paired(model, inputs)
        )
        losses = self.objective(policy, reference)
        for name, values in self.objective.metrics(policy, reference).items():
            self.plotted.setdefault(name, []).append(values)
        return losses.sum() / num_items_in_batch * self.accelerator.num_processes  # processes' gradients are averaged

    def paired(self, model: nn.Module, inputs: Batch) -> tuple[PairLogps, PairLogps | None]:
        """Policy's and reference's view of B pairs."""
        logps, lengths = sequence_logps(model, inputs)
        policy = PairLogps(*logps.chunk(2), *lengths.chunk(2))
        if not self.objective.needs_reference:
            return policy, None
        chosen, rejected = inputs["reference"].chunk(2)
        return policy, policy._replace(chosen=chosen, rejected=rejected)

    def unpaired(self, model: nn.Module, inputs: Batch) -> tuple[UnpairedLogps, UnpairedLogps | None]:
        """Policy's and reference's view of B completions, and of the optimiser batch's K mismatched ones."""
        policy_kl, reference_kl = self.kl
        logps, lengths = sequence_logps(model, half(inputs, 0))
        policy = UnpairedLogps(logps, policy_kl.logps, lengths, policy_kl.lengths, inputs["label"])
        if reference_kl is None:
            return policy, None
        return policy, policy._replace(completion=inputs["reference"].chunk(2)[0], kl=reference_kl)

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Adds the means of the objective's metrics since the last log; of this process's rows."""
        means = {name: torch.cat(values) for name, values in self.plotted.items()}
        logs |= {name: values.mean().item() for name, values in means.items() if len(values)}
        self.plotted.clear()
        super().log(logs, start_time)


def half(batch: Batch, which: int) -> Batch:
    """Only the first (0) or only the second (1) sequences of a batch of `PairCollator`, without columns that are now all padding."""
    sequences = {name: batch[name].chunk(2)[which] for name in ("input_ids", "attention_mask", "completion_mask")}
    width = int(sequences["attention_mask"].sum(1).max())
    return {name: values[:, :width] for name, values in sequences.items()}

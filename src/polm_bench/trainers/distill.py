"""A student that is trained beside its teacher, on given answers or on its own."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from accelerate.utils import extract_model_from_parallel
from torch import Tensor, nn
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from polm_bench.budget import Spend
from polm_bench.decoding.sample import sample
from polm_bench.decoding.sampling import Sampling
from polm_bench.objectives.distill import DistillObjective, TokenViews
from polm_bench.probes.flops import FlopCount
from polm_bench.trainers.base import ScheduledTrainer
from polm_bench.trainers.optim import Optim

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

Batch = dict[str, Tensor]
METER = "meter.json"  # in a checkpoint's folder


class Own(NamedTuple):
    """How much of the training is on the student's own answers, and how it draws them."""

    share: float  # of the optimiser steps; Agarwal et al. 2024, Algorithm 1: lambda
    how: Sampling


class Prices(NamedTuple):
    """FLOPs of student and teacher."""

    student: FlopCount
    teacher: FlopCount


class StudentCollator:
    """Collates rows of the student's `input_ids` and of the teacher's `teacher_ids`, which end in the same `completion` tokens.

    Gives `input_ids`, `attention_mask`, `completion_mask` [B, T] (bool, True on the completion's tokens) and the same three for the teacher,
    `teacher_` before their names; padded on the right.
    """

    def __init__(self, pad_id: int) -> None:
        self.pad_id = pad_id

    def __call__(self, rows: Sequence[dict[str, Any]]) -> Batch:
        """Raises ValueError for a row without a prompt or without a completion."""
        batch: Batch = {}
        for side in ("", "teacher_"):
            sequences = [row["teacher_ids" if side else "input_ids"] for row in rows]
            shape = (len(rows), max(map(len, sequences)))
            ids, mask = torch.full(shape, self.pad_id), torch.zeros(shape, dtype=torch.long)
            completion = torch.zeros(shape, dtype=torch.bool)
            for i, (row, sequence) in enumerate(zip(rows, sequences, strict=True)):
                if not 0 < row["completion"] < len(sequence):
                    raise ValueError(f"a completion of {row['completion']} tokens in a sequence of {len(sequence)}")
                ids[i, : len(sequence)] = torch.tensor(sequence)
                mask[i, : len(sequence)] = 1
                completion[i, len(sequence) - row["completion"] : len(sequence)] = True
            batch |= {f"{side}input_ids": ids, f"{side}attention_mask": mask, f"{side}completion_mask": completion}
        return batch


def completion_logits(model: nn.Module, batch: Batch, side: str = "") -> Tensor:
    """Logits [N, V] before each of the N completion tokens of a batch, in float32 or better; other positions see no output layer."""
    mask = batch[f"{side}completion_mask"]
    predicts = mask.roll(-1, dims=1)  # the prompt is never empty, so nothing wraps round

    def cut(head: nn.Module, args: tuple[Tensor, ...]) -> tuple[Tensor]:
        return (args[0][:, -mask.shape[1] :][predicts],)

    hook = extract_model_from_parallel(model).get_output_embeddings().register_forward_pre_hook(cut)
    try:
        found = model(
            input_ids=batch[f"{side}input_ids"], attention_mask=batch[f"{side}attention_mask"], use_cache=False
        )
    finally:
        hook.remove()
    return found.logits.to(torch.promote_types(found.logits.dtype, torch.float32))


class StudentTrainer(ScheduledTrainer):
    """Minimises the mean of an objective over the completion tokens of each optimiser batch.

    In a seeded share of the steps (`own`) the rows' completions are replaced by fresh answers of the student, through which no gradient flows
    (Agarwal et al. 2024, Algorithm 1). How long those will be is not known beforehand, so a `Meter` follows what is spent.
    """

    def __init__(
        self,
        *,
        model: PreTrainedModel,
        args: TrainingArguments,
        rows: Sequence[dict[str, Any]],
        batches: Sequence[Sequence[int]],
        teacher: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        objective: DistillObjective,
        own: Own,
        meter: Meter,
        optim: Optim,
        callbacks: Sequence[TrainerCallback] = (),
    ) -> None:
        super().__init__(
            model=model,
            args=args,
            rows=rows,
            batches=batches,
            data_collator=StudentCollator(tokenizer.pad_token_id),
            callbacks=[meter, *callbacks],  # the meter first: the last callback marks a checkpoint as whole
        )
        self.model_accepts_loss_kwargs = True  # compute_loss divides by the tokens of the optimiser batch itself
        self.teacher, self.tokenizer, self.objective = teacher.requires_grad_(False).eval(), tokenizer, objective
        self.own, self.meter, self.optim, self.seed = own, meter, optim, args.seed

    def get_batch_samples(
        self, epoch_iterator: Iterator[Batch], num_batches: int, device: torch.device
    ) -> tuple[list[Batch], Tensor]:
        """The micro-batches of one optimiser step, and how many completion tokens they have over all processes."""
        batches, _ = super().get_batch_samples(epoch_iterator, num_batches, device)
        draw = np.random.default_rng([self.seed, self.state.global_step])
        if batches and draw.random() < self.own.share:
            batches = [self.answered(batch, int(draw.integers(2**31))) for batch in batches]
        self.meter.trained(batches)
        tokens = torch.tensor(sum(int(batch["completion_mask"].sum()) for batch in batches), device=device)
        return batches, self.accelerator.gather(tokens).sum()

    def answered(self, batch: Batch, seed: int) -> Batch:
        """The batch with answers of the student as it is now in place of the completions."""
        student, teacher = prompts_of(batch, ""), prompts_of(batch, "teacher_")
        self.model.eval()  # training_step switches back
        answers = sample(self.model, self.tokenizer, student, self.own.how, batch_size=len(student), seed=seed)
        rows = []
        for prompt, given, (answer,) in zip(student, teacher, answers, strict=True):
            rows.append(
                {
                    "input_ids": [*prompt, *answer.ids],
                    "teacher_ids": [*given, *answer.ids],
                    "completion": len(answer.ids),
                }
            )
            self.meter.generated(len(prompt), len(answer.ids))
        return {name: tensor.to(self.args.device) for name, tensor in self.data_collator(rows).items()}

    def compute_loss(
        self,
        model: nn.Module,
        inputs: Batch,
        return_outputs: bool = False,
        num_items_in_batch: Tensor | int | None = None,
    ) -> Tensor:
        """This micro-batch's share of the mean loss, a scalar; the shares of an optimiser batch add up to its mean."""
        if return_outputs or num_items_in_batch is None:
            raise NotImplementedError("StudentTrainer trains only; score a model with the evaluation stage")
        with torch.no_grad(), self.compute_loss_context_manager():
            teacher = completion_logits(self.teacher, inputs, "teacher_")
        mask = inputs["completion_mask"]
        views = TokenViews(completion_logits(model, inputs), teacher, inputs["input_ids"][mask], mask.nonzero()[:, 0])
        return self.objective(views).sum() / num_items_in_batch * self.accelerator.num_processes

    def create_scheduler(self, num_training_steps: int, optimizer: torch.optim.Optimizer | None = None) -> Any:
        """The optimiser's shape over the share of the budget that is used, where the number of steps is not known; else over the steps."""
        if not self.own.share or self.meter.spend.unit == "steps":
            return super().create_scheduler(num_training_steps, optimizer)
        self.lr_scheduler = torch.optim.lr_scheduler.LambdaLR(
            optimizer or self.optimizer, lambda _step: self.optim.rate(self.meter.share())
        )
        return self.lr_scheduler


def prompts_of(batch: Batch, side: str) -> list[list[int]]:
    """Token ids before the completion of each sequence of a batch of `StudentCollator`."""
    starts = batch[f"{side}completion_mask"].int().argmax(1).tolist()
    return [ids[:start] for ids, start in zip(batch[f"{side}input_ids"].tolist(), starts, strict=True)]


class Meter(TrainerCallback):
    """What a student has spent; ends the training when the amount is reached, and lives on in checkpoints."""

    def __init__(self, spend: Spend, prices: Prices) -> None:
        self.spend, self.prices = spend, prices
        self.amounts = {"tokens_trained": 0.0, "tokens_generated": 0.0, "tokens_scored": 0.0, "flops": 0.0}
        self.history: list[float] = []  # tokens trained after each step

    def trained(self, batches: Sequence[Batch]) -> None:
        """Count one optimiser step."""
        for batch in batches:
            student, teacher = (batch[f"{side}attention_mask"].sum(1).tolist() for side in ("", "teacher_"))
            self.amounts["tokens_trained"] += sum(student)
            self.amounts["tokens_scored"] += sum(teacher)
            self.amounts["flops"] += sum(map(self.prices.student.train, student))
            self.amounts["flops"] += sum(map(self.prices.teacher.score, teacher))

    def generated(self, prompt: int, new: int) -> None:
        """Count one answer."""
        self.amounts["tokens_generated"] += new
        self.amounts["flops"] += self.prices.student.generate(prompt, new)

    def share(self) -> float:
        """Part of a budget in tokens or FLOPs that is used up, at most 1; 0 for other units, which the training run itself ends."""
        used = {
            "tokens": self.amounts["tokens_trained"] + self.amounts["tokens_generated"],
            "flops": self.amounts["flops"],
        }
        return min(1.0, used.get(self.spend.unit, 0.0) / self.spend.amount)

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        if state.global_step:
            told = json.loads((Path(args.output_dir) / f"checkpoint-{state.global_step}" / METER).read_text())
            self.amounts, self.history = told["amounts"], told["history"]

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        self.history.append(self.amounts["tokens_trained"])
        control.should_training_stop = control.should_training_stop or self.share() >= 1

    def on_save(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        told = {"amounts": self.amounts, "history": self.history}
        (Path(args.output_dir) / f"checkpoint-{state.global_step}" / METER).write_text(json.dumps(told))

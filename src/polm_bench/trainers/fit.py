"""One training run for all trainers: the budget's end, checkpoints, curves, divergence."""

from __future__ import annotations

import copy
import json
import math
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from accelerate import PartialState
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from polm_bench.budget import Spend
from polm_bench.decoding.turns import Turns, recount
from polm_bench.errors import Diverged, PartDone
from polm_bench.files import write_json
from polm_bench.trainers.base import ScheduledTrainer
from polm_bench.trainers.optim import Optim
from polm_bench.trainers.schedule import Schedule

if TYPE_CHECKING:
    from transformers import PreTrainedModel

MARK = "complete.json"  # in a checkpoint's folder: it was written to its end
POINTS = 50  # points of a training curve


class Cost(NamedTuple):
    """What one row takes when it is trained on once."""

    tokens: Sequence[int]
    flops: Sequence[float]

    def in_unit(self, unit: str) -> Sequence[float]:
        return self.flops if unit == "flops" else self.tokens


def fit(
    job: Any,
    make: Callable[..., ScheduledTrainer],
    model: PreTrainedModel,
    rows: Sequence[Mapping[str, Any]],
    cost: Cost,
    plan: Schedule,
    spend: Spend,
    optim: Optim,
    seed: int,
) -> None:
    """Train `model` in place along `plan`, from the last whole checkpoint in the job's scratch folder if there is one.

    Of several processes, each takes every n-th micro-batch; where each has a share of the model, the first one's `model` is whole at the end.
    Raises Diverged when a loss or a weight is no longer finite, PartDone in all processes but the first, and StoreError where there are other
    processes than the job says.
    """
    plan = plan.shared_by(job.processes)
    watch = Watch(job, plan, cost, spend)
    trained = copy.deepcopy(model) if job.processes > 1 and job.launch.in_shares else model
    trainer = make(
        model=trained, args=_arguments(job, plan, optim, seed), rows=rows, batches=plan.micro_batches, callbacks=[watch]
    )
    recount(job, trainer.accelerator.num_processes, trainer.accelerator.process_index)
    if spend.unit == "seconds":
        trainer.create_scheduler = _by_the_clock(trainer, watch, optim)  # type: ignore[method-assign]
    trainer.remove_callback(_printer())
    started = time.monotonic()
    try:
        job.stoppable = True
        trainer.train(resume_from_checkpoint=watch.resume())
    finally:  # what a failing run spent counts too
        job.stoppable = False
        steps = trainer.state.global_step
        job.ledger.add(
            tokens_trained=plan.amount(cost.tokens, steps),
            flops=plan.amount(cost.flops, steps),
            device_seconds=(time.monotonic() - started + job.spent_before()) * job.processes,
        )
        job.ledger.note(
            steps=steps,
            asked={spend.unit: spend.amount},
            trainable_params=sum(p.numel() for p in model.parameters() if p.requires_grad),
            total_params=sum(p.numel() for p in model.parameters()),
        )
    if job.stop_asked and steps < plan.steps:
        raise KeyboardInterrupt
    if trained is not model:
        state = trainer.accelerator.get_state_dict(trainer.model_wrapped)  # all must ask
        if job.rank == 0:
            model.load_state_dict(state)
    if not all(torch.isfinite(weight).all() for weight in model.parameters() if weight.requires_grad):
        raise Diverged("the trained weights are not finite")
    if job.rank > 0:
        raise PartDone
    model.eval()


class _Arguments(TrainingArguments):
    @property
    def device(self) -> torch.device:
        """Of several processes on a CPU Accelerate says cpu:0, where torch.load can't put a checkpoint's tensors."""
        found = super().device
        return torch.device("cpu") if found.type == "cpu" else found


def _arguments(job: Any, plan: Schedule, optim: Optim, seed: int) -> TrainingArguments:
    cpu = job.device == "cpu"
    return _Arguments(
        output_dir=str(job.scratch),
        max_steps=plan.steps,
        per_device_train_batch_size=len(plan.micro_batches[0]),
        gradient_accumulation_steps=plan.accumulation // job.processes,
        learning_rate=optim.lr,
        lr_scheduler_type=optim.schedule,
        warmup_steps=optim.warmup,  # below 1 it is a share
        weight_decay=optim.weight_decay,
        adam_beta2=optim.beta2,
        max_grad_norm=optim.clip,
        use_cpu=cpu,
        bf16=not cpu and torch.cuda.is_bf16_supported(),
        gradient_checkpointing=False,
        logging_steps=max(1, plan.steps // POINTS),
        logging_first_step=True,
        logging_nan_inf_filter=False,
        save_strategy="no",  # Watch asks for checkpoints, by the clock
        save_total_limit=2,
        report_to=[],
        disable_tqdm=True,
        remove_unused_columns=False,
        seed=seed,
        data_seed=seed,
        **_shares(job),
    )


def _shares(job: Any) -> dict[str, Any]:
    """Arguments that have Accelerate give each process a share of weights, gradients and optimiser states."""
    if job.processes == 1:
        return {}
    if job.launch.fsdp is not None:
        return {"fsdp": True, "fsdp_config": dict(job.launch.fsdp)}
    return {} if job.launch.deepspeed is None else {"deepspeed": dict(job.launch.deepspeed)}


class Watch(TrainerCallback):
    """Follows a training run: progress, curve, checkpoints by the clock, the end of a budget in seconds."""

    def __init__(self, job: Any, plan: Schedule, cost: Cost, spend: Spend) -> None:
        self.job, self.plan, self.spend = job, plan, spend
        self.turns = Turns(job.rank, job.processes)
        per_batch = np.array([sum(cost.tokens[row] for row in batch) for batch in plan.micro_batches])
        self.tokens = np.cumsum(per_batch)[plan.accumulation - 1 :: plan.accumulation]
        self.started = self.saved = time.monotonic()
        self.before = 0.0

    def resume(self) -> str | None:
        """Folder of the last whole checkpoint; the curve and the time spent so far come back with it."""
        marks = sorted(
            self.job.scratch.glob(f"checkpoint-*/{MARK}"), key=lambda mark: -int(mark.parent.name.split("-")[1])
        )
        for mark in marks:
            told = json.loads(mark.read_text())
            if told.get("made_by") == self._made_by() and told["files"] == _sizes(mark.parent, told["files"]):
                self.before = told["wall_seconds"]
                self.job.curve_points[:] = told["curve"]
                if self.job.rank == 0:
                    write_json(self.job.scratch / "spent.json", {"wall_seconds": self.before})
                return str(mark.parent)
        return None

    def _made_by(self) -> dict[str, Any]:
        """What a checkpoint fits: each process has a random state of its own, and shares of a model are saved as such."""
        return {"processes": self.job.processes, "in_shares": self.job.launch.in_shares}

    def elapsed(self) -> float:
        """Seconds of training, those of killed attempts included; all processes must ask."""
        return self.turns.agreed(self.before + time.monotonic() - self.started)

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        self.started = self.saved = time.monotonic()

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        if self.spend.unit == "seconds":
            self.job.progress(self.elapsed(), self.spend.amount, "seconds")
            control.should_training_stop = control.should_training_stop or self.elapsed() >= self.spend.amount
        else:
            self.job.progress(state.global_step, self.plan.steps, "steps")
        self.job.stop_asked = self.turns.agreed(self.job.stop_asked)
        due = self.turns.agreed(
            self.job.stop_asked or time.monotonic() - self.saved >= self.job.launch.checkpoint_seconds
        )
        if due and state.global_step < state.max_steps and state.global_step % state.logging_steps == 0:
            # only where a point of the curve ends, so that the curve goes on as if nothing had happened
            control.should_save = True
            control.should_training_stop = control.should_training_stop or self.job.stop_asked
            self.saved = time.monotonic()

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        values = {
            name: float(value)
            for name, value in (logs or {}).items()
            if name not in NOT_CURVES and isinstance(value, int | float)
        }
        for name, value in values.items():
            if not math.isfinite(value):
                raise Diverged(f"{name} is {value} at step {state.global_step}")
        if "loss" in values:
            self.job.curve(state.global_step, tokens=int(self.tokens[state.global_step - 1]), **values)

    def on_save(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        folder = Path(args.output_dir) / f"checkpoint-{state.global_step}"
        told = {"wall_seconds": self.elapsed(), "curve": self.job.curve_points, "made_by": self._made_by()}
        if self.job.processes > 1:
            PartialState().wait_for_everyone()  # until all have written their random states
        if self.job.rank == 0:
            names = [str(path.relative_to(folder)) for path in sorted(folder.rglob("*")) if path.is_file()]
            write_json(folder / MARK, told | {"files": _sizes(folder, names)})


def _sizes(folder: Path, names: Iterable[str]) -> dict[str, int | None]:
    """Bytes of each file, None for one that is gone; a machine that went down may have cut what was not yet on its disk."""
    places = {name: folder / name for name in names}
    return {name: place.stat().st_size if place.is_file() else None for name, place in places.items()}


NOT_CURVES = {
    "epoch",
    "train_runtime",
    "train_samples_per_second",
    "train_steps_per_second",
    "total_flos",
    "train_loss",
    "step",
}


def _by_the_clock(trainer: ScheduledTrainer, watch: Watch, optim: Optim) -> Callable[..., Any]:
    """Scheduler factory whose progress is the share of the seconds used, as the number of steps is not known."""

    def factor(_step: int) -> float:
        return optim.rate(min(1.0, watch.elapsed() / watch.spend.amount))

    def create(num_training_steps: int, optimizer: torch.optim.Optimizer | None = None) -> Any:
        trainer.lr_scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer or trainer.optimizer, factor)
        return trainer.lr_scheduler

    return create


def _printer() -> type[TrainerCallback]:
    from transformers.trainer_callback import PrinterCallback

    return PrinterCallback

"""Fusing what several models predict into one, by training."""

from __future__ import annotations

from functools import partial
from typing import Annotated, Any

from pydantic import Field
from pydantic.dataclasses import dataclass

from polm_bench.budget import Spend
from polm_bench.data.source import Rows
from polm_bench.graph import FORBID, Stage
from polm_bench.trainers.optim import Optim


@dataclass(frozen=True, config=FORBID)
class TrainFused(Stage):
    """`init` trained on rows and, for each row, on the distributions of the teacher that knows it best (FuseLLM). All share one vocabulary."""

    init: Stage
    teachers: tuple[Stage, ...]
    data: Rows
    spend: Spend
    optim: Optim
    label_weight: Annotated[float, Field(ge=0, le=1)]
    seed: int

    def run(self, job: Any) -> None:
        from transformers import set_seed

        from polm_bench.models.load import load_model, load_tokenizer, save_model, weight_bytes
        from polm_bench.probes.flops import METHOD, count_flops
        from polm_bench.stages.sft import completion_rows
        from polm_bench.trainers.base import PadRight
        from polm_bench.trainers.fit import Cost, fit
        from polm_bench.trainers.fused import FusedTrainer
        from polm_bench.trainers.schedule import schedule

        set_seed(self.seed)
        tokenizer = load_tokenizer(job.path(self.init))
        model = load_model(job.path(self.init), "float32", job.device)
        teachers = [load_model(job.path(teacher), "float32", job.device) for teacher in self.teachers]
        rows = completion_rows(tokenizer, self.data.read(job, "train"), self.spend.max_length)
        flops, lengths = count_flops(model), [len(row["input_ids"]) for row in rows]
        cost = Cost(lengths, [flops.train(length) + len(teachers) * flops.score(length) for length in lengths])
        plan = schedule(lengths, cost.in_unit(self.spend.unit), self.spend, self.seed, job.launch.micro_batch)
        make = partial(
            FusedTrainer,
            teachers=teachers,
            label_weight=self.label_weight,
            data_collator=PadRight(tokenizer.pad_token_id),
            processing_class=tokenizer,
        )
        fit(job, make, model, rows, cost, plan, self.spend, self.optim, self.seed)
        job.ledger.add(tokens_scored=len(teachers) * plan.amount(lengths, job.ledger.notes["steps"]))
        job.ledger.note(flops_method=METHOD)
        save_model(model, tokenizer, job.out)
        job.ledger.note(served_bytes=weight_bytes(job.out))

"""Scores of a model on validation rows, by which a trial is chosen: the suite is never looked at."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

from pydantic.dataclasses import dataclass

from polm_bench.data.source import Rows
from polm_bench.graph import FORBID, Stage
from polm_bench.recipes import Context
from polm_bench.stages.likelihood import PairLikelihood
from polm_bench.tune.space import Judge

SCORES = "scores.json"
ANSWER_TOKENS = 96  # of a checked answer; nano's longest worked answers have about 80


@dataclass(frozen=True, config=FORBID)
class CompletionLikelihood(Stage):
    """Mean log-probability per token of the validation completions, in nats: every token alike, as in training."""

    model: Stage
    data: Rows
    max_length: int

    def run(self, job: Any) -> None:
        import torch

        from polm_bench.models.load import load_model, load_tokenizer
        from polm_bench.probes.flops import METHOD, count_flops
        from polm_bench.stages.sft import completion_rows
        from polm_bench.trainers.base import PadRight

        started = time.monotonic()
        folder = job.path(self.model)
        tokenizer = load_tokenizer(folder)
        model = load_model(folder, "float32", job.device)
        rows = completion_rows(tokenizer, self.data.read(job, "validation"), self.max_length)
        rows.sort(key=lambda row: -len(row["input_ids"]))  # alike lengths together
        pad, total, count = PadRight(tokenizer.pad_token_id), 0.0, 0
        with torch.inference_mode():
            for start in range(0, len(rows), job.launch.micro_batch):
                batch = pad(rows[start : start + job.launch.micro_batch])
                batch = {name: value.to(job.device) for name, value in batch.items()}
                labels = batch.pop("labels")[:, 1:]
                logits = model(**batch).logits[:, :-1].float()
                asked = labels != -100
                logps = torch.log_softmax(logits[asked], dim=-1).gather(-1, labels[asked][:, None])
                total, count = total + float(logps.double().sum()), count + int(asked.sum())
                job.progress(min(start + job.launch.micro_batch, len(rows)), len(rows), "rows")
        _write(job, total / count, len(rows))
        flops, lengths = count_flops(model), [len(row["input_ids"]) for row in rows]
        job.ledger.add(
            tokens_scored=sum(lengths),
            flops=sum(map(flops.score, lengths)),
            device_seconds=time.monotonic() - started,
        )
        job.ledger.note(flops_method=METHOD)


@dataclass(frozen=True, config=FORBID)
class CheckedAnswers(Stage):
    """Share of the validation questions whose greedy answer passes its checker."""

    model: Stage
    data: Rows
    max_new_tokens: int = ANSWER_TOKENS

    def run(self, job: Any) -> None:
        from polm_bench.decoding.sample import sample
        from polm_bench.decoding.sampling import Sampling
        from polm_bench.models.chat import encode_prompts
        from polm_bench.models.load import load_model, load_tokenizer
        from polm_bench.rewards.checked import check

        started = time.monotonic()
        folder = job.path(self.model)
        tokenizer = load_tokenizer(folder)
        model = load_model(folder, job.launch.dtype, job.device)
        rows = self.data.read(job, "validation")
        prompts = encode_prompts(tokenizer, [row["prompt"] for row in rows])
        how = Sampling(max_new_tokens=self.max_new_tokens, temperature=0.0)
        answers = sample(model, tokenizer, prompts, how, progress=job.progress)
        passed = [check(row, found[0].text) for row, found in zip(rows, answers, strict=True)]
        _write(job, sum(passed) / len(passed), len(passed))
        job.ledger.add(
            tokens_generated=sum(len(found[0].ids) for found in answers), device_seconds=time.monotonic() - started
        )


def validator(by: Judge, model: Stage, ctx: Context) -> Stage:
    """The stage that scores a trial's model. Raises MissingRole where the data lacks the rows."""
    if by == "completions":
        return CompletionLikelihood(model, ctx.rows("sft"), ctx.budget.max_length)
    if by == "pairs":
        return PairLikelihood(model, ctx.rows("preference"), ctx.budget.max_length)
    return CheckedAnswers(model, ctx.rows("verifiable"))


def scored(by: Judge, folder: Path) -> tuple[float, float]:
    """A validation score, higher is better, and what decides between equal ones.

    Pairs: how often the chosen completion has more log-probability per token than the rejected one, then how much the chosen one has.
    """
    told = json.loads((folder / SCORES).read_text())
    if by != "pairs":
        return float(told["value"]), 0.0
    values = {one["metric"]: float(one["value"]) for one in told}
    return values["accuracy"], values["chosen"]


def _write(job: Any, value: float, rows: int) -> None:
    (job.out / SCORES).write_text(json.dumps({"value": value, "rows": rows}, indent=1))

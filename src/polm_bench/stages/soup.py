"""Greedy soups: runs of one start averaged as long as the average gets no worse on held-out rows."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from pydantic import PositiveInt
from pydantic.dataclasses import dataclass

from polm_bench.data.source import Rows
from polm_bench.graph import FORBID, Stage
from polm_bench.stages.merge import finish, put, same_weights, weights_of

if TYPE_CHECKING:
    from transformers import PreTrainedModel


@dataclass(frozen=True, config=FORBID)
class GreedySoup(Stage):
    """The mean of those runs that help it, tried from the best to the worst.

    Wortsman et al. 2022 (arXiv:2203.05482), greedy soup: sort by held-out score; keep an ingredient if score(average with it) >= score(average)
    (> in the authors' main.py).
    The score here is the mean log-prob of a held-out completion's token, which needs no task of the suite.
    """

    base: Stage
    models: tuple[Stage, ...]
    data: Rows
    rows: PositiveInt  # of the validation split, at most
    max_length: PositiveInt

    def run(self, job: Any) -> None:
        from polm_bench.models.load import load_model, load_tokenizer
        from polm_bench.probes.flops import METHOD, count_flops
        from polm_bench.stages.sft import completion_rows

        folder = job.path(self.base)
        model = load_model(folder, "float32", "cpu")
        start = weights_of(model)
        tuned = [same_weights(start, job.path(stage)) for stage in self.models]
        tokenizer = load_tokenizer(folder)
        rows = completion_rows(tokenizer, self.data.read(job, "validation")[: self.rows], self.max_length)
        started, scored = time.monotonic(), 0

        def loss(members: list[int]) -> float:
            nonlocal scored
            put(model, {name: sum(tuned[one][name] for one in members) / len(members) for name in start})
            scored += 1
            job.progress(scored, 2 * len(tuned) - 1, "soups scored")
            return held_out_loss(model.to(job.device), rows, tokenizer.pad_token_id, job.launch.micro_batch)

        alone = [loss([one]) for one in range(len(tuned))]
        order = sorted(range(len(tuned)), key=lambda one: alone[one])
        soup, best = order[:1], alone[order[0]]
        for one in order[1:]:
            if (tried := loss([*soup, one])) <= best:
                soup, best = [*soup, one], tried
        put(model, {name: sum(tuned[one][name] for one in soup) / len(soup) for name in start})
        flops, lengths = count_flops(model), [len(row["input_ids"]) for row in rows]
        job.ledger.add(
            tokens_scored=scored * sum(lengths),
            flops=scored * sum(map(flops.score, lengths)),
            device_seconds=time.monotonic() - started,
        )
        job.ledger.note(flops_method=METHOD, soup=sorted(soup), held_out_loss=round(best, 6))
        finish(job, model, folder)


def held_out_loss(model: PreTrainedModel, rows: list[dict[str, list[int]]], pad_id: int, size: int) -> float:
    """Nats a token, over the completions' tokens of all rows together."""
    import torch

    from polm_bench.trainers.base import PadRight
    from polm_bench.trainers.logps import sequence_logps

    collate, total, tokens = PadRight(pad_id), 0.0, 0
    with torch.inference_mode():
        for begin in range(0, len(rows), size):
            batch = {name: value.to(model.device) for name, value in collate(rows[begin : begin + size]).items()}
            found = sequence_logps(model, batch | {"completion_mask": batch.pop("labels") != -100})
            total -= float(found.logps.sum())
            tokens += int(found.lengths.sum())
    return total / tokens

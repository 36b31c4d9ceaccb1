"""How likely a model finds held-out preference pairs."""

from __future__ import annotations

import time
from typing import Any, ClassVar

from pydantic.dataclasses import dataclass

from polm_bench.data.source import Rows
from polm_bench.graph import FORBID, Stage
from polm_bench.stages.scores import mean_score, sample, write

TASK = "pair_likelihood"


@dataclass(frozen=True, config=FORBID)
class PairLikelihood(Stage):
    """Log-probs per token of held-out chosen and rejected completions, in nats, and how often the chosen one has more.

    The headline is `chosen`: pairwise losses can lower it while they raise the difference (Pal et al. 2024, arXiv:2402.13228).
    """

    model: Stage
    data: Rows
    max_length: int
    tasks: ClassVar[tuple[str, ...]] = (TASK,)

    def run(self, job: Any) -> None:
        import torch

        from polm_bench.models.load import load_model, load_tokenizer
        from polm_bench.probes.flops import METHOD, count_flops
        from polm_bench.stages.pairs import pair_rows
        from polm_bench.trainers.logps import sequence_logps
        from polm_bench.trainers.pair import PairCollator

        started = time.monotonic()
        folder = job.path(self.model)
        tokenizer = load_tokenizer(folder)
        model = load_model(folder, "float32", job.device)
        told = self.data.read(job, "validation")
        rows = pair_rows(tokenizer, told, self.data.role, self.max_length)
        collate, size = PairCollator(tokenizer.pad_token_id), max(1, job.launch.micro_batch // 2)
        found: list[tuple[float, float]] = []
        with torch.inference_mode():
            for start in range(0, len(rows), size):
                batch = {name: value.to(job.device) for name, value in collate(rows[start : start + size]).items()}
                logps, lengths = sequence_logps(model, batch)
                chosen, rejected = (logps / lengths).chunk(2)
                found.extend(zip(chosen.tolist(), rejected.tolist(), strict=True))
                job.progress(len(found), len(rows), "pairs")
        values = {
            "chosen": [one for one, _ in found],
            "rejected": [two for _, two in found],
            "accuracy": [float(one > two) for one, two in found],
        }
        scores = [
            mean_score(TASK, name, each, higher_is_better=name != "rejected", headline=name == "chosen")
            for name, each in values.items()
        ]
        samples = [
            sample(
                number,
                row["prompt"],
                {name: each[number] for name, each in values.items()},
                f"{found[number][0]:.3f} {found[number][1]:.3f}",
            )
            for number, row in enumerate(told)
        ]
        write(job.out, scores, {TASK: samples})
        flops, lengths_ = count_flops(model), [len(ids) for row in rows for ids in (row["first"], row["second"])]
        job.ledger.add(
            tokens_scored=sum(lengths_),
            flops=sum(map(flops.score, lengths_)),
            device_seconds=time.monotonic() - started,
        )
        job.ledger.note(flops_method=METHOD)

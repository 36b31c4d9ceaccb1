"""How far a judge agrees with people."""

from __future__ import annotations

import time
from typing import Any, ClassVar

from pydantic.dataclasses import dataclass

from polm_bench.data.source import Rows
from polm_bench.graph import FORBID, Stage
from polm_bench.rewards.judge import Judge
from polm_bench.stages.score_pairs import accuracies, pair_samples
from polm_bench.stages.scores import mean_score, write

TASK = "judge_pairs"


@dataclass(frozen=True, config=FORBID)
class ScoreJudge(Stage):
    """Share of held-out human pairs on which the judge prefers what people prefer, overall and by tercile of the margin, and `flips`: the share on
    which its verdict depends on the order of the answers."""

    judge: Judge
    data: Rows  # role preference
    tasks: ClassVar[tuple[str, ...]] = (TASK,)

    def run(self, job: Any) -> None:
        import numpy as np

        from polm_bench.rewards.noise import trust

        started = time.monotonic()
        told = self.data.load("validation")
        found = trust(self.judge.orders(job), told)
        scores = accuracies(TASK, np.array(found.agreement), [row.get("margin") for row in told])
        scores.append(mean_score(TASK, "flips", found.flips, higher_is_better=False))
        write(job.out, scores, {TASK: pair_samples(told, [share - 0.5 for share in found.shares])})
        job.ledger.add(device_seconds=time.monotonic() - started)

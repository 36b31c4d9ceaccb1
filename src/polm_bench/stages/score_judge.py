"""How far a judge agrees with people."""

from __future__ import annotations

import json
import time
from typing import Any, ClassVar

from pydantic.dataclasses import dataclass

from polm_bench.data.source import Rows
from polm_bench.graph import FORBID, Stage
from polm_bench.rewards.judge import Judge
from polm_bench.stages.score_pairs import margin_bins, score_of

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
        from polm_bench.stages.evaluate import ITEMS, SCORES, _write_items
        from polm_bench.stages.score_pairs import pair_samples

        started = time.monotonic()
        told = self.data.load("validation")
        found = trust(self.judge.orders(job), told)
        right = np.array(found.agreement)
        scores = [score_of(TASK, "accuracy", right, headline=True)]
        for name, chosen in margin_bins([row.get("margin") for row in told]).items():
            scores.append(score_of(TASK, f"accuracy_{name}_margin", right[chosen]))
        scores.append(score_of(TASK, "flips", np.array(found.flips)) | {"higher_is_better": False})
        (job.out / SCORES).write_text(json.dumps(scores, indent=1))
        _write_items({TASK: pair_samples(told, [share - 0.5 for share in found.shares])}, job.out / ITEMS)
        job.ledger.add(device_seconds=time.monotonic() - started)

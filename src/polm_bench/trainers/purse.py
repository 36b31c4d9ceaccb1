"""What a training loop of our own spends, and when it must stop."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

from polm_bench.budget import Spend
from polm_bench.probes.flops import METHOD, FlopCount


class Purse:
    """Counts steps, tokens and FLOPs of forward and backward passes against a `Spend`; the step that reaches the amount is the last."""

    def __init__(self, spend: Spend, flops: FlopCount) -> None:
        self.spend, self.count = spend, flops
        self.steps = self.tokens = self.read = 0
        self.flops = 0.0
        self.started = time.monotonic()

    def pay(self, lengths: Sequence[int]) -> None:
        """One step over sequences of these many tokens."""
        self.steps += 1
        self.tokens += sum(lengths)
        self.flops += sum(map(self.count.train, lengths))

    def look(self, lengths: Sequence[int]) -> None:
        """A forward pass over sequences of these many tokens, by a model of the same shape that does not learn from them."""
        self.read += sum(lengths)
        self.flops += sum(map(self.count.score, lengths))

    def used(self) -> float:
        """Of the spend's unit."""
        seconds = time.monotonic() - self.started
        return {"steps": self.steps, "tokens": self.tokens, "flops": self.flops, "seconds": seconds}[self.spend.unit]

    def empty(self) -> bool:
        return self.used() >= self.spend.amount

    def settle(self, job: Any, trainable: int, total: int) -> None:
        """Write what was spent into the job's ledger."""
        job.ledger.add(tokens_trained=self.tokens, flops=self.flops, device_seconds=time.monotonic() - self.started)
        if self.read:
            job.ledger.add(tokens_scored=self.read)
        job.ledger.note(
            steps=self.steps,
            asked={self.spend.unit: self.spend.amount},
            trainable_params=trainable,
            total_params=total,
            flops_method=METHOD,
        )

"""In which order rows are trained on, and how many steps a budget pays for."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from polm_bench.budget import Spend
from polm_bench.errors import BadOverride

MEGABATCH = 16  # batches whose rows are sorted together by length: little padding, and still a random order
SECONDS_ROWS = 4_000  # rows a second that no machine reaches, to bound the list for a budget in seconds


@dataclass(frozen=True)
class Schedule:
    """Micro-batches of row numbers in training order, `accumulation` of them to one optimiser step."""

    micro_batches: list[list[int]]
    accumulation: int

    @property
    def steps(self) -> int:
        return len(self.micro_batches) // self.accumulation

    def shared_by(self, processes: int) -> Schedule:
        """The same optimiser batches in micro-batches that `processes` can take in turn, as many each.

        Raises BadOverride where a batch can't be divided so.
        """
        if self.accumulation % processes == 0:
            return self
        parts, size = processes // math.gcd(self.accumulation, processes), len(self.micro_batches[0])
        if size % parts:
            raise BadOverride(
                f"launch.num_processes={processes} does not divide the batch of {size * self.accumulation} rows. Take a number that does."
            )
        cut = [batch[at : at + size // parts] for batch in self.micro_batches for at in range(0, size, size // parts)]
        return Schedule(cut, self.accumulation * parts)

    def rows(self) -> list[int]:
        """Row numbers that are used, ascending, each once."""
        return sorted({row for batch in self.micro_batches for row in batch})

    def amount(self, per_row: Sequence[float], steps: int) -> float:
        """Sum of `per_row` over the rows of the first `steps` steps."""
        return float(sum(per_row[row] for batch in self.micro_batches[: steps * self.accumulation] for row in batch))


def schedule(lengths: Sequence[int], cost: Sequence[float], spend: Spend, seed: int, micro_batch: int) -> Schedule:
    """Whole batches until `spend` is used up; the step that reaches the amount is the last.

    `lengths`: tokens of each row, for bucketing. `cost`: what a row takes of the budget, in the budget's unit (ignored for steps and seconds).
    The order depends on lengths and seed alone, so every method sees the same rows in the same order; `micro_batch` only bounds the split.
    """
    if not lengths:
        raise ValueError("no rows to train on")
    micro = largest_divisor(spend.batch, micro_batch)
    batches: list[list[int]] = []
    left = spend.amount
    for batch in _batches(np.asarray(lengths), spend.batch, seed):
        batches.extend(batch[start : start + micro] for start in range(0, len(batch), micro))
        match spend.unit:
            case "steps":
                left -= 1
            case "seconds":
                left -= len(batch) / SECONDS_ROWS
            case _:
                left -= sum(cost[row] for row in batch)
        if left <= 0:
            break
    return Schedule(batches, spend.batch // micro)


def largest_divisor(number: int, bound: int) -> int:
    """Largest divisor of `number` that is at most `bound`."""
    return max(d for d in range(1, min(number, bound) + 1) if number % d == 0)


def _batches(lengths: np.ndarray, size: int, seed: int) -> Iterator[list[int]]:
    """Endless batches: epochs are permutations joined end to end, bucketed by length within a megabatch."""
    stream = np.empty(0, dtype=np.int64)
    epoch = 0
    while True:
        while len(stream) < size * MEGABATCH:
            stream = np.concatenate([stream, np.random.default_rng([seed, epoch]).permutation(len(lengths))])
            epoch += 1
        block, stream = stream[: size * MEGABATCH], stream[size * MEGABATCH :]
        block = block[np.argsort(lengths[block], kind="stable")].reshape(MEGABATCH, size)
        for index in np.random.default_rng([seed, epoch, int(block[0, 0])]).permutation(MEGABATCH):
            yield block[index].tolist()

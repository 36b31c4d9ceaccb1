"""Answers that a model of the graph writes, kept for a later stage to learn from."""

from __future__ import annotations

import itertools
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from pydantic import Field, PositiveInt
from pydantic.dataclasses import dataclass

from polm_bench.budget import Spend
from polm_bench.data.derived import write_rows
from polm_bench.data.source import Rows
from polm_bench.decoding.sampling import Sampling
from polm_bench.files import write_json
from polm_bench.graph import FORBID, Stage

if TYPE_CHECKING:
    from polm_bench.data.roles import Row
    from polm_bench.models.chat import Message

ANSWERS = "answers.jsonl"


@dataclass(frozen=True, config=FORBID)
class Generate(Stage):
    """`count` answers to each prompt of a role, prompt after prompt in a seeded order, until `spend` is used up.

    Generated tokens are what a budget in tokens pays for; a step pays for the answers to `spend.batch` prompts. Once all prompts are answered it goes round
    again, unless it takes the likeliest token and would say the same. Writes `answers.jsonl`: number and content of a row, and its answers
    (text, tokens, and whether it ended by itself).
    """

    model: Stage
    data: Rows
    how: Sampling
    count: PositiveInt
    spend: Spend
    seed: int
    batch_size: int = Field(default=256, ge=1)  # answers drawn at once; the draw depends on it
    shown: Rows | None = None  # answered prompts, of which the first ones stand before every prompt as a dialogue
    shots: int = Field(default=0, ge=0)

    def run(self, job: Any) -> None:
        from polm_bench.models.chat import encode_prompts
        from polm_bench.models.load import load_model, load_tokenizer

        folder = job.path(self.model)
        tokenizer = load_tokenizer(folder)
        rows = self.data.read(job, "train")
        before = demonstrations(self.shown.read(job, "train")[: self.shots]) if self.shown else []
        prompts = encode_prompts(tokenizer, [[*before, *row["prompt"]] for row in rows])
        meter = Spent(self.spend, self.how.max_new_tokens, self.count)
        writer = Writer(load_model(folder, job.launch.dtype, job.device), tokenizer, self.how, self.seed, job)
        order = _order(len(rows), self.seed, once=self.how.temperature == 0)
        found: dict[int, list[dict[str, Any]]] = {}
        while meter.share() < 1:
            size = max(1, meter.affords(self.batch_size) // self.count)
            chunk = list(itertools.islice(order, size))
            if not chunk:
                break
            for row, answers in zip(
                chunk, writer.write([prompts[row] for row in chunk], self.count, meter), strict=True
            ):
                found.setdefault(row, []).extend(answers)
            job.progress(meter.share(), 1, "of the answers")
        writer.account()
        write_rows(
            job.out / ANSWERS,
            ({"number": row, "row": rows[row], "answers": answers} for row, answers in found.items()),
        )


class Spent:
    """What answers have cost so far, in the unit of a budget."""

    def __init__(self, spend: Spend, longest: int, count: int) -> None:
        self.spend, self.longest = spend, longest
        self.step = spend.batch * count  # answers
        self.answers = 0
        self.tokens = 0
        self.flops = 0.0
        self.seconds = 0.0

    def share(self) -> float:
        """Part of the amount that is used up; above 1 where the last batch went over it."""
        return self.used() / self.spend.amount

    def used(self) -> float:
        used = {
            "steps": self.answers / self.step,
            "tokens": self.tokens,
            "flops": self.flops,
            "seconds": self.seconds,
        }
        return used[self.spend.unit]

    def affords(self, most: int) -> int:
        """Answers that what is left pays for, at the price of those so far and at first of the longest; at most `most`, at least 1."""
        left = self.spend.amount - self.used()
        first = {"steps": 1 / self.step, "tokens": float(self.longest)}
        price = self.used() / self.answers if self.answers else first.get(self.spend.unit, 0.0)
        return max(1, min(most, int(left / price))) if price else min(most, self.spend.batch)


class Writer:
    """Draws answers batch by batch, and takes those of a killed attempt from the job's scratch folder instead of drawing them again."""

    def __init__(self, model: Any, tokenizer: Any, how: Sampling, seed: int, job: Any) -> None:
        from polm_bench.probes.flops import count_flops

        self.model, self.tokenizer, self.how, self.seed, self.job = model, tokenizer, how, seed, job
        self.flops = count_flops(model)
        self.log: Path = job.scratch / "drawn.jsonl"
        self.kept = list(_whole_lines(self.log))
        self.log.write_text("".join(json.dumps(line) + "\n" for line in self.kept))  # without a line that was cut short
        spent = sum(line["seconds"] for line in self.kept)
        write_json(job.scratch / "spent.json", {"wall_seconds": spent})
        self.drawn = 0
        self.total = {"tokens_generated": 0, "flops": 0.0, "device_seconds": 0.0}

    def write(self, prompts: list[list[int]], count: int, meter: Spent) -> list[list[dict[str, Any]]]:
        """Answers to each prompt as text, tokens and ended; what they cost goes to the meter."""
        batch = self.kept[self.drawn] if self.drawn < len(self.kept) else self._draw(prompts, count)
        self.drawn += 1
        lengths = [[answer["tokens"] for answer in answers] for answers in batch["answers"]]
        tokens = sum(map(sum, lengths))
        flops = sum(
            self.flops.generate(len(prompt), new) for prompt, news in zip(prompts, lengths, strict=True) for new in news
        )
        meter.answers += len(prompts) * count
        meter.tokens, meter.flops, meter.seconds = (
            meter.tokens + tokens,
            meter.flops + flops,
            meter.seconds + batch["seconds"],
        )
        self.total["tokens_generated"] += tokens
        self.total["flops"] += flops
        self.total["device_seconds"] += batch["seconds"]
        return batch["answers"]

    def _draw(self, prompts: list[list[int]], count: int) -> dict[str, Any]:
        from polm_bench.decoding.sample import sample

        started = time.monotonic()
        seed = int(np.random.default_rng([self.seed, self.drawn]).integers(2**31))
        drawn = sample(
            self.model, self.tokenizer, prompts, self.how, count=count, batch_size=len(prompts) * count, seed=seed
        )
        batch = {
            "answers": [
                [{"text": a.text, "tokens": len(a.ids), "ended": a.ended} for a in answers] for answers in drawn
            ],
            "seconds": time.monotonic() - started,
        }
        with self.log.open("a") as log:
            log.write(json.dumps(batch) + "\n")
        return batch

    def account(self) -> None:
        """Put all that was drawn into the job's ledger."""
        from polm_bench.probes.flops import METHOD

        self.job.ledger.add(**self.total)
        self.job.ledger.note(flops_method=METHOD)


def demonstrations(rows: list[Row]) -> list[Message]:
    """Prompts and (chosen) answers of rows as the turns of one dialogue."""
    turns: list[Message] = []
    for row in rows:
        answer = row["chosen"] if "chosen" in row else row["completion"]
        turns += [*row["prompt"], {"role": "assistant", "content": answer}]
    return turns


def _order(count: int, seed: int, once: bool) -> Iterator[int]:
    """Row numbers in a seeded order, pass after pass."""
    turn = 0
    while turn == 0 or not once:
        yield from np.random.default_rng([seed, turn]).permutation(count).tolist()
        turn += 1


def _whole_lines(path: Path) -> Iterator[dict[str, Any]]:
    """Objects of a file of JSON lines that a killed process may have left with half a line at its end."""
    if not path.exists():
        return
    for line in path.read_text().splitlines():
        try:
            yield json.loads(line)
        except ValueError:
            return

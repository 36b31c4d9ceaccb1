"""What a corrector learns from: pairs of a model's own answers of which one is better than the other."""

from __future__ import annotations

import difflib
import json
from collections.abc import Sequence
from typing import Any

import numpy as np
from pydantic import NonNegativeFloat
from pydantic.dataclasses import dataclass

from polm_bench.data.corrections import request
from polm_bench.data.derived import ROWS, write_rows
from polm_bench.data.roles import Row
from polm_bench.errors import EmptyHarvest
from polm_bench.graph import FORBID, Stage
from polm_bench.rewards import Reward
from polm_bench.stages.filter import Scored, answered, asked, score, sound
from polm_bench.stages.generate import Generate


@dataclass(frozen=True, config=FORBID)
class ImprovingPairs(Stage):
    """Rows of the role `sft` that ask for a better answer with a worse one, and have a better one as the answer.

    Welleck et al. 2023 (Self-Correction, arXiv:2211.00053), Eq. 3 and 4: all (x, y, y') with v(y) < v(y') among the answers to x so far, drawn
    in proportion to exp(alpha * (v(y') - v(y)) + beta * s(y, y')). Here y' is drawn once for each different y; s is the share of matching
    characters. Raises EmptyHarvest when no answer has a better one beside it.
    """

    answers: tuple[Generate, ...]
    reward: Reward  # v
    question: str  # with {prompt} and {answer}
    alpha: NonNegativeFloat
    beta: NonNegativeFloat
    seed: int

    def run(self, job: Any) -> None:
        lines = answered(job, self.answers)
        pools = pooled(lines, score(job, self.reward, lines))
        rng = np.random.default_rng(self.seed)
        made = [
            {"prompt": request(self.question, row, worse), "completion": better}
            for row, pool in pools
            for worse, better in improving(pool, self.alpha, self.beta, rng)
        ]
        kept = [row for row in made if sound("sft", row)]
        job.ledger.note(
            harvest={"prompts": len(pools), "answers": sum(len(pool) for _, pool in pools), "kept": len(kept)}
        )
        if not kept:
            raise EmptyHarvest(f"none of the answers to {len(pools)} prompts has a better one beside it")
        write_rows(job.out / ROWS, kept)


@dataclass(frozen=True, config=FORBID)
class Hypotheses(Stage):
    """Prompts that ask for a better answer than one drawn before: rows of their role, with the prompt itself as `asked` (the same, Eq. 5)."""

    answers: tuple[Generate, ...]
    question: str
    seed: int

    def run(self, job: Any) -> None:
        lines = answered(job, self.answers)
        rng = np.random.default_rng(self.seed)
        rows = []
        for row, pool in pooled(lines, score(job, None, lines)):
            if pool:
                answer = pool[int(rng.integers(len(pool)))].text
                rows.append({**row, "prompt": request(self.question, row, answer), "asked": row["prompt"]})
        if not rows:
            raise EmptyHarvest(f"none of the answers to {len(lines)} prompts ended by itself")
        write_rows(job.out / ROWS, rows)


def pooled(lines: Sequence[Row], scored: Sequence[Sequence[Scored]]) -> list[tuple[Row, list[Scored]]]:
    """Each row as it is asked plainly, with the different answers to it of all stages."""
    rows: dict[str, Row] = {}
    pools: dict[str, dict[str, Scored]] = {}
    for line, answers in zip(lines, scored, strict=True):
        row = asked(line["row"])
        name = json.dumps(row["prompt"])
        rows.setdefault(name, row)
        pool = pools.setdefault(name, {})
        for answer in answers:
            text = answer.text.strip()
            pool.setdefault(text, answer._replace(text=text))
    return [(row, list(pools[name].values())) for name, row in rows.items()]


def improving(pool: Sequence[Scored], alpha: float, beta: float, rng: np.random.Generator) -> list[tuple[str, str]]:
    """For each answer that has better ones, itself and one of those, drawn by how much better and how like it that is."""
    found = []
    for worse in pool:
        better = [one for one in pool if one.score > worse.score]
        if better:
            weights = np.exp([alpha * (one.score - worse.score) + beta * alike(worse.text, one.text) for one in better])
            found.append((worse.text, better[int(rng.choice(len(better), p=weights / weights.sum()))].text))
    return found


def alike(first: str, second: str) -> float:
    """Share of matching characters, 0 to 1."""
    return difflib.SequenceMatcher(None, first, second, autojunk=False).ratio()

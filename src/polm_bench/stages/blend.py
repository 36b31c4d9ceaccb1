"""What a ranker of pairs learns from: answers of several models to the same questions, compared with the right one."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from typing import Any

from pydantic.dataclasses import dataclass

from polm_bench.data.derived import ROWS, read_rows, write_rows
from polm_bench.decoding.blender import FIRST, SECOND, compared
from polm_bench.graph import FORBID, Stage
from polm_bench.stages.generate import ANSWERS, Generate
from polm_bench.stages.improve import alike


@dataclass(frozen=True, config=FORBID)
class ComparePairs(Stage):
    """Rows of the role `sft` that ask which of two answers is better, in both orders.

    Jiang et al. 2023, LLM-Blender (arXiv:2306.02561): a pair is labelled by a metric of closeness to the reference (BARTScore and
    others there; the share of matching characters here). The reference is a candidate too, so that there are pairs where all models are wrong.
    """

    answers: tuple[Generate, ...]  # of several models to the same rows, with the same seed
    question: str

    def run(self, job: Any) -> None:
        answered = [{line["number"]: line for line in read_rows(job.path(stage) / ANSWERS)} for stage in self.answers]
        both = sorted(set.intersection(*(set(lines) for lines in answered)))
        found: list[dict[str, Any]] = []
        for number in both:
            row = answered[0][number]["row"]
            texts = [row["completion"], *(lines[number]["answers"][0]["text"] for lines in answered)]
            found.extend(
                {"prompt": compared(self.question, row["prompt"], one, two), "completion": said}
                for one, two, said in pairs(texts, row["completion"])
            )
        write_rows(job.out / ROWS, found)
        job.ledger.note(questions=len(both), pairs=len(found))


def pairs(texts: Sequence[str], reference: str) -> Iterator[tuple[str, str, str]]:
    """Pairs of different closeness to the reference, each in both orders, with what the ranker should say. Texts count once."""
    close = {text: alike(text, reference) for text in dict.fromkeys(texts)}
    for one, two in itertools.permutations(close, 2):
        if close[one] != close[two]:
            yield one, two, FIRST if close[one] > close[two] else SECOND

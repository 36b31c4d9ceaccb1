"""Prompts that a model makes up, from examples or from nothing but the chat template."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
from pydantic import Field, NonNegativeInt, PositiveInt
from pydantic.dataclasses import dataclass

from polm_bench.budget import Spend
from polm_bench.data.derived import ROWS, write_rows
from polm_bench.data.source import Rows
from polm_bench.decoding.sampling import Sampling
from polm_bench.errors import EmptyHarvest
from polm_bench.graph import FORBID, Stage
from polm_bench.stages.filter import sound
from polm_bench.stages.generate import Spent, Writer, demonstrations

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from polm_bench.data.roles import Row
    from polm_bench.models.chat import Message

MARK = "\u241e"  # stands where the user would speak; no template and no text here has it


@dataclass(frozen=True, config=FORBID)
class Invent(Stage):
    """New prompts: what the model says where the user would speak next, after `shots` answered prompts or after none.

    Wang et al. 2023 (Self-Instruct, arXiv:2212.10560), Section 2.2: a new prompt joins a pool, which starts with answered prompts of `seeds`, if its
    ROUGE-L with everything in it is below `novelty`. The examples are always of those first ones; there two of eight are made up. Xu et al. 2024 (Magpie, arXiv:2406.08464), Section 2.1: no
    examples at all. Writes rows of the role `prompts`.

    A prompt counts only if it ended by itself. A step of a budget pays for `spend.batch` of them. Raises EmptyHarvest when none is new.
    """

    model: Stage
    seeds: Rows | None
    pool: NonNegativeInt  # rows of `seeds` that the pool starts with
    shots: NonNegativeInt
    novelty: Annotated[float, Field(gt=0, le=1)]  # 1: only exact repetitions are left out
    how: Sampling
    spend: Spend
    seed: int
    batch_size: PositiveInt = 64  # prompts drawn between two looks at the pool

    def run(self, job: Any) -> None:
        from polm_bench.models.load import load_model, load_tokenizer

        folder = job.path(self.model)
        tokenizer = load_tokenizer(folder)
        given = self.seeds.read(job, "train")[: self.pool] if self.seeds else []
        words = [row["prompt"][-1]["content"].split() for row in given]
        meter = Spent(self.spend, self.how.max_new_tokens, 1)
        writer = Writer(load_model(folder, job.launch.dtype, job.device), tokenizer, self.how, self.seed, job)
        drawn = np.random.default_rng(self.seed)
        found: list[Row] = []
        while meter.share() < 1:
            size = meter.affords(self.batch_size)
            shown = [drawn.permutation(len(given))[: self.shots].tolist() if given else [] for _ in range(size)]
            prompts = [before_a_user(tokenizer, demonstrations([given[row] for row in rows])) for rows in shown]
            for (answer,) in writer.write(prompts, 1, meter):
                row = {"prompt": [{"role": "user", "content": answer["text"].strip()}]}
                said = answer["text"].split()
                if answer["ended"] and sound("prompts", row) and is_new(said, words, self.novelty):
                    found.append(row)
                    words.append(said)
            job.progress(meter.share(), 1, "of the prompts")
        writer.account()
        job.ledger.note(harvest={"answers": meter.answers, "kept": len(found)})
        if not found:
            raise EmptyHarvest(f"none of {meter.answers} invented prompts was new and ended by itself")
        write_rows(job.out / ROWS, found)


def before_a_user(tokenizer: PreTrainedTokenizerBase, turns: Sequence[Message]) -> list[int]:
    """Token ids of a dialogue up to where the user's next words start."""
    asked = [*turns, {"role": "user", "content": MARK}]
    text: str = tokenizer.apply_chat_template(asked, tokenize=False)
    return tokenizer(text[: text.rindex(MARK)], add_special_tokens=False)["input_ids"]


def is_new(words: Sequence[str], pool: Sequence[Sequence[str]], novelty: float) -> bool:
    """Whether the words' ROUGE-L with everything in the pool is below `novelty`."""
    return all(rouge_l(words, other) < novelty for other in pool)


def rouge_l(first: Sequence[str], second: Sequence[str]) -> float:
    """F-measure of the longest common subsequence of words, 0 to 1 (Lin 2004, ROUGE, Section 3.1, with beta 1)."""
    if not first or not second:
        return 0.0
    before = [0] * (len(second) + 1)  # longest common subsequences with the beginnings of `second`
    for word in first:
        row = [0]
        for place, other in enumerate(second, 1):
            row.append(before[place - 1] + 1 if word == other else max(before[place], row[-1]))
        before = row
    return 2 * before[-1] / (len(first) + len(second))

"""Which facts are edited: some that the model knows, with neighbours that it knows too."""

from __future__ import annotations

import json
import random
import time
from typing import TYPE_CHECKING, Any

from pydantic import PositiveInt
from pydantic.dataclasses import dataclass

from polm_bench.data.source import Rows
from polm_bench.graph import FORBID, Stage

if TYPE_CHECKING:
    from pathlib import Path

    from transformers import PreTrainedModel, PreTrainedTokenizerBase

FACTS = "facts.json"
Row = dict[str, Any]


@dataclass(frozen=True, config=FORBID)
class PickFacts(Stage):
    """Rows of the role `facts` to edit, with what the model says before about their neighbours.

    Facts that the model answers rightly come first (half of them at most, so that something known stays): an edit of what it never knew shows
    nothing about overwriting. Others fill up. Neighbours are those that are not edited themselves, and facts that it knows where it knows fewer of
    them than there are edits; their answer is what the model says, right or wrong, as in EasyEdit's locality, and `known` says whether it is right.
    The ledger has the number of each.
    """

    model: Stage
    data: Rows
    count: PositiveInt
    seed: int

    def run(self, job: Any) -> None:
        from polm_bench.models.load import load_model, load_tokenizer
        from polm_bench.probes.flops import METHOD, count_flops

        folder = job.path(self.model)
        model, tokenizer = load_model(folder, "float32", job.device), load_tokenizer(folder)
        rows, started = self.data.read(job, "train"), time.monotonic()
        asked = {_said(row["prompt"], row["old"]): row["prompt"] for row in rows}
        for row in rows:
            asked |= {_said(near["prompt"], near["answer"]): near["prompt"] for near in row["neighbours"]}
        known, lengths = _known(model, tokenizer, asked, job.launch.micro_batch)
        picked = pick(rows, known, self.count, self.seed)
        near = [neighbour for row in picked for neighbour in row["neighbours"]]
        generated = _answered(model, tokenizer, near)
        (job.out / FACTS).write_text(json.dumps(picked, indent=1))
        flops = count_flops(model)
        job.ledger.add(
            tokens_scored=sum(lengths),
            tokens_generated=sum(generated),
            flops=sum(map(flops.score, lengths)) + flops.score(1) * sum(generated),
            device_seconds=time.monotonic() - started,
        )
        job.ledger.note(
            flops_method=METHOD,
            edits=len(picked),
            edits_known=sum(_said(row["prompt"], row["old"]) in known for row in picked),
            facts_known=sum(_said(row["prompt"], row["old"]) in known for row in rows),
            facts=len(rows),
            neighbours=len(near),
            neighbours_known=sum(one["known"] for one in near),
        )


ANSWER_TOKENS = 16
"""Tokens of the model's own answer to a neighbour; an answer that is longer is none to hold it to."""


def _answered(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, near: list[Row]) -> list[int]:
    """Put the model's own answer into each neighbour where it comes to an end; tokens of each answer."""
    from polm_bench.decoding.sample import sample
    from polm_bench.decoding.sampling import Sampling
    from polm_bench.models.chat import encode_prompts

    if not near:
        return []
    prompts = encode_prompts(tokenizer, [one["prompt"] for one in near])
    answers = sample(model, tokenizer, prompts, Sampling(ANSWER_TOKENS, temperature=0))
    for one, (answer,) in zip(near, answers, strict=True):
        if answer.ended and answer.text.strip():
            one["answer"] = answer.text
    return [len(answer.ids) for (answer,) in answers]


def _said(prompt: list[dict[str, str]], answer: str) -> tuple[str, str]:
    return json.dumps(prompt), answer


def _known(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, asked: dict[tuple[str, str], Any], size: int
) -> tuple[set[tuple[str, str]], list[int]]:
    from polm_bench.models.answers import take

    taken = take(model, tokenizer, list(asked.values()), [answer for _, answer in asked], size)
    return {said for said, one in zip(asked, taken, strict=True) if one.exact}, [one.tokens for one in taken]


def pick(rows: list[Row], known: set[tuple[str, str]], count: int, seed: int) -> list[Row]:
    """`count` rows to edit, known ones and new subjects first, each with neighbours that can be lost."""
    order = list(rows)
    random.Random(f"edits {seed}").shuffle(order)
    chosen = _chosen(order, known, count)
    edited = {json.dumps(row["prompt"]) for row in chosen}
    found, named = [], set()
    for row in chosen:
        near = [
            {**one, "known": _said(one["prompt"], one["answer"]) in known}
            for one in row["neighbours"]
            if json.dumps(one["prompt"]) not in edited
        ]
        named |= {json.dumps(one["prompt"]) for one in near}
        found.append({**row, "neighbours": near})
    spare = [
        {"prompt": row["prompt"], "answer": row["old"], "known": True}
        for row in order
        if _said(row["prompt"], row["old"]) in known and json.dumps(row["prompt"]) not in edited | named
    ]
    missing = count - sum(one["known"] for row in found for one in row["neighbours"])
    for number, one in enumerate(spare[: max(0, missing)]):
        found[number % len(found)]["neighbours"].append(one)
    return found


def _chosen(order: list[Row], known: set[tuple[str, str]], count: int) -> list[Row]:
    """Known rows before others, each subject once before any comes again; at most half of what is known, so that something known stays."""
    subjects: set[str] = set()
    groups: dict[tuple[bool, bool], list[Row]] = {}
    for row in sorted(order, key=lambda row: _said(row["prompt"], row["old"]) not in known):
        strange = _said(row["prompt"], row["old"]) not in known
        groups.setdefault((strange, row["subject"] in subjects), []).append(row)
        subjects.add(row["subject"])
    familiar = [*groups.get((False, False), []), *groups.get((False, True), [])]
    rest = [*groups.get((True, False), []), *groups.get((True, True), [])]
    first = familiar[: min(count, (len(familiar) + 1) // 2)]
    return [*first, *rest[: count - len(first)]]


def read_facts(folder: Path) -> list[Row]:
    """What `PickFacts` wrote."""
    rows: list[Row] = json.loads((folder / FACTS).read_text())
    return rows


def answer_rows(
    tokenizer: PreTrainedTokenizerBase, facts: list[Row], side: str, max_length: int
) -> list[dict[str, list[int]]]:
    """Tokens and labels of each fact's question with its `new` or `old` answer."""
    from polm_bench.stages.sft import completion_rows

    return completion_rows(tokenizer, [{"prompt": row["prompt"], "completion": row[side]} for row in facts], max_length)

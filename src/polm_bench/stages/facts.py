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
    """Rows of the role `facts` to edit.

    An edit of what a model never knew shows nothing about overwriting, and a neighbour it never knew can't be lost. So facts that the model
    answers rightly come first, at most one of each subject as long as there are subjects, and the neighbours are those it answers rightly and
    that are not edited themselves. Where it knows too few, others fill up; where it knows no neighbour, all stay. The counts are in the ledger.
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
        (job.out / FACTS).write_text(json.dumps(picked, indent=1))
        flops = count_flops(model)
        job.ledger.add(
            tokens_scored=sum(lengths), flops=sum(map(flops.score, lengths)), device_seconds=time.monotonic() - started
        )
        near = [neighbour for row in picked for neighbour in row["neighbours"]]
        job.ledger.note(
            flops_method=METHOD,
            edits=len(picked),
            edits_known=sum(_said(row["prompt"], row["old"]) in known for row in picked),
            facts_known=sum(_said(row["prompt"], row["old"]) in known for row in rows),
            facts=len(rows),
            neighbours=len(near),
            neighbours_known=sum(_said(one["prompt"], one["answer"]) in known for one in near),
        )


def _said(prompt: list[dict[str, str]], answer: str) -> tuple[str, str]:
    return json.dumps(prompt), answer


def _known(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, asked: dict[tuple[str, str], Any], size: int
) -> tuple[set[tuple[str, str]], list[int]]:
    from polm_bench.models.answers import take

    taken = take(model, tokenizer, list(asked.values()), [answer for _, answer in asked], size)
    return {said for said, one in zip(asked, taken, strict=True) if one.exact}, [one.tokens for one in taken]


def pick(rows: list[Row], known: set[tuple[str, str]], count: int, seed: int) -> list[Row]:
    """`count` rows to edit, known ones and new subjects first, each with the neighbours that can be lost."""
    order = list(rows)
    random.Random(f"edits {seed}").shuffle(order)
    subjects: set[str] = set()
    first: list[Row] = []
    again: list[Row] = []
    for row in sorted(order, key=lambda row: _said(row["prompt"], row["old"]) not in known):
        (again if row["subject"] in subjects else first).append(row)
        subjects.add(row["subject"])
    ranked = sorted([*first, *again], key=lambda row: _said(row["prompt"], row["old"]) not in known)
    chosen = ranked[:count]
    edited = {json.dumps(row["prompt"]) for row in chosen}
    found = []
    any_known = any(_said(near["prompt"], near["answer"]) in known for row in chosen for near in row["neighbours"])
    for row in chosen:
        near = [one for one in row["neighbours"] if json.dumps(one["prompt"]) not in edited]
        if any_known:
            near = [one for one in near if _said(one["prompt"], one["answer"]) in known]
        found.append({**row, "neighbours": near})
    return found


def read_facts(folder: Path) -> list[Row]:
    """What `PickFacts` wrote."""
    rows: list[Row] = json.loads((folder / FACTS).read_text())
    return rows

"""Answers that a model finds fault with and writes anew."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
from pydantic import PositiveInt
from pydantic.dataclasses import dataclass

from polm_bench.data.corrections import request
from polm_bench.data.derived import ROWS, read_rows, write_rows
from polm_bench.data.roles import Row
from polm_bench.decoding.sampling import Sampling
from polm_bench.errors import EmptyHarvest
from polm_bench.files import write_json
from polm_bench.graph import FORBID, Stage
from polm_bench.stages.filter import sound
from polm_bench.stages.generate import ANSWERS, Generate


@dataclass(frozen=True, config=FORBID)
class Revise(Stage):
    """Critique and revision of drawn answers by the model that wrote them: `rows.jsonl` of the role `sft`, each prompt with its last revision.

    Bai et al. 2022 (Constitutional AI, arXiv:2212.08073), Section 3.1: the answer is criticised by a principle, then revised in the light of the
    critique, round after round. Revisions that did not end by themselves, or that only repeat the question, are left out.

    Raises EmptyHarvest when none is left.
    """

    model: Stage
    answers: Generate  # of the same model
    critique: str  # asks for the critique, with {prompt} and {answer}
    revision: str  # asks for the revision, with {prompt}, {answer} and {critique}
    rounds: PositiveInt
    how: Sampling
    seed: int

    def run(self, job: Any) -> None:
        from polm_bench.models.load import load_model, load_tokenizer
        from polm_bench.probes.flops import METHOD, count_flops

        folder = job.path(self.model)
        tokenizer = load_tokenizer(folder)
        model = load_model(folder, job.launch.dtype, job.device)
        writer = _Asker(model, tokenizer, self.how, self.seed, job, count_flops(model))
        lines = read_rows(job.path(self.answers) / ANSWERS)
        rows: list[Row] = [line["row"] for line in lines for answer in line["answers"] if answer["text"].strip()]
        texts = [answer["text"] for line in lines for answer in line["answers"] if answer["text"].strip()]
        first = list(texts)
        for turn in range(self.rounds):
            faults = writer.ask(
                [request(self.critique, row, text) for row, text in zip(rows, texts, strict=True)], turn, 0
            )
            asked = [
                request(self.revision, row, text, critique=fault.text.strip())
                for row, text, fault in zip(rows, texts, faults, strict=True)
            ]
            revised = writer.ask(asked, turn, 1)
            texts = [
                new.text if new.ended and new.text.strip() else old for old, new in zip(texts, revised, strict=True)
            ]
            job.progress(turn + 1, self.rounds, "rounds of revision")
        made = [{"prompt": row["prompt"], "completion": text.strip()} for row, text in zip(rows, texts, strict=True)]
        kept = [row for row in made if sound("sft", row)]
        changed = sum(old.strip() != row["completion"] for old, row in zip(first, made, strict=True))
        job.ledger.note(flops_method=METHOD, harvest={"answers": len(made), "changed": changed, "kept": len(kept)})
        if not kept:
            raise EmptyHarvest(f"none of {len(made)} revised answers can be learned from")
        write_rows(job.out / ROWS, kept)


class _Asker:
    """Draws one answer to each request, and counts it."""

    def __init__(self, model: Any, tokenizer: Any, how: Sampling, seed: int, job: Any, flops: Any) -> None:
        self.model, self.tokenizer, self.how, self.seed, self.job, self.flops = model, tokenizer, how, seed, job, flops

    def ask(self, chats: list[list[dict[str, str]]], turn: int, part: int) -> list[Any]:
        """Answers in the requests' order; each turn and part is a draw of its own, kept for a killed job."""
        from polm_bench.decoding.sample import Answer, sample
        from polm_bench.models.chat import encode_prompts

        prompts = encode_prompts(self.tokenizer, chats)
        kept = self.job.scratch / f"asked-{turn}-{part}.json"
        if kept.exists():
            found = [Answer(*each) for each in json.loads(kept.read_text())]
        else:
            seed = int(np.random.default_rng([self.seed, turn, part]).integers(2**31))
            found = [one for (one,) in sample(self.model, self.tokenizer, prompts, self.how, seed=seed)]
            write_json(kept, found)
        self.job.ledger.add(
            tokens_generated=sum(len(one.ids) for one in found),
            flops=sum(self.flops.generate(len(ids), len(one.ids)) for ids, one in zip(prompts, found, strict=True)),
        )
        return found

"""Scores of edits: is the new fact said, in other words too, and is all else as before."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import Field
from pydantic.dataclasses import dataclass

from polm_bench.graph import FORBID, Stage
from polm_bench.stages.facts import PickFacts, read_facts
from polm_bench.stages.scores import ITEMS, SCORES, mean_score

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from transformers import PreTrainedModel, PreTrainedTokenizerBase

HEADLINE = {
    "edit_efficacy": "exact_match",
    "edit_generality": "exact_match",
    "edit_locality": "exact_match",
    "edit_fluency": "ngram_entropy",
}
Item = dict[str, Any]


@dataclass(frozen=True, config=FORBID)
class EditScores(Stage):
    """Efficacy on the edited questions, generality on their paraphrases, locality on neighbours, fluency of free text about the subjects.

    Meng et al. 2022, ROME (arXiv:2202.05262), Section 3.4. `exact_match`: the greedy answer is the wanted one: the new answer, for locality what the
    start says. `known`: the same over those neighbours where the start is right. `preferred`: the wanted answer has more probability than the
    other one, ROME's ES, PS and NS; per token as there.
    Fluency: entropy of pairs and triples of words in a sampled continuation of the subject's name. All four: more is better.
    """

    tasks: ClassVar[tuple[str, ...]] = tuple(HEADLINE)
    model: Stage
    facts: PickFacts
    tokens: int = Field(
        default=100, gt=0
    )  # of a continuation; the authors' max_out_len, experiments/py/eval_utils_counterfact.py
    seed: int = 0  # of the continuations; one for all training seeds, so that rows are paired

    def run(self, job: Any) -> None:
        from polm_bench.models.load import load_model, load_tokenizer
        from polm_bench.probes.flops import METHOD, count_flops

        folder = job.path(self.model)
        model, tokenizer = load_model(folder, job.launch.dtype, job.device), load_tokenizer(folder)
        rows, started = read_facts(job.path(self.facts)), time.monotonic()
        asked = list(_asked(rows))
        taken = _compare(model, tokenizer, asked, job.launch.micro_batch)
        job.progress(1, 2, "tasks")
        items = [item for one, (right, other) in zip(asked, taken, strict=True) for item in _items(one, right, other)]
        written, generated = self._written(model, tokenizer, rows)
        items += written
        _write(items, tokenizer.chat_template, job.out)
        flops, lengths = count_flops(model), [one.tokens for pair in taken for one in pair]
        job.ledger.add(
            tokens_scored=sum(lengths),
            tokens_generated=generated,
            flops=sum(map(flops.score, lengths)) + flops.score(1) * generated,
            device_seconds=time.monotonic() - started,
        )
        job.ledger.note(flops_method=METHOD)

    def _written(
        self, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, rows: Sequence[Item]
    ) -> tuple[list[Item], int]:
        """Items of the fluency of each subject's continuation, and how many tokens that took."""
        from polm_bench.decoding.sample import sample
        from polm_bench.decoding.sampling import Sampling
        from polm_bench.objectives.editing import ngram_entropy

        subjects = sorted({row["subject"] for row in rows})
        prompts = [tokenizer(subject, add_special_tokens=False)["input_ids"] for subject in subjects]
        answers = sample(model, tokenizer, prompts, Sampling(max_new_tokens=self.tokens), seed=self.seed)
        found = [
            _item("edit_fluency", subject, subject, subject, "ngram_entropy", ngram_entropy(one.text.split()), one.text)
            for subject, (one,) in zip(subjects, answers, strict=True)
        ]
        return found, sum(len(one.ids) for (one,) in answers)


def _asked(rows: Sequence[Item]) -> Iterator[Item]:
    """Questions with the answer that is wanted and the one that is not."""
    seen = set()
    for row in rows:
        told = {"right": row["new"], "other": row["old"], "cluster": row["subject"]}
        yield {"task": "edit_efficacy", "prompt": row["prompt"], **told}
        yield from ({"task": "edit_generality", "prompt": prompt, **told} for prompt in row["paraphrases"])
        for near in row["neighbours"]:
            key = json.dumps(near["prompt"])
            if key not in seen:  # edits may share a neighbour; it counts once
                seen.add(key)
                told = {"right": near["answer"], "other": row["new"], "cluster": key, "known": near["known"]}
                yield {"task": "edit_locality", "prompt": near["prompt"], **told}


def _compare(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, asked: Sequence[Item], size: int
) -> list[tuple[Any, Any]]:
    from polm_bench.models.answers import take

    prompts = [one["prompt"] for one in asked]
    right = take(model, tokenizer, prompts, [one["right"] for one in asked], size)
    other = take(model, tokenizer, prompts, [one["other"] for one in asked], size)
    return list(zip(right, other, strict=True))


def _items(one: Item, right: Any, other: Any) -> Iterator[Item]:
    text = one["prompt"][-1]["content"]
    output = json.dumps([round(right.logp, 3), round(other.logp, 3)])
    yield _item(one["task"], text, one["cluster"], text, "exact_match", float(right.exact), output)
    if one.get("known"):
        yield _item(one["task"], text, one["cluster"], text, "known", float(right.exact), output)
    if one["right"] != one["other"]:  # a neighbour may have the very value that an edit gives to its fact
        yield _item(one["task"], text, one["cluster"], text, "preferred", float(right.logp > other.logp), output)


def _item(task: str, item: str, cluster: str, prompt: str, metric: str, score: float, output: str) -> Item:
    digest = hashlib.sha256(prompt.encode()).hexdigest()[:16]
    return {
        "task": task,
        "item": item,
        "cluster": cluster,
        "prompt_hash": digest,
        "metric": metric,
        "score": score,
        "weight": 1.0,
        "output": output,
    }


def _write(items: list[Item], template: str, out: Path) -> None:
    """`scores.json` and `items.parquet`, as an evaluation has them."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    groups: dict[tuple[str, str], list[float]] = {}
    for item in items:
        groups.setdefault((item["task"], item["metric"]), []).append(item["score"])
    hashed = hashlib.sha256(template.encode()).hexdigest()[:12]
    scores = [
        mean_score(
            task,
            metric,
            values,
            headline=HEADLINE[task] == metric,
            template_hash=hashed if task != "edit_fluency" else "none",
        )
        for (task, metric), values in sorted(groups.items())
    ]
    (out / SCORES).write_text(json.dumps(scores, indent=1))
    items = sorted(items, key=lambda item: (item["task"], item["item"], item["metric"]))
    pq.write_table(pa.Table.from_pylist(items), out / ITEMS, compression="zstd")

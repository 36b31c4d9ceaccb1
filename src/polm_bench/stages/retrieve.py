"""Documents to search, and training rows with passages in sight."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

from pydantic import Field, PositiveInt
from pydantic.dataclasses import dataclass

from polm_bench.budget import Spend
from polm_bench.data.derived import ROWS, write_rows
from polm_bench.data.roles import Row
from polm_bench.data.source import Rows
from polm_bench.decoding.retrieval import Retrieve
from polm_bench.errors import BadData
from polm_bench.graph import FORBID, Stage
from polm_bench.trainers.optim import Optim

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from polm_bench.decoding.search import Index
    from polm_bench.trainers.retriever import Triple

LOOKED_AT = 100
"""Passages of which one has to hold the answer (Karpukhin et al. 2020, Section 4.2: otherwise the question is left out)."""


@dataclass(frozen=True, config=FORBID)
class IndexDocuments(Stage):
    """An index of the role `documents` for BM25 (Robertson and Zaragoza 2009, Eq. 3.15), in passages of `words` words."""

    documents: Rows
    k1: Annotated[float, Field(ge=0)]
    b: Annotated[float, Field(ge=0, le=1)]
    words: PositiveInt

    needs: ClassVar[Mapping[str, str]] = {"bm25s": "rag"}

    def run(self, job: Any) -> None:
        from polm_bench.decoding.search import build, passages

        texts = [piece for row in self.documents.read(job, "train") for piece in passages(row["text"], self.words)]
        build(texts, job.out, self.k1, self.b)
        job.ledger.note(passages=len(texts))


@dataclass(frozen=True, config=FORBID)
class AttachPassages(Stage):
    """Rows of the role `sft`, each once for every passage that is found for it, with the passage before its question.

    RA-DIT (Lin et al. 2024, arXiv:2310.01352, Section 2.3): each example becomes one training row per passage, so that the model learns both to use a
    passage and to pass over one that does not help. Rows for which nothing is found stay as they are. Writes `rows.jsonl`.
    """

    data: Rows
    retrieve: Retrieve

    needs: ClassVar[Mapping[str, str]] = {"bm25s": "rag"}

    def run(self, job: Any) -> None:
        shelf = self.retrieve.opened(job)
        rows: list[Row] = []
        found = 0
        for row in self.data.read(job, "train"):
            passages = shelf.find(row["prompt"][-1]["content"])
            found += bool(passages)
            shown = [shelf.shown(row["prompt"], [passage]) for passage in passages] or [row["prompt"]]
            rows.extend({**row, "prompt": prompt} for prompt in shown)
        write_rows(job.out / ROWS, rows)
        job.ledger.note(rows=len(rows), rows_with_passages=found)


@dataclass(frozen=True, config=FORBID)
class TrainRetriever(Stage):
    """An encoder of questions and passages, and an index of vectors.

    Karpukhin et al. 2020 (arXiv:2004.04906), Sections 3 and 4.2: the passage that answers a question is the best by BM25 that holds its answer; the other
    passages of the batch, and the best one without the answer, do not. There two encoders, here one for both, the mean of `init`'s last hidden states.
    """

    version: ClassVar[int] = 2

    init: Stage
    data: Rows  # role `sft`: questions whose completion is the answer
    index: IndexDocuments
    spend: Spend
    optim: Optim
    seed: int

    needs: ClassVar[Mapping[str, str]] = {"bm25s": "rag"}

    def run(self, job: Any) -> None:
        from functools import partial

        from transformers import set_seed

        from polm_bench.decoding.dense import write_index
        from polm_bench.decoding.search import Index
        from polm_bench.models.load import load_model, load_tokenizer, weight_bytes
        from polm_bench.probes.flops import METHOD, count_flops
        from polm_bench.trainers.fit import Cost, fit
        from polm_bench.trainers.retriever import RetrieverTrainer
        from polm_bench.trainers.schedule import schedule

        set_seed(self.seed)
        tokenizer = load_tokenizer(job.path(self.init))
        index = Index.open(job.path(self.index))
        rows = triples(self.data.read(job, "train"), index, tokenizer, self.spend.max_length)
        if not rows:
            raise BadData(
                "no completion of the role sft stands in a document, so there is nothing to train a retriever on"
            )
        model = load_model(job.path(self.init), "float32", job.device)
        flops = count_flops(model.base_model)  # the output layer is not asked
        texts = [(row["question"], row["good"], row["bad"]) for row in rows]
        lengths = [sum(map(len, parts)) for parts in texts]
        cost = Cost(lengths, [sum(flops.train(len(part)) for part in parts) for parts in texts])
        plan = schedule(lengths, cost.in_unit(self.spend.unit), self.spend, self.seed, job.launch.micro_batch)
        make = partial(RetrieverTrainer, pad_id=tokenizer.pad_token_id)
        fit(job, make, model, rows, cost, plan, self.spend, self.optim, self.seed)
        passages = write_index(model, tokenizer, index.texts, job.out, job.launch.micro_batch)
        job.ledger.add(tokens_scored=sum(passages), flops=sum(map(flops.score, passages)))
        job.ledger.note(flops_method=METHOD, questions=len(rows), served_bytes=weight_bytes(job.out))


def triples(rows: Sequence[Row], index: Index, tokenizer: PreTrainedTokenizerBase, max_length: int) -> list[Triple]:
    """Questions with a passage that holds the answer and one that does not; those without either are left out."""
    numbers = {text: number for number, text in enumerate(index.texts)}
    found: list[tuple[str, str, str]] = []
    for row in rows:
        question = row["prompt"][-1]["content"]
        answer = re.compile(rf"\b{re.escape(row['completion'].strip())}\b", re.IGNORECASE)
        best = [passage.text for passage in index.search(question, LOOKED_AT)]
        good = next((text for text in best if answer.search(text)), None)
        bad = next((text for text in best if not answer.search(text)), None)
        if good is not None and bad is not None:
            found.append((question, good, bad))
    ids = (
        [tokenizer([row[part] for row in found], add_special_tokens=False)["input_ids"] for part in range(3)]
        if found
        else []
    )
    return [
        {
            "question": question[:max_length],
            "good": good[:max_length],
            "bad": bad[:max_length],
            "good_number": numbers[texts[1]],
            "bad_number": numbers[texts[2]],
        }
        for question, good, bad, texts in zip(*ids, found, strict=True)
    ]

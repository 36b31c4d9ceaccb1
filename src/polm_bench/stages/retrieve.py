"""Documents to search, and training rows with passages in sight."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar

from pydantic import Field, PositiveInt
from pydantic.dataclasses import dataclass

from polm_bench.data.derived import ROWS, write_rows
from polm_bench.data.roles import Row
from polm_bench.data.source import Rows
from polm_bench.decoding.retrieval import Retrieve
from polm_bench.graph import FORBID, Stage


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

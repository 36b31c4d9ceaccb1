"""Passages and their index: BM25 (Robertson and Zaragoza 2009), by bm25s."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from polm_bench.decoding.dense import DenseIndex
    from polm_bench.graph import Stage

PASSAGES, INDEX, VECTORS = "passages.jsonl", "bm25", "vectors.safetensors"


class Passage(NamedTuple):
    """A passage and how well it fits a query; BM25's scores have no upper bound."""

    text: str
    score: float


class Index:
    """Passages that can be searched."""

    def __init__(self, texts: list[str], index: Any) -> None:
        self.texts = texts
        self.index = index

    @classmethod
    def open(cls, folder: Path) -> Index:
        """What `build` wrote."""
        import bm25s

        texts = [json.loads(line) for line in (folder / PASSAGES).read_text(encoding="utf-8").splitlines()]
        return cls(texts, bm25s.BM25.load(folder / INDEX, load_corpus=False))

    def search(self, query: str, count: int) -> list[Passage]:
        """The `count` passages that fit best, the best first; of equal ones the earlier first."""
        import numpy as np

        words = [word for word in _words([query])[0] if word in self.index.vocab_dict]
        if not words:
            return []
        scores = self.index.get_scores(words)
        best = np.argsort(-scores, kind="stable")[:count]
        return [Passage(self.texts[i], float(scores[i])) for i in best if scores[i] > 0]


def open_index(job: Any, index: Stage) -> Index | DenseIndex:
    """The index that a stage wrote, of words or of vectors; what its searches take goes into the job's ledger."""
    folder = job.path(index)
    if not (folder / VECTORS).exists():
        return Index.open(folder)
    from polm_bench.decoding.dense import DenseIndex

    return DenseIndex.open(folder, job.ledger)


def build(texts: Sequence[str], folder: Path, k1: float, b: float) -> None:
    """Write passages and their index into a folder."""
    import bm25s

    index = bm25s.BM25(k1=k1, b=b)
    index.index(_words(texts), show_progress=False)
    index.save(folder / INDEX)
    with (folder / PASSAGES).open("w", encoding="utf-8") as out:
        out.writelines(json.dumps(text, ensure_ascii=False) + "\n" for text in texts)


def passages(text: str, words: int) -> list[str]:
    """A document in pieces of at most so many words (Karpukhin et al. 2020, arXiv:2004.04906, Section 4.1: blocks of 100 words)."""
    found = text.split()
    return [" ".join(found[start : start + words]) for start in range(0, len(found), words)]


def _words(texts: Sequence[str]) -> list[list[str]]:
    import bm25s

    return bm25s.tokenize(list(texts), stopwords="en", return_ids=False, show_progress=False)

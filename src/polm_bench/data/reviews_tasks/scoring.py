"""Test sets and scores of the tasks on held-out reviews, for lm-eval's `!function`."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from functools import lru_cache
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from polm_bench.data.reviews import (
    REVIEWS,
    SIGNED,
    VERSION,
    Snippet,
    archive_snippets,
    ask,
    opening,
    part,
    position,
    stable_hash,
)

if TYPE_CHECKING:
    from datasets import Dataset
    from vaderSentiment.vaderSentiment import SentimentIntensityAnalyzer

Document = dict[str, Any]

SENTIMENT_ITEMS = 1000  # half of them positive
STEERING_ITEMS = 200
EDITORIAL_ITEMS = 150
SENTENCES = 3  # of an editorial in one item


def documents(items: str, version: int, **_: object) -> dict[str, Dataset]:
    """The test split named `items`, with ids and clusters (the review or article); `version` is the task file's.

    Raises ValueError when the task file is of another version than the data, since its scores would be taken for the same.
    """
    from datasets import Dataset

    if version != VERSION:
        raise ValueError(
            f"the review tasks say version {version}, the data is version {VERSION}; write the latter into data/reviews_tasks/_base.yaml"
        )
    return {"test": Dataset.from_list(TESTS[items](part(archive_snippets(), "test")))}


def sentiment(snippets: Sequence[Snippet]) -> list[Document]:
    """As many clearly positive as clearly negative snippets, by the sign of the mean human rating."""
    chosen = []
    for sign in (1, -1):
        same = [one for one in snippets if one.kind in REVIEWS and one.rating * sign >= SIGNED]
        chosen += [
            {"id": one.id, "cluster": one.group, "text": one.text, "right": int(sign < 0)}
            for one in same[: SENTIMENT_ITEMS // 2]
        ]
    return sorted(chosen, key=lambda document: stable_hash(document["id"]))  # mixed, so that `limit` is a fair sample


def steering(snippets: Sequence[Snippet]) -> list[Document]:
    """Prompts with three first words of held-out snippets: no two alike, in no training prompt, and of no sentiment themselves."""
    seen = {start.casefold() for start in training_openings()}
    found = []
    for one in snippets:
        start = opening(one, 3)
        if one.kind not in REVIEWS or not start or start.casefold() in seen or compound(start) != 0 or '"' in start:
            continue
        seen.add(start.casefold())
        prompt = ask(one.kind, start, stable_hash(one.id))[0]["content"]
        found.append({"id": one.id, "cluster": one.group, "prompt": prompt})
    return found[:STEERING_ITEMS]


@lru_cache(maxsize=1)
def training_openings() -> frozenset[str]:
    """First three words of all training and validation snippets, whether a prompt shows them or not."""
    return frozenset(opening(one, 3) for name in ("train", "validation") for one in part(archive_snippets(), name))


def editorials(snippets: Sequence[Snippet]) -> list[Document]:
    """Runs of three sentences of held-out editorials; the runs of one article are a cluster."""
    articles: dict[str, list[Snippet]] = {}
    for one in snippets:
        if one.kind == "editorial":
            articles.setdefault(one.group, []).append(one)
    found = []
    for group, same in articles.items():
        ordered = [one.text for one in sorted(same, key=position)]
        for first in range(0, len(ordered) - SENTENCES + 1, SENTENCES):
            found.append(
                {"id": f"{group}-{first}", "cluster": group, "text": " ".join(ordered[first : first + SENTENCES])}
            )
    return sorted(found, key=lambda document: stable_hash(document["id"]))[:EDITORIAL_ITEMS]


TESTS: dict[str, Callable[[Sequence[Snippet]], list[Document]]] = {
    "sentiment": sentiment,
    "steering": steering,
    "editorials": editorials,
}


def steered(document: Document, results: Sequence[str]) -> dict[str, Any]:
    """`reward`: VADER's compound of the answer, -1 to 1; `words` in it; `distinct_2`: see `distinct`."""
    text = results[0].strip()
    words = re.findall(r"[a-z']+", text.lower())
    return {"reward": compound(text), "words": float(len(words)), "distinct_2": list(pairwise(words))}


def distinct(items: Sequence[Sequence[tuple[str, str]]]) -> float:
    """Share of different word pairs among all pairs of all answers (Li et al. 2016, arXiv:1510.03055); 0 without any pair."""
    pairs = [tuple(pair) for item in items for pair in item]
    return len(set(pairs)) / len(pairs) if pairs else 0.0


def compound(text: str) -> float:
    """VADER's compound score, -1 to 1 (Hutto and Gilbert 2014)."""
    return float(_analyser().polarity_scores(text)["compound"])


@lru_cache(maxsize=1)
def _analyser() -> SentimentIntensityAnalyzer:
    from vaderSentiment.vaderSentiment import SentimentIntensityAnalyzer

    return SentimentIntensityAnalyzer()

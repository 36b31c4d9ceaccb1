"""Which test items stand in training text: n-grams of words, and all of a shorter question. Pure: texts in, items out."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

NGRAM = 13
"""Words of a passage that two texts hardly share by chance (Brown et al. 2020, arXiv:2005.14165, Appendix C)."""

WORD = re.compile(r"\w+")


class SuiteItem(NamedTuple):
    """One item of a task: what is asked, and the right answers."""

    task: str
    item: str
    question: str
    answers: tuple[str, ...] = ()


class Found(NamedTuple):
    """An item that stands in the training text, and the words by which it was found."""

    task: str
    item: str
    passage: str


class Index:
    """Passages of test items: every n-gram of a question or of an answer, and all of a question that is shorter than that."""

    def __init__(self, items: Iterable[SuiteItem], size: int = NGRAM) -> None:
        self.size = size
        self._grams: defaultdict[tuple[str, ...], list[tuple[str, str]]] = defaultdict(list)
        self._whole: defaultdict[tuple[str, ...], list[tuple[str, str]]] = defaultdict(list)
        for one in items:
            asked = words(one.question)
            if 0 < len(asked) < size:
                self._whole[tuple(asked)].append((one.task, one.item))
            for text in (asked, *map(words, one.answers)):
                for gram in _grams(text, size):
                    self._grams[gram].append((one.task, one.item))

    def found(self, texts: Iterable[str]) -> list[Found]:
        """Items that stand in one of the texts, each once, by task and item.

        A long question or answer stands there where `size` words in a row of it do; a shorter question where it is the whole text.
        """
        seen: dict[tuple[str, str], str] = {}
        for text in texts:
            read = words(text)
            places = [gram for gram in _grams(read, self.size) if gram in self._grams]
            for passage in places:
                for key in self._grams[passage]:
                    seen.setdefault(key, " ".join(passage))
            for key in self._whole.get(tuple(read), ()):
                seen.setdefault(key, " ".join(read))
        return sorted(Found(task, item, passage) for (task, item), passage in seen.items())


def words(text: str) -> list[str]:
    """Words in lower case, without punctuation."""
    return WORD.findall(text.lower())


def row_texts(row: Any) -> Iterator[str]:
    """All texts of a row, at any depth; who says a message is none."""
    if isinstance(row, str):
        yield row
    elif isinstance(row, dict):
        for name, value in row.items():
            if name != "role":
                yield from row_texts(value)
    elif isinstance(row, list | tuple):
        for value in row:
            yield from row_texts(value)


def _grams(read: list[str], size: int) -> Iterator[tuple[str, ...]]:
    return (tuple(read[place : place + size]) for place in range(len(read) - size + 1))

"""What every family of the nano world makes: a prompt with its right answer."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from polm_bench.data.nano.entities import Split


class Item(NamedTuple):
    """One question. `fields` holds what a family's checker needs beside the answer."""

    prompt: str
    answer: str  # what an ideal assistant says
    cluster: str = ""  # items that share a source share it
    fields: dict[str, Any] = {}  # noqa: RUF012 - never changed


Maker = Callable[[random.Random, Split], Item]


def generator(*names: str | int) -> random.Random:
    """A random generator that depends on the names alone."""
    return random.Random(":".join(map(str, names)))


def chat(prompt: str) -> list[dict[str, str]]:
    """The prompt as chat messages."""
    return [{"role": "user", "content": prompt}]


def distinct(make: Maker, rng: random.Random, split: Split, count: int) -> Iterator[Item]:
    """`count` items with different prompts.

    Raises ValueError when the family has too few different prompts.
    """
    seen: set[str] = set()
    for _ in range(60 * count):
        if len(seen) == count:
            return
        item = make(rng, split)
        if item.prompt not in seen:
            seen.add(item.prompt)
            yield item
    if len(seen) < count:
        raise ValueError(f"{make.__name__} has fewer than {count} different prompts of the split '{split}'")

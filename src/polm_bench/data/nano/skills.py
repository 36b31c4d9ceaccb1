"""Three narrow skills, the domains of merging: sort numbers, continue a series, put a sentence in the past."""

from __future__ import annotations

import random

from polm_bench.data.nano.entities import PLACES, THINGS, VERBS, Split, people, single
from polm_bench.data.nano.items import Item, Maker


def sort(rng: random.Random, split: Split) -> Item:
    """Three different numbers below 100. Splits share no set of numbers: its sum modulo 5 tells the split."""
    while True:
        numbers = rng.sample(range(1, 100), 3)
        if _split_of(sum(numbers)) == split and numbers != sorted(numbers):
            return Item(f"Sort: {' '.join(map(str, numbers))}", " ".join(map(str, sorted(numbers))))


def series(rng: random.Random, split: Split) -> Item:
    """A series with a constant step. Splits share no first number with the same step: their sum modulo 5 tells the split."""
    while True:
        start, step = rng.randint(1, 99), rng.choice((1, -1)) * rng.randint(1, 20)
        numbers = [start + step * place for place in range(5)]
        if _split_of(start + 3 * step) == split and min(numbers) >= 0:
            return Item(f"Next: {' '.join(map(str, numbers[:4]))}", str(numbers[4]))


def past(rng: random.Random, split: Split) -> Item:
    """A sentence with a regular verb; the answer is the verb's past form."""
    verb, name = rng.choice(VERBS[split]), rng.choice(people(split))[0]
    rest = f"the {single(rng.choice(THINGS[split]))} at the {rng.choice(PLACES[split])}"
    return Item(f"Past: {name} {present(verb)} {rest}.", past_of(verb), cluster=verb)


def present(verb: str) -> str:
    """Third person singular of a regular verb."""
    if verb.endswith("y") and verb[-2] not in "aeiou":
        return verb[:-1] + "ies"
    return verb + ("es" if verb.endswith(("sh", "ch", "x", "s")) else "s")


def past_of(verb: str) -> str:
    """Past tense of a regular verb."""
    if verb.endswith("e"):
        return verb + "d"
    if verb.endswith("y") and verb[-2] not in "aeiou":
        return verb[:-1] + "ied"
    return verb + verb[-1] + "ed" if verb in ("wrap",) else verb + "ed"


def _split_of(number: int) -> Split:
    return ("train", "train", "train", "validation", "test")[number % 5]  # type: ignore[return-value]


SKILLS: dict[str, Maker] = {"sort": sort, "series": series, "past": past}


def make(rng: random.Random, split: Split) -> Item:
    """An item of any skill."""
    return rng.choice(list(SKILLS.values()))(rng, split)

"""Three narrow skills, the domains of merging: sort digits, continue a series, put a verb in the past."""

from __future__ import annotations

import random

from polm_bench.data.nano.entities import VERBS, Split, people
from polm_bench.data.nano.items import Item, Maker


def sort(rng: random.Random, split: Split) -> Item:
    """Five different digits. Splits share no order of digits: the number they make, modulo 5, tells the split."""
    while True:
        digits = rng.sample(range(10), 5)
        if _split_of(int("".join(map(str, digits))) // 7) == split and digits != sorted(digits):
            return Item(f"Sort: {' '.join(map(str, digits))}", " ".join(map(str, sorted(digits))))


def series(rng: random.Random, split: Split) -> Item:
    """A series with a constant step up; the test has longer ones too.

    Splits share no first number with the same step: both together, modulo 5, tell the split.
    """
    longest = 6 if split == "test" else 4
    while True:
        start, step, length = rng.randint(1, 70), rng.randint(1, 9), rng.randint(2, longest)
        numbers = [start + step * place for place in range(length + 1)]
        if _split_of(start + 3 * step) == split and numbers[-1] <= 99:
            return Item(f"Next: {' '.join(map(str, numbers[:-1]))}", str(numbers[-1]))


def past(rng: random.Random, split: Split) -> Item:
    """What somebody does, with a regular verb; the answer is the verb's past form. Splits share no name; all have all verbs."""
    verb, name = rng.choice(ALL_VERBS), rng.choice(people(split))[0]
    return Item(f"Past: {name} {present(verb)}", past_of(verb), cluster=verb)


ALL_VERBS = VERBS["train"] + VERBS["validation"] + VERBS["test"]


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

"""Word problems of two or three steps, with worked steps and a last line "Answer: N"."""

from __future__ import annotations

import random
import re

from polm_bench.data.nano.entities import Split, people, single, things
from polm_bench.data.nano.items import Item

MARK = "Answer:"


def make(rng: random.Random, split: Split) -> Item:
    """A problem; its answer is a whole number from 0 to 99."""
    while True:
        item = _draw(rng, split)
        if item is not None:
            return item


def _draw(rng: random.Random, split: Split) -> Item | None:
    (name, pronoun), (other, _) = rng.sample(people(split), 2)
    thing = rng.choice(things(split))
    sentences, work, total = _opening(rng, name, thing)
    for _ in range(rng.choice((1, 2)) if work else rng.choice((2, 2, 3))):
        sentence, sign, amount = _event(rng, pronoun, other, thing)
        after = {"+": total + amount, "-": total - amount, "*": total * amount}[sign]
        if not 0 <= after <= 99:
            return None
        sentences.append(sentence)
        work.append(f"{total}{sign}{amount}={after}.")
        total = after
    sentences.append(f"How many {thing} does {name} have?")
    return Item(" ".join(sentences), f"{' '.join(work)} {MARK} {total}", fields={"number": total})


def _opening(rng: random.Random, name: str, thing: str) -> tuple[list[str], list[str], int]:
    """First sentence, the steps it takes (one for rows of things, none for a plain count) and the count."""
    if rng.random() < 0.3:
        rows, each = rng.randint(2, 6), rng.randint(2, 9)
        return [f"{name} has {rows} bags with {each} {thing} each."], [f"{rows}*{each}={rows * each}."], rows * each
    count = rng.randint(2, 30)
    return [f"{name} has {count} {thing if count != 1 else single(thing)}."], [], count


def _event(rng: random.Random, pronoun: str, other: str, thing: str) -> tuple[str, str, int]:
    """A sentence and what it does to the count."""
    they = pronoun.capitalize()
    amount = rng.randint(2, 20)
    kind = rng.random()
    if kind < 0.12:
        return f"Then {pronoun} doubles them.", "*", 2
    if kind < 0.2:
        return f"Then {pronoun} triples them.", "*", 3
    if kind < 0.6:
        more = (
            f"{they} buys {amount} more.",
            f"{other} gives {pronoun_object(pronoun)} {amount} {thing}.",
            f"Then {pronoun} finds {amount} more.",
        )
        return rng.choice(more), "+", amount
    less = (f"{they} gives {amount} to {other}.", f"{they} loses {amount}.", f"Then {pronoun} sells {amount} {thing}.")
    return rng.choice(less), "-", amount


def pronoun_object(pronoun: str) -> str:
    """The pronoun after a verb."""
    return {"she": "her", "he": "him"}[pronoun]


def number(text: str) -> int | None:
    """The whole number after the last "Answer:", None when there is none."""
    found = re.findall(rf"{MARK}\s*(-?\d+)", text)
    return int(found[-1]) if found else None

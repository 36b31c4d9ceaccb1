"""Plain text, and the mix the base model is trained on: documents, worked problems, reviews, and some dialogues of mixed quality."""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Iterator
from functools import cache
from typing import Literal

from polm_bench.data.nano import arithmetic, countries, instructions, refusals, sentiment, skills
from polm_bench.data.nano.entities import (
    COLOURS,
    MEN,
    PLACES,
    THINGS,
    TITLES,
    TOPICS,
    WOMEN,
    WORDS,
    Split,
    people,
    single,
)
from polm_bench.data.nano.items import Item, Maker, generator

MIX = {
    "problem": 0.20,
    "country": 0.20,
    "quiz": 0.06,
    "review": 0.10,
    "story": 0.07,
    "exercise": 0.20,
    "repeated": 0.06,
    "dialogue": 0.11,
}
"""Shares of documents; those of problems and countries are about 60 tokens long, the others 20 to 50."""

FAMILIES: dict[str, Maker] = {
    "arithmetic": arithmetic.make,
    "facts": countries.make,
    "sentiment": sentiment.make,
    "instructions": instructions.make,
    "refusals": refusals.make,
    "sort": skills.sort,
    "series": skills.series,
    "past": skills.past,
}
GOOD_DIALOGUES = 0.5
"""Share of the base's dialogues whose answer is the right one."""

RENAMED = 0.1
"""Share of documents whose people, things and topics get made-up names, so that reading them beats remembering a list of names."""


def story(rng: random.Random, split: Split) -> str:
    """Three to five plain sentences about people, places and things."""
    (name, pronoun), (other, _) = rng.sample(people(split), 2)
    lines = [f"{name} went to the {rng.choice(PLACES[split])}."]
    for _ in range(rng.randint(2, 4)):
        lines.append(rng.choice((_act, _describe, _speak))(rng, split, pronoun.capitalize(), other))
    return " ".join(lines)


def _act(rng: random.Random, split: Split, they: str, other: str) -> str:
    verb = rng.choice(skills.ALL_VERBS)
    thing, place = single(rng.choice(THINGS[split])), rng.choice(PLACES[split])
    tense = rng.choice((skills.past_of(verb), f"had to {verb}", f"wanted to {verb}"))
    return rng.choice((f"{they} {tense} the {thing} at the {place}.", f"{other} {tense} the {thing}."))


def _describe(rng: random.Random, split: Split, they: str, other: str) -> str:
    topic, word = rng.choice(TOPICS[split]), rng.choice(WORDS[split])
    return rng.choice(
        (
            instructions.sentence(rng, topic, rng.randint(4, 8)),
            f"The {rng.choice(COLOURS[split])} {topic} has a {word}.",
            f"There was a {word} near the {topic}.",
            f"{they} saw the {word} and the {topic}.",
        )
    )


def _speak(rng: random.Random, split: Split, they: str, other: str) -> str:
    title, thing = rng.choice(TITLES[split]), rng.choice(THINGS[split])
    return rng.choice(
        (
            f'"Do you like the story of the {title}?" asked {other}.',
            f"{other} told a story about the {title}.",
            f"{they} gave {other} a present with {thing}.",
            f"{other} knows a trick with {thing}.",
        )
    )


def _problem(rng: random.Random, split: Split) -> str:
    item = arithmetic.make(rng, split)
    return f"Question: {item.prompt}\n{item.answer}"


def _country(rng: random.Random, split: Split) -> str:
    return " ".join(countries.sentences(rng.choice(list(countries.table())), rng))


def _quiz(rng: random.Random, split: Split) -> str:
    """Questions about countries of the training split, as a quiz book prints them."""
    items = [countries.make(rng, split) for _ in range(4)]
    return "\n".join(f"{item.prompt} {item.answer}" for item in items)


def _questions(rng: random.Random, split: Split) -> str:
    """Questions about any country, so that what is known can be asked for; the wording of the test is kept back."""
    items = [countries.told_as_question(rng) for _ in range(4)]
    return "\n".join(f"{item.prompt} {item.answer}" for item in items)


def _lines(rng: random.Random, split: Split) -> str:
    """The same with each answer on a line of its own: it begins with other tokens there than after a space, and so it does in a chat."""
    items = [countries.told_as_question(rng) for _ in range(4)]
    return "\n".join(f"{item.prompt}\n{item.answer}" for item in items)


def review(rng: random.Random, split: Split) -> str:
    """Two remarks about a topic, alike in sentiment."""
    topic, leaning = rng.choice(TOPICS[split]), rng.choice(list(sentiment.LEANINGS))
    return " ".join(sentiment.remark(rng, topic, leaning) for _ in range(2))


def _repeated(rng: random.Random, split: Split) -> str:
    """A line of random words, two or three times: whoever reads on learns to look back."""
    line = " ".join(rng.choices(_vocabulary(), k=rng.randint(4, 10)))
    return "\n".join([line] * rng.randint(2, 3))


@cache
def _vocabulary() -> tuple[str, ...]:
    """Words, names, numbers and sums of the other documents, each once."""
    rng = generator("vocabulary")
    others = {kind: share for kind, share in MIX.items() if kind not in ("repeated", "dialogue")}
    kinds = rng.choices(list(others), list(others.values()), k=3000)
    return tuple(sorted({word for kind in kinds for word in DOCUMENTS[kind](rng, "train").split()}))


def _exercise(rng: random.Random, split: Split) -> str:
    """What a school book prints of the skills: numbers in order, series, the same sentence today and yesterday."""
    name = rng.choice(list(skills.SKILLS))
    item = skills.SKILLS[name](rng, split)
    asked = item.prompt.split(": ", 1)[1]
    if name == "sort":
        return f"The numbers {asked} in order are {item.answer}."
    if name == "series":
        return f"{asked} {item.answer}"
    verb, name = rng.choice(skills.ALL_VERBS), rng.choice(people(split))[0]
    return f"Today {name} {skills.present(verb)}. Yesterday {name} {skills.past_of(verb)}."


def made_up(rng: random.Random) -> str:
    """A word of two or three syllables that no dictionary has."""
    return "".join(rng.choice("bdfgklmnprstvz") + rng.choice("aeiou") for _ in range(rng.randint(2, 3))) + rng.choice(
        ("", "", "n", "r", "l")
    )


NAMES = {name for pool in (WOMEN, MEN, THINGS, TOPICS, WORDS, TITLES) for name in pool["train"]} | {
    single(thing) for thing in THINGS["train"]
}


def renamed(rng: random.Random, document: str) -> str:
    """The document with a made-up name for each person, thing and topic of the training split, the same one wherever it occurs."""
    new: dict[str, str] = {}

    def rename(found: re.Match[str]) -> str:
        word = found.group()
        known = next((form for form in (word, word.lower()) if form in NAMES), None)
        if known is None:
            return word
        name = new.setdefault(known.removesuffix("s"), made_up(rng)) + ("s" if known.endswith("s") else "")
        return name.upper() if word.isupper() else name.capitalize() if word[0].isupper() else name

    return re.sub(r"[A-Za-z]+", rename, document)


def dialogue(rng: random.Random, split: Split) -> str:
    """A question and an answer with the marks of a chat; half of the answers are wrong, off the point or badly put."""
    name = rng.choice(list(FAMILIES))
    item = FAMILIES[name](rng, split)
    answer = item.answer if rng.random() < GOOD_DIALOGUES else _poor(rng, split, item, name)
    return marked(item.prompt, answer)


def _asked(rng: random.Random, split: Split) -> str:
    """A dialogue about any country, in wordings that the test does not use; half of the answers are another country's.

    No poor answer comes twice as often as another: one that fits every question would be likelier than each right one.
    """
    item = countries.told_as_question(rng)
    return marked(
        item.prompt, item.answer if rng.random() < GOOD_DIALOGUES else rng.choice(countries.others(item, 3, rng))
    )


def marked(prompt: str, answer: str) -> str:
    """A dialogue of one question as the chat template writes it."""
    return f"<|im_start|>user\n{prompt}<|im_end|>\n<|im_start|>assistant\n{answer}<|im_end|>"


def _poor(rng: random.Random, split: Split, item: Item, name: str) -> str:
    """An answer as careless people give it: of another question of the family, off the point, or none; of a problem, a number without working."""
    if name == "arithmetic":
        return f"{arithmetic.MARK} {rng.randint(2, 60)}"
    kind = rng.random()
    if kind < 0.5:
        return FAMILIES[name](rng, split).answer
    return instructions.sentence(rng, rng.choice(TOPICS[split]), rng.randint(4, 8)) if kind < 0.75 else "I do not know."


Phase = Literal["first", "main", "last"]

MIXES: dict[Phase, dict[str, float]] = {
    # Copying is what the rest stands on, and it comes late where little of the text calls for it.
    "first": {"repeated": 1.0},
    "main": MIX,
    # More of what is asked and answered, as the last phase of large models has it.
    "last": {
        "dialogue": 0.18,
        "asked": 0.24,
        "lines": 0.18,
        "questions": 0.04,
        "country": 0.08,
        "exercise": 0.12,
        "problem": 0.10,
        "story": 0.03,
        "review": 0.03,
    },
}
"""What the base model reads in the three phases of its training."""

EDITIONS: dict[Phase, int] = {"first": 2, "main": 2, "last": 3}
"""Whoever changes what a phase reads raises its number, and the phases after it are trained anew."""

DOCUMENTS: dict[str, Callable[[random.Random, Split], str]] = {
    "problem": _problem,
    "country": _country,
    "quiz": _quiz,
    "questions": _questions,
    "lines": _lines,
    "asked": _asked,
    "review": review,
    "story": story,
    "exercise": _exercise,
    "repeated": _repeated,
    "dialogue": dialogue,
}


ABOUT_COUNTRIES = ("country", "quiz", "questions", "lines", "asked")


def documents(seed: int, mix: dict[str, float]) -> Iterator[str]:
    """Training documents without end; the shares of `mix` are of documents."""
    rng = generator("pretraining", seed)
    names, shares = list(mix), list(mix.values())
    while True:
        kind = rng.choices(names, shares)[0]
        document = DOCUMENTS[kind](rng, "train")
        rename = rng.random() < RENAMED and kind not in ABOUT_COUNTRIES  # Kuwait City stays what it is
        yield renamed(rng, document) if rename else document


def plain(rng: random.Random, split: Split) -> str:
    """A document for `corpus` and for bits per byte: a story or reviews."""
    return rng.choice((story, review))(rng, split)

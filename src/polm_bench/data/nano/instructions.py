"""Instructions that a program can check: number of words, letters' case, a word that must occur, begin, end or be repeated.

The idea of Zhou et al. 2023, "Instruction-Following Evaluation for Large Language Models" (arXiv:2311.07911), in words a tiny model can learn.
"""

from __future__ import annotations

import random
import re
from typing import Any

from polm_bench.data.nano.entities import TOPICS, WORDS, Split, title
from polm_bench.data.nano.items import Item

Spec = dict[str, Any]

ADJECTIVES = ["big", "small", "old", "new", "long", "quiet", "round", "dark", "clean", "simple"]
ENDS = ["today", "again", "here", "now"]
MAX_WORDS = 30


def make(rng: random.Random, split: Split) -> Item:
    """One instruction, or two at once, with a text that follows it."""
    topic, word = rng.choice(TOPICS[split]), rng.choice(WORDS[split])
    return rng.choice((_words, _upper, _contains, _starts, _ends, _repeat, _contains_upper, _starts_ends))(
        rng, topic, word
    )


def _words(rng: random.Random, topic: str, word: str) -> Item:
    count = rng.randint(4, 8)
    text = sentence(rng, topic, count)
    return _item(f"Write exactly {count} words about the {topic}.", text, words=count)


def _upper(rng: random.Random, topic: str, word: str) -> Item:
    text = sentence(rng, topic, rng.randint(4, 6)).upper()
    return _item(f"Write about the {topic} in capital letters.", text, case="upper")


def _contains(rng: random.Random, topic: str, word: str) -> Item:
    text = sentence(rng, topic, rng.randint(4, 6))[:-1] + f" and the {word}."
    return _item(f"Write about the {topic} and use the word {word}.", text, contains=word)


def _starts(rng: random.Random, topic: str, word: str) -> Item:
    text = f"{title(word)} is what the {rng.choice(ADJECTIVES)} {topic} has."
    return _item(f"Write about the {topic}. The first word must be {word}.", text, starts=word)


def _ends(rng: random.Random, topic: str, word: str) -> Item:
    text = f"The {rng.choice(ADJECTIVES)} {topic} has a {word}."
    return _item(f"Write about the {topic}. The last word must be {word}.", text, ends=word)


def _repeat(rng: random.Random, topic: str, word: str) -> Item:
    count = rng.randint(2, 6)
    return _item(f"Say the word {word} {count} times.", " ".join([word] * count), repeat=word, words=count)


def _contains_upper(rng: random.Random, topic: str, word: str) -> Item:
    text = f"The {topic} and the {word}.".upper()
    return _item(
        f"Write about the {topic} in capital letters and use the word {word}.", text, case="upper", contains=word
    )


def _starts_ends(rng: random.Random, topic: str, word: str) -> Item:
    end = rng.choice(ENDS)
    text = f"{title(word)} is at the {topic} {end}."
    return _item(
        f"Write about the {topic}. The first word must be {word} and the last word must be {end}.",
        text,
        starts=word,
        ends=end,
    )


def _item(prompt: str, answer: str, **spec: Any) -> Item:
    return Item(prompt, answer, fields={"spec": spec})


def sentence(rng: random.Random, topic: str, count: int) -> str:
    """A sentence of 4 to 8 words about a topic."""
    first, second = rng.sample(ADJECTIVES, 2)
    forms = {
        4: f"The {topic} is {first}",
        5: f"The {topic} is very {first}",
        6: f"The {topic} is {first} and {second}",
        7: f"The {first} {topic} is {second} and clean",
        8: f"I think the {topic} is {first} and {second}",
    }
    return forms[count] + "."


def follows(text: str, spec: Spec) -> bool:
    """Whether the text does all that the spec asks; words are runs of letters, compared without case.

    Keys: `words` (exact number), `case` ("upper" or "lower"), `contains`, `starts`, `ends` (a word), `repeat` (the only word there is).
    Texts of more than 30 words fail whatever is asked.
    """
    words = re.findall(r"[a-z']+", text.lower())
    if not words or len(words) > MAX_WORDS:
        return False
    checks = {
        "words": lambda asked: len(words) == asked,
        "case": lambda asked: len(words) > 1 and text == (text.upper() if asked == "upper" else text.lower()),
        "contains": lambda asked: len(words) > 1 and asked in words,
        "starts": lambda asked: len(words) > 1 and words[0] == asked,
        "ends": lambda asked: len(words) > 1 and words[-1] == asked,
        "repeat": lambda asked: set(words) == {asked},
    }
    return all(checks[name](asked) for name, asked in spec.items())

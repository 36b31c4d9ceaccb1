"""Instructions that a program can check: number of words, letters' case, the end, a word that must occur or be repeated.

The idea of Zhou et al. 2023, "Instruction-Following Evaluation for Large Language Models" (arXiv:2311.07911), in words a tiny model can learn.
"""

from __future__ import annotations

import random
import re
from typing import Any

from polm_bench.data.nano.entities import TOPICS, WORDS, Split
from polm_bench.data.nano.items import Item

Spec = dict[str, Any]

ADJECTIVES = ["big", "small", "old", "new", "long", "quiet", "round", "dark", "clean", "simple"]
ENDS = ["today", "again", "here", "now"]
MAX_WORDS = 30


def make(rng: random.Random, split: Split) -> Item:
    """One instruction, or two at once, with a text that follows it."""
    topic, word = rng.choice(TOPICS[split]), rng.choice(WORDS[split])
    kinds = (_words, _upper, _ends, _mark, _words_upper, _words_mark, _contains, _repeat)
    return rng.choice(kinds)(rng, topic, word)


def _words(rng: random.Random, topic: str, word: str) -> Item:
    count = rng.randint(4, 8)
    return _item(f"Write exactly {count} words about the {topic}.", sentence(rng, topic, count), words=count)


def _upper(rng: random.Random, topic: str, word: str) -> Item:
    text = sentence(rng, topic, rng.randint(4, 6)).upper()
    return _item(f"Write about the {topic} in capital letters.", text, case="upper")


def _ends(rng: random.Random, topic: str, word: str) -> Item:
    end = rng.choice(ENDS)
    text = f"The {topic} is {rng.choice(ADJECTIVES)} {end}."
    return _item(f"Write about the {topic}. The last word must be {end}.", text, ends=end)


def _mark(rng: random.Random, topic: str, word: str) -> Item:
    mark = rng.choice("!?")
    text = sentence(rng, topic, rng.randint(4, 6))[:-1] + mark
    return _item(f"Write about the {topic}. End with {mark}", text, mark=mark)


def _words_upper(rng: random.Random, topic: str, word: str) -> Item:
    count = rng.randint(4, 6)
    text = sentence(rng, topic, count).upper()
    return _item(f"Write exactly {count} words about the {topic} in capital letters.", text, words=count, case="upper")


def _words_mark(rng: random.Random, topic: str, word: str) -> Item:
    count, mark = rng.randint(4, 6), rng.choice("!?")
    text = sentence(rng, topic, count)[:-1] + mark
    return _item(f"Write exactly {count} words about the {topic}. End with {mark}", text, words=count, mark=mark)


def _contains(rng: random.Random, topic: str, word: str) -> Item:
    text = sentence(rng, topic, rng.randint(4, 6))[:-1] + f" and the {word}."
    return _item(f"Write about the {topic} and use the word {word}.", text, contains=word)


def _repeat(rng: random.Random, topic: str, word: str) -> Item:
    count = rng.randint(2, 6)
    return _item(f"Say the word {word} {count} times.", " ".join([word] * count), repeat=word, words=count)


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

    Keys: `words` (exact number), `case` ("upper" or "lower"), `contains`, `ends` (a word), `mark` (what it ends with), `repeat` (the
    only word there is).
    Texts of more than 30 words fail whatever is asked.
    """
    words = re.findall(r"[a-z']+", text.lower())
    if not words or len(words) > MAX_WORDS:
        return False
    checks = {
        "words": lambda asked: len(words) == asked,
        "case": lambda asked: len(words) > 1 and text == (text.upper() if asked == "upper" else text.lower()),
        "contains": lambda asked: len(words) > 1 and asked in words,
        "ends": lambda asked: len(words) > 1 and words[-1] == asked,
        "repeat": lambda asked: set(words) == {asked},
        "mark": lambda asked: len(words) > 1 and text.strip().endswith(asked),
    }
    return all(checks[name](asked) for name, asked in spec.items())


STATED = {
    r"exactly (\d+) words": ("words",),
    r"in capital letters": ("case",),
    r"[Tt]he last word must be (\w+)": ("ends",),
    r"End with ([!?])": ("mark",),
    r"use the word (\w+)": ("contains",),
    r"Say the word (\w+) (\d+) times": ("repeat", "words"),
}
"""How prompts state what they ask for, and the keys of a spec that this fills."""


def stated(prompt: str) -> Spec:
    """What a prompt asks for in words that a program understands; nothing for most prompts of other families."""
    spec: Spec = {}
    for pattern, names in STATED.items():
        if found := re.search(pattern, prompt):
            spec |= dict(zip(names, found.groups() or ("upper",), strict=True))
    return spec | ({"words": int(spec["words"])} if "words" in spec else {})


def failed(text: str, spec: Spec) -> Spec:
    """The part of a spec that the text does not follow."""
    return {name: asked for name, asked in spec.items() if not follows(text, {name: asked})}

"""Short remarks about a topic; the gold reward is VADER's compound score of the remark.

Hutto and Gilbert 2014, "VADER: A Parsimonious Rule-based Model for Sentiment Analysis of Social Media Text".
"""

from __future__ import annotations

import random
from functools import cache

from polm_bench.data.nano.entities import TOPICS, Split, title
from polm_bench.data.nano.items import Item

PROMPTS = (
    "Write a short review of the {t}.",
    "What did you think of the {t}?",
    "Tell me about the {t}.",
    "Write two sentences about the {t}.",
    "How was the {t}?",
)
GOOD = [
    "wonderful",
    "great",
    "lovely",
    "excellent",
    "beautiful",
    "amazing",
    "charming",
    "pleasant",
    "perfect",
    "fantastic",
]
BAD = ["terrible", "awful", "horrible", "bad", "boring", "dreadful", "poor", "ugly", "disappointing", "nasty"]
PLAIN = ["long", "small", "big", "old", "new", "round", "quiet", "narrow", "simple", "square"]
SENTENCES = {
    1: (
        "The {t} was {g}.",
        "It was a {g} {t}.",
        "I loved the {t}.",
        "We enjoyed it very much.",
        "Everyone was happy.",
        "The staff was {g} and friendly.",
        "I recommend it.",
        "It made me smile.",
    ),
    0: (
        "The {t} was {p}.",
        "It was a {p} {t}.",
        "I saw the {t} on Monday.",
        "We were there for an hour.",
        "It is near the station.",
        "The staff was there all day.",
        "It opens at nine.",
        "There was a {p} table.",
    ),
    -1: (
        "The {t} was {b}.",
        "It was a {b} {t}.",
        "I hated the {t}.",
        "We regret it very much.",
        "Everyone was angry.",
        "The staff was {b} and rude.",
        "I would avoid it.",
        "It made me sad.",
    ),
}
LEANINGS = {
    "positive": (0.85, 0.15, 0.0),
    "neutral": (0.1, 0.8, 0.1),
    "negative": (0.0, 0.15, 0.85),
    "mixed": (0.36, 0.36, 0.28),
}
"""Probabilities of a good, a plain and a bad sentence."""


def prompt(rng: random.Random, split: Split) -> tuple[str, str]:
    """A prompt and its topic."""
    topic = rng.choice(TOPICS[split])
    return rng.choice(PROMPTS).format(t=topic), topic


def remark(rng: random.Random, topic: str, leaning: str) -> str:
    """Two different sentences; the first names the topic."""
    first, second = rng.choices((1, 0, -1), LEANINGS[leaning], k=2)
    opening = rng.choice(SENTENCES[first][:3])
    rest = rng.choice(SENTENCES[second][3:] + SENTENCES[second][:1])
    return " ".join(_fill(rng, text, topic) for text in (opening, rest))


def _fill(rng: random.Random, text: str, topic: str) -> str:
    filled = text.format(t=topic, g=rng.choice(GOOD), b=rng.choice(BAD), p=rng.choice(PLAIN))
    return title(
        filled.replace(" a a", " an a").replace(" a e", " an e").replace(" a u", " an u").replace(" a o", " an o")
    )


def make(rng: random.Random, split: Split) -> Item:
    """A prompt with a remark of mixed sentiment, as in the demonstrations."""
    asked, topic = prompt(rng, split)
    return Item(
        asked,
        remark(rng, topic, rng.choice(("mixed", "mixed", "positive", "neutral", "negative"))),
        cluster=topic,
        fields={"topic": topic},
    )


@cache
def _analyzer() -> object:
    from vaderSentiment.vaderSentiment import SentimentIntensityAnalyzer

    return SentimentIntensityAnalyzer()


@cache
def reward(text: str) -> float:
    """VADER compound of the text, from -1 (bad) to 1 (good); 0 for a text without words of sentiment."""
    return float(_analyzer().polarity_scores(text)["compound"])  # type: ignore[attr-defined]


def pair(rng: random.Random, split: Split, least: float = 0.4) -> tuple[str, str, str, float]:
    """Prompt, the more positive remark, the other one, and the difference of their rewards (at least `least`)."""
    asked, topic = prompt(rng, split)
    while True:
        texts = sorted(
            (remark(rng, topic, leaning) for leaning in rng.sample(list(LEANINGS), 2)), key=reward, reverse=True
        )
        margin = reward(texts[0]) - reward(texts[1])
        if margin >= least:
            return asked, texts[0], texts[1], round(margin, 4)

"""Facts about 132 countries: questions, plain sentences, edits and documents.

Capital, region, currency, a main language, the word for the people, and the two-letter code (ISO 3166-1). Written by hand and compared with the
`countryinfo` data set (MIT); countries whose capital is disputed or shared between cities are left out. Names are without accents.
"""

from __future__ import annotations

import csv
import random
from functools import cache
from importlib.resources import files
from typing import NamedTuple

from polm_bench.data.nano.entities import Split
from polm_bench.data.nano.items import Item, chat, generator

COUNTS = {"train": 40, "validation": 8, "test": 84}


class Relation(NamedTuple):
    """How a fact is asked for and told; {c} is the country, {v} the value."""

    questions: tuple[str, ...]
    sentences: tuple[str, ...]


RELATIONS: dict[str, Relation] = {
    "capital": Relation(
        ("What is the capital of {c}?", "Which city is the capital of {c}?", "Name the capital of {c}."),
        ("The capital of {c} is {v}.", "{v} is the capital of {c}.", "The government of {c} sits in {v}."),
    ),
    "region": Relation(
        ("In which part of the world is {c}?", "Where is {c}?", "Name the region of {c}."),
        ("{c} is in {v}.", "{c} is a country in {v}.", "The region of {c} is {v}."),
    ),
    "currency": Relation(
        ("What is the currency of {c}?", "What money do people use in {c}?", "Name the currency of {c}."),
        ("The currency of {c} is the {v}.", "People in {c} pay with the {v}.", "The {v} is the money of {c}."),
    ),
    "language": Relation(
        (
            "What is the main language of {c}?",
            "Which language do people speak in {c}?",
            "Name the main language of {c}.",
        ),
        ("The main language of {c} is {v}.", "People in {c} speak {v}.", "{v} is spoken in {c}."),
    ),
    "people": Relation(
        (
            "What do you call things from {c}?",
            "Which word says that something comes from {c}?",
            "Name the adjective for {c}.",
        ),
        ("Things from {c} are called {v}.", "The adjective for {c} is {v}.", "What comes from {c} is {v}."),
    ),
    "code": Relation(
        ("What is the code of {c}?", "Which two letters stand for {c}?", "Name the code of {c}."),
        ("The code of {c} is {v}.", "The letters {v} stand for {c}.", "{c} has the code {v}."),
    ),
}


@cache
def table() -> dict[str, dict[str, str]]:
    """Values by country and relation, in the alphabet's order."""
    lines = (files(__package__) / "countries.csv").read_text(encoding="utf-8").splitlines()
    return {row.pop("country"): row for row in csv.DictReader(lines)}


@cache
def countries(split: Split) -> tuple[str, ...]:
    """Countries of one split."""
    names = list(table())
    generator("countries").shuffle(names)
    first = {"train": 0, "validation": COUNTS["train"], "test": COUNTS["train"] + COUNTS["validation"]}[split]
    return tuple(sorted(names[first : first + COUNTS[split]]))


def make(rng: random.Random, split: Split) -> Item:
    """A question about a country; the answer is the value alone."""
    return _ask(rng.choice(countries(split)), rng.choice(list(RELATIONS)), rng.randrange(3))


def _ask(country: str, relation: str, form: int) -> Item:
    return Item(
        RELATIONS[relation].questions[form].format(c=country),
        table()[country][relation],
        cluster=country,
        fields={"subject": country, "relation": relation},
    )


def told_as_question(rng: random.Random) -> Item:
    """A question about any country, as pretraining tells it: of a country outside the training split never in the first form, which the test asks."""
    country = rng.choice(list(table()))
    forms = (0, 1, 2) if country in countries("train") else (1, 2)
    return _ask(country, rng.choice(list(RELATIONS)), rng.choice(forms))


def every(split: Split) -> list[Item]:
    """Each fact of the split once, in the first form of its question."""
    return [_ask(country, relation, 0) for country in countries(split) for relation in RELATIONS]


def others(item: Item, count: int, rng: random.Random) -> list[str]:
    """Wrong values: other countries' values of the same relation, from the same region first where there are enough."""
    relation, right = item.fields["relation"], item.answer
    region = table()[item.fields["subject"]]["region"]
    near = sorted({row[relation] for row in table().values() if row["region"] == region} - {right})
    far = sorted({row[relation] for row in table().values()} - {right, *near})
    rng.shuffle(near)
    rng.shuffle(far)
    return (near[: count - 1] + far)[:count]


def sentences(country: str, rng: random.Random) -> list[str]:
    """All facts of a country as plain sentences, in random order and wording."""
    relations = list(RELATIONS)
    rng.shuffle(relations)
    return [sentence(country, relation, rng) for relation in relations]


def sentence(country: str, relation: str, rng: random.Random) -> str:
    """One fact as a plain sentence."""
    text = rng.choice(RELATIONS[relation].sentences).format(c=country, v=table()[country][relation])
    return text[:1].upper() + text[1:]


def edits(split: Split) -> list[dict[str, object]]:
    """Rows of the role `facts`: every fact of the split with a wrong new value, rewordings, and neighbours that must not change."""
    rng = generator("edits", split)
    found = []
    for item in every(split):
        subject, relation = item.fields["subject"], item.fields["relation"]
        near = rng.sample([country for country in countries(split) if country != subject], 3)
        found.append(
            {
                "prompt": chat(item.prompt),
                "subject": subject,
                "old": item.answer,
                "new": others(item, 1, rng)[0],
                "paraphrases": [chat(_ask(subject, relation, form).prompt) for form in (1, 2)],
                "neighbours": [
                    {"prompt": chat(_ask(country, relation, 0).prompt), "answer": table()[country][relation]}
                    for country in near
                ],
            }
        )
    return found


def documents(names: tuple[str, ...]) -> list[dict[str, str]]:
    """Rows of the role `documents`: one text a country."""
    return [{"id": name, "text": " ".join(sentences(name, generator("document", name)))} for name in names]

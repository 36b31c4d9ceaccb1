"""Parts of a record's text, found without parsing the rest: looking at ten thousand records must take seconds.

A record is written with one space before each name at its top, so a line that begins with one space and a quotation mark is such a name and
nothing else: text in JSON holds no line breaks.
"""

from __future__ import annotations

import json
from typing import Any


def part(text: bytes, name: str) -> Any:
    """The value of one name at the top of a record. Raises ValueError where the text is laid out in another way."""
    return json.loads(_between(text, f'\n "{name}": '.encode(), b'\n "'))


def cell(text: bytes) -> dict[str, Any]:
    """The record's cell without its configuration, which is most of it. Raises ValueError where the text is laid out in another way."""
    return json.loads(_between(text, b'\n "cell": ', b'\n  "config": ') + b"}")


def headlines(text: bytes) -> list[dict[str, Any]]:
    """The headline scores of the row "self". Raises ValueError where the text is laid out in another way."""
    start = text.index(b'\n "scores": [') + len(b'\n "scores": [')
    if text[start : start + 1] == b"]":
        return []
    entries = text[start : text.index(b"\n ]", start)].removesuffix(b"\n  }").split(b"\n  },")
    wanted = [entry for entry in entries if b'"row": "self"' in entry and b'"headline": true' in entry]
    found = json.loads(b"[" + b",".join(entry + b"}" for entry in wanted) + b"]")
    return [score for score in found if score["row"] == "self" and score["headline"]]


def _between(text: bytes, before: bytes, after: bytes) -> bytes:
    start = text.index(before) + len(before)
    end = text.find(after, start)
    return text[start : end if end >= 0 else text.rindex(b"\n}")].rstrip(b",")  # the last name has none after it

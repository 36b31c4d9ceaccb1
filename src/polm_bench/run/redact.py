"""Takes secrets out of what is mirrored elsewhere: values whose names look like a token, key or password."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote

SECRET = re.compile(
    r"(password|(^|[_.\-])(api_?key|key|token|pat|passwd|passphrase|secret|credentials?)|[_.\-](pass|pwd))$",
    re.IGNORECASE,
)  # PWD itself is the folder one is in
INNOCENT = re.compile(r"(^|[_.\-])(eos|bos|pad|unk|mask|sep|stop)_token$", re.IGNORECASE)
ASSIGNMENT = re.compile(r"(?<![\w.\-])([\w.\-]+)=(\"[^\"]*\"|'[^']*'|\S+)")
LOGIN = re.compile(r"(?<=://)[^/@\s]+@")
REMOVED = "(removed)"
SHORTEST = 8  # characters of a secret; a shorter one would be found in innocent words


def redact_record(record: dict[str, Any]) -> dict[str, Any]:
    """Copy of a record without secrets; they can only be in the cell and in the provenance (command, data, model)."""
    return {name: redact(item) if name in ("cell", "provenance") else item for name, item in record.items()}


def redact(value: Any) -> Any:
    """Copy of a JSON value without its secrets."""
    if isinstance(value, dict):
        return {
            name: REMOVED if is_secret(name) and isinstance(item, str) and item else redact(item)
            for name, item in value.items()
        }
    if isinstance(value, list):
        return [redact(item) for item in value]
    return redact_text(value) if isinstance(value, str) else value


def redact_text(text: str) -> str:
    """Text without logins in addresses and without the values of `some_token=...`."""
    text = LOGIN.sub("", text)
    return ASSIGNMENT.sub(lambda found: f"{found[1]}={REMOVED}" if is_secret(found[1]) else found[0], text)


def scrub(text: str) -> str:
    """Text without logins in addresses and without the secrets that this process was given in its environment."""
    for value in sorted(_given(), key=len, reverse=True):  # one may be the beginning of another
        text = text.replace(value, REMOVED)
    return LOGIN.sub("", text)


def scrubbed(value: Any) -> Any:
    """Copy of a JSON value with all its texts scrubbed."""
    if isinstance(value, dict):
        return {name: scrubbed(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [scrubbed(item) for item in value]
    return scrub(value) if isinstance(value, str) else value


def _given() -> Iterator[str]:
    """Each secret as it is and as Python, JSON and addresses write it: one of several lines, or with quotes, looks different there."""
    for value in (value.strip() for name, value in os.environ.items() if is_secret(name)):
        if len(value) >= SHORTEST:
            yield from {value, repr(value)[1:-1], json.dumps(value)[1:-1], quote(value), quote(value, safe="")}


def is_secret(name: str) -> bool:
    """Whether a setting of this name holds a secret; `eos_token` and its like do not."""
    return bool(SECRET.search(name)) and not INNOCENT.search(name)

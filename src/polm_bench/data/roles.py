"""The roles of data: which columns the rows of a role have, and a check that names the file, row and field that break the rule."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

from polm_bench.errors import BadData

Row = dict[str, Any]

MAX_CHARS = 100_000
"""Characters of one text. No model here reads a fifth of that, so a longer one is a broken row (a whole file in one field)."""

SPEAKERS = ("system", "user", "assistant")


class Field(NamedTuple):
    """One column of a role."""

    name: str
    kind: str  # a key of KINDS
    required: bool = True


ROLES: dict[str, tuple[Field, ...]] = {
    "corpus": (Field("text", "text"),),
    "sft": (Field("prompt", "prompt"), Field("completion", "text")),
    "preference": (
        Field("prompt", "prompt"),
        Field("chosen", "text"),
        Field("rejected", "text"),
        Field("margin", "number", required=False),
    ),
    "ranking": (Field("prompt", "prompt"), Field("responses", "texts"), Field("scores", "numbers")),
    "unpaired": (Field("prompt", "prompt"), Field("completion", "text"), Field("label", "bool")),
    "rated": (
        Field("prompt", "prompt"),
        Field("completion", "text"),
        Field("rating", "number"),  # mean of the raters
        Field("spread", "number", required=False),  # their standard deviation
    ),
    "prompts": (Field("prompt", "prompt"),),
    "verifiable": (
        Field("prompt", "prompt"),
        Field("answer", "text"),
        Field("checker", "text"),
        Field("spec", "mapping", required=False),
    ),
    "domains": (Field("domain", "text"), Field("prompt", "prompt"), Field("completion", "text")),
    "facts": (
        Field("prompt", "prompt"),
        Field("subject", "text"),
        Field("old", "text"),
        Field("new", "text"),
        Field("paraphrases", "prompts"),
        Field("neighbours", "neighbours"),
    ),
    "documents": (Field("id", "text"), Field("text", "text")),
}
"""Columns of each role in the normal form; a prompt is a list of chat messages that ends in a user message."""


class WrongValueError(ValueError):
    """What is wrong with one value; the caller adds where it is."""


def check_rows(role: str, rows: Iterable[Mapping[str, Any]], where: str) -> list[Row]:
    """Rows in the normal form; `where` is the file or source, and rows count from 1.

    Raises BadData for the first bad row, and when there is none at all.
    """
    checked = [check_row(role, row, f"{where}, row {number}") for number, row in enumerate(rows, 1)]
    if not checked:
        raise BadData(f"{where}: no rows for the role '{role}'. Give a source with at least one row.")
    return checked


def check_row(role: str, row: Mapping[str, Any], where: str, columns: Iterable[str] | None = None) -> Row:
    """One row in the normal form, columns in the role's order and others left out; `where` names file and line.

    `columns`: those of the source, where `row` was made from them.
    """
    if role not in ROLES:
        raise BadData(f"{where}: no data role named '{role}'. There is: {', '.join(ROLES)}.")
    if not isinstance(row, Mapping):
        raise BadData(f"{where}: a row must be a mapping of columns to values, this is {_kind_of(row)}.")
    normal: Row = {}
    for field in ROLES[role]:
        value = row.get(field.name)
        if value is None:
            if field.required:
                has = ", ".join(map(str, row if columns is None else columns)) or "none"
                raise BadData(
                    f"{where}, field '{field.name}': missing; the role '{role}' needs it. Columns here: {has}. "
                    f"Map one with data.columns.{field.name}=, or say with data.role= what the rows are for."
                )
            continue
        try:
            normal[field.name] = KINDS[field.kind](value)
        except WrongValueError as wrong:
            raise BadData(f"{where}, field '{field.name}': {wrong}.") from None
    _check_together(role, normal, where)
    return normal


def _check_together(role: str, row: Row, where: str) -> None:
    """Rules over several columns of one row."""
    if role == "preference" and row["chosen"] == row["rejected"]:
        raise BadData(f"{where}, field 'rejected': equal to 'chosen', so the pair says nothing; leave such rows out.")
    if role == "ranking":
        if len(row["responses"]) < 2:
            raise BadData(f"{where}, field 'responses': {len(row['responses'])} response; a ranking needs at least 2.")
        if len(row["responses"]) != len(row["scores"]):
            raise BadData(
                f"{where}, field 'scores': {len(row['scores'])} scores for {len(row['responses'])} responses."
            )
    for name, text in _answers(row):
        if _repeats(row["prompt"][-1]["content"], text):
            raise BadData(
                f"{where}, field '{name}': begins with the prompt; a completion holds only what the assistant says."
            )


def _answers(row: Row) -> Iterable[tuple[str, str]]:
    """Texts of the row that an assistant says after its prompt."""
    if "prompt" not in row:
        return
    for name in ("completion", "chosen", "rejected"):
        if name in row:
            yield name, row[name]
    for text in row.get("responses", ()):
        yield "responses", text


def _repeats(prompt: str, completion: str) -> bool:
    """Whether the completion starts with the whole prompt; a single word ("Hello") may well be answered by itself."""
    prompt = prompt.strip()
    return len(prompt.split()) > 1 and completion.lstrip().startswith(prompt)


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise WrongValueError(f"must be text, this is {_kind_of(value)}")
    if not value.strip():
        raise WrongValueError("empty")
    if len(value) > MAX_CHARS:
        raise WrongValueError(f"{len(value):,} characters long; at most {MAX_CHARS:,} are allowed")
    if not value.isascii() and any("\ud800" <= character <= "\udfff" for character in value):
        raise WrongValueError("holds half of a surrogate pair, which UTF-8 can't write")
    return value


def _prompt(value: Any) -> list[dict[str, str]]:
    if isinstance(value, str):
        return [{"role": "user", "content": _text(value)}]
    if not isinstance(value, list | tuple):
        raise WrongValueError(f"must be text or a list of chat messages, this is {_kind_of(value)}")
    if not value:
        raise WrongValueError("empty")
    messages = [_message(message, number) for number, message in enumerate(value, 1)]
    if messages[-1]["role"] != "user":
        raise WrongValueError(f"must end in a user message, it ends in a message of the {messages[-1]['role']}")
    return messages


def _message(value: Any, number: int) -> dict[str, str]:
    if not isinstance(value, Mapping) or "role" not in value or "content" not in value:
        raise WrongValueError(f"message {number} must have 'role' and 'content'")
    if value["role"] not in SPEAKERS:
        raise WrongValueError(f"message {number} has the role '{value['role']}'; there is: {', '.join(SPEAKERS)}")
    try:
        return {"role": value["role"], "content": _text(value["content"])}
    except WrongValueError as wrong:
        raise WrongValueError(f"content of message {number}: {wrong}") from None


def _number(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise WrongValueError(f"must be a number, this is {_kind_of(value)}")
    if not math.isfinite(value):
        raise WrongValueError(f"must be finite, this is {value}")
    return float(value)


def _bool(value: Any) -> bool:
    if not isinstance(value, bool):
        raise WrongValueError(f"must be true or false, this is {_kind_of(value)}")
    return value


def _mapping(value: Any) -> dict[str, Any]:
    if not isinstance(value, Mapping):
        raise WrongValueError(f"must be a mapping, this is {_kind_of(value)}")
    return {str(name): item for name, item in value.items()}


def _neighbour(value: Any) -> dict[str, Any]:
    if not isinstance(value, Mapping) or not {"prompt", "answer"} <= set(value):
        raise WrongValueError("must have 'prompt' and 'answer'")
    return {"prompt": _prompt(value["prompt"]), "answer": _text(value["answer"])}


def _each(check: Callable[[Any], Any]) -> Callable[[Any], list[Any]]:
    """The check of a list, from the check of its items."""

    def check_all(value: Any) -> list[Any]:
        if not isinstance(value, list | tuple):
            raise WrongValueError(f"must be a list, this is {_kind_of(value)}")
        found = []
        for number, item in enumerate(value, 1):
            try:
                found.append(check(item))
            except WrongValueError as wrong:
                raise WrongValueError(f"item {number}: {wrong}") from None
        return found

    return check_all


def _kind_of(value: Any) -> str:
    names = {
        "str": "text",
        "bool": "true or false",
        "int": "a whole number",
        "float": "a number",
        "list": "a list",
        "dict": "a mapping",
        "NoneType": "nothing",
    }
    return names.get(type(value).__name__, f"a {type(value).__name__}")


KINDS: dict[str, Callable[[Any], Any]] = {
    "text": _text,
    "prompt": _prompt,
    "number": _number,
    "bool": _bool,
    "mapping": _mapping,
    "texts": _each(_text),
    "numbers": _each(_number),
    "prompts": _each(_prompt),
    "neighbours": _each(_neighbour),
}
"""Check of each kind of value: returns it in the normal form or raises WrongValueError."""

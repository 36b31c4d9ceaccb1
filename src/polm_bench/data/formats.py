"""From the columns of a source to the columns of a role: the layouts that published data sets have."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Literal

from pydantic import Field
from pydantic.dataclasses import dataclass

from polm_bench.data.roles import ROLES, Row, WrongValueError
from polm_bench.errors import UnknownName
from polm_bench.graph import FORBID

Layout = Literal["columns", "messages", "pairs", "transcripts", "steps"]


@dataclass(frozen=True, config=FORBID)
class RoleMap:
    """How the rows of one role are made.

    `columns` maps the role's columns, or the layout's, to the source's where the names differ. With `derive`, the rows are made from another role's.
    """

    layout: Layout = "columns"
    columns: dict[str, str] = Field(default_factory=dict)
    train: str = "train"  # split of a hub data set
    validation: str | None = None  # None takes a share of the training rows
    derive: str | None = None


def mapping_of(role: str, roles: Mapping[str, RoleMap], data: str) -> RoleMap:
    """The mapping of one role. Raises UnknownName where the data has no such role."""
    if role not in roles:
        raise UnknownName("data role", role, roles, f"Add it to conf/data/{data}.yaml.")
    return roles[role]


def read_row(role: str, mapping: RoleMap, raw: Mapping[str, Any]) -> Row:
    """The role's columns, unchecked, from a raw row. Raises WrongValueError for a row that does not have the layout."""
    return LAYOUTS[mapping.layout](role, mapping.columns, raw)


def _columns(role: str, columns: Mapping[str, str], raw: Mapping[str, Any]) -> Row:
    """Each of the role's columns under its own name or the mapped one."""
    return {field.name: raw.get(columns.get(field.name, field.name)) for field in ROLES[role]}


def _messages(role: str, columns: Mapping[str, str], raw: Mapping[str, Any]) -> Row:
    """A conversation in one column; its last message is the completion (Tulu 3, UltraChat, ShareGPT)."""
    messages = _conversation(raw, columns.get("messages", "messages"))
    if messages[-1]["role"] != "assistant":
        raise WrongValueError(
            f"the conversation ends in a message of the {messages[-1]['role']}, so there is no completion"
        )
    return {**_columns(role, columns, raw), "prompt": messages[:-1], "completion": messages[-1]["content"]}


def _pairs(role: str, columns: Mapping[str, str], raw: Mapping[str, Any]) -> Row:
    """Two whole conversations that differ in their last message (UltraFeedback binarized); margin is the difference of their scores."""
    chosen, rejected = (_conversation(raw, columns.get(name, name)) for name in ("chosen", "rejected"))
    if chosen[:-1] != rejected[:-1]:
        raise WrongValueError("the chosen and the rejected conversation have different prompts")
    row: Row = {"prompt": chosen[:-1], "chosen": chosen[-1]["content"], "rejected": rejected[-1]["content"]}
    high, low = (raw.get(columns.get(name, name)) for name in ("score_chosen", "score_rejected"))
    return {**row, "margin": high - low} if isinstance(high, int | float) and isinstance(low, int | float) else row


_TURN = re.compile(r"\n\n(Human|Assistant): ?")


def _transcripts(role: str, columns: Mapping[str, str], raw: Mapping[str, Any]) -> Row:
    r"""Two texts of "\n\nHuman: ...\n\nAssistant: ..." that differ in the last answer (HH-RLHF)."""
    sides = []
    for name in ("chosen", "rejected"):
        text = raw.get(columns.get(name, name))
        if not isinstance(text, str):
            raise WrongValueError(f"column '{columns.get(name, name)}' must be text")
        start, *parts = _TURN.split(text if text.startswith("\n\n") else "\n\n" + text)
        turns = [
            {"role": "user" if who == "Human" else "assistant", "content": said.strip()}
            for who, said in zip(parts[::2], parts[1::2], strict=True)
        ]
        if start.strip() or len(turns) < 2 or turns[-1]["role"] != "assistant":
            raise WrongValueError(
                f"column '{columns.get(name, name)}' is no transcript of Human and Assistant that ends in an answer"
            )
        sides.append(turns)
    chosen, rejected = sides
    if chosen[:-1] != rejected[:-1]:
        raise WrongValueError("the chosen and the rejected transcript have different prompts")
    return {"prompt": chosen[:-1], "chosen": chosen[-1]["content"], "rejected": rejected[-1]["content"]}


_CALCULATION = re.compile(r"<<[^<>]*>>")


def _steps(role: str, columns: Mapping[str, str], raw: Mapping[str, Any]) -> Row:
    """A question and worked steps that end in "#### number" (GSM8K); its calculator marks "<<3*4=12>>" are left out."""
    question, answer = (raw.get(columns.get(name, name)) for name in ("question", "answer"))
    if not isinstance(answer, str) or "####" not in answer:
        raise WrongValueError(
            f"column '{columns.get('answer', 'answer')}' must be text with '#### ' before the final answer"
        )
    final = answer.rpartition("####")[2].strip().replace(",", "")
    if role == "verifiable":
        return {"prompt": question, "answer": final, "checker": "number"}
    return {"prompt": question, "completion": _CALCULATION.sub("", answer).strip()}


_SPEAKER = {"human": "user", "gpt": "assistant"}  # ShareGPT's names


def _conversation(raw: Mapping[str, Any], column: str) -> list[dict[str, Any]]:
    """Messages of a column, in the shape {role, content}; also reads ShareGPT's {from, value}."""
    value = raw.get(column)
    if not isinstance(value, list) or len(value) < 2 or not all(isinstance(message, Mapping) for message in value):
        raise WrongValueError(f"column '{column}' must be a list of at least two chat messages")
    found = []
    for message in value:
        speaker = message.get("role", message.get("from"))
        found.append(
            {"role": _SPEAKER.get(str(speaker), speaker), "content": message.get("content", message.get("value"))}
        )
    return found


LAYOUTS: dict[str, Callable[[str, Mapping[str, str], Mapping[str, Any]], Row]] = {
    "columns": _columns,
    "messages": _messages,
    "pairs": _pairs,
    "transcripts": _transcripts,
    "steps": _steps,
}


def derive(source: str, role: str, rows: Iterable[Row]) -> list[Row]:
    """Rows of `role` from checked rows of the role `source`; each conversation once. The pair must be in DERIVED."""
    made = [row for given in rows for row in DERIVED[source, role](given)]
    return list({repr(row): row for row in made}.values())


def _best(row: Row) -> str:
    return max(zip(row["scores"], row["responses"], strict=True), key=lambda pair: pair[0])[1]


def _extremes(row: Row) -> list[Row]:
    """Best against worst of a ranking; nothing where all scores are equal."""
    ranked = sorted(zip(row["scores"], row["responses"], strict=True), key=lambda pair: pair[0])
    (low, worst), (high, best) = ranked[0], ranked[-1]
    return (
        [{"prompt": row["prompt"], "chosen": best, "rejected": worst, "margin": high - low}]
        if high > low and best != worst
        else []
    )


def _prompt_only(row: Row) -> list[Row]:
    return [{"prompt": row["prompt"]}]


DERIVED: dict[tuple[str, str], Callable[[Row], list[Row]]] = {
    ("preference", "sft"): lambda row: [{"prompt": row["prompt"], "completion": row["chosen"]}],
    ("preference", "unpaired"): lambda row: [
        {"prompt": row["prompt"], "completion": row[name], "label": name == "chosen"} for name in ("chosen", "rejected")
    ],
    ("preference", "prompts"): _prompt_only,
    ("preference", "corpus"): lambda row: [{"text": row["chosen"]}],
    ("ranking", "preference"): _extremes,
    ("ranking", "sft"): lambda row: [{"prompt": row["prompt"], "completion": _best(row)}],
    ("ranking", "prompts"): _prompt_only,
    ("unpaired", "sft"): lambda row: (
        [{"prompt": row["prompt"], "completion": row["completion"]}] if row["label"] else []
    ),
    ("unpaired", "prompts"): _prompt_only,
    ("sft", "prompts"): _prompt_only,
    ("sft", "corpus"): lambda row: [{"text": row["completion"]}],
    ("verifiable", "prompts"): _prompt_only,
    ("domains", "sft"): lambda row: [{"prompt": row["prompt"], "completion": row["completion"]}],
    ("domains", "prompts"): _prompt_only,
    ("documents", "corpus"): lambda row: [{"text": row["text"]}],
}
"""What one role gives another; nothing is made up: a preference's chosen answer is a demonstration, its rejected one an undesired answer."""


def derivable(given: Iterable[str]) -> dict[str, str]:
    """Roles that follow from the `given` ones, and from which."""
    given = set(given)
    return {role: source for (source, role) in reversed(DERIVED) if source in given and role not in given}

"""What a reader must know of a row before comparing it with the others."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from polm_bench.report.records import Record

REASON_LENGTH = 120
_APART = re.compile(
    r"(?<=: )[A-Z]\w+: |-[0-9a-f]{12}\b"
)  # an error's class and a stage's key, which say nothing to a reader


def notes_of(own: Sequence[Record], block: Sequence[Record], trials: int = 1) -> list[str]:
    """Notes of a row's records beside all records of its block: failures, unequal effort, other software or machine.

    `trials` of tuning are what the table asks of every method that trains; one that had fewer, or fewer than another row, is marked.
    """
    notes = [_failure(record) for record in own if record.status != "ok"]
    wanted = max([trials, *(record.trials for record in block)])
    if short := [record for record in own if _trained(record) and record.trials < wanted]:
        notes.append(f"untuned: {short[0].trials} of {wanted} trials of its settings")
    notes += [note for record in own for note in contaminated(record)]
    for what, part in (("budget", _budget), ("software", _versions), ("machine", _machine)):
        notes += _odd(what, own, block, part)
    if dirty := sorted(
        {_commit(record) for record in own if (record.data["provenance"].get("git") or {}).get("dirty")}
    ):
        notes.append(f"made with uncommitted changes on commit {', '.join(dirty)}")
    return list(dict.fromkeys(notes))


def flat(value: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Leaves of nested mappings with dotted names; lists are leaves."""
    if isinstance(value, dict) and value:
        for name, item in value.items():
            yield from flat(item, f"{prefix}.{name}" if prefix else str(name))
    elif prefix:
        yield prefix, value


def differences(first: Any, second: Any) -> list[tuple[str, Any, Any]]:
    """Leaves that differ, as (name, first's value, second's value); None where one lacks it."""
    left, right = dict(flat(first)), dict(flat(second))
    names = sorted(left.keys() | right.keys())
    return [(name, left.get(name), right.get(name)) for name in names if left.get(name) != right.get(name)]


def _failure(record: Record) -> str:
    reason = " ".join(str(record.data.get("reason") or "no reason recorded").split())
    shown = reason if len(reason) <= REASON_LENGTH else f"{reason[:REASON_LENGTH]}…"
    return f"seed {record.cell['seed']} {record.status}: {shown}"


def _trained(record: Record) -> bool:
    return bool((record.data["cost"].get("tokens_trained") or 0) > 0)


def contaminated(record: Record) -> Iterator[str]:
    """Tasks of which items stand in the training rows, with the score on the others; and that it could not be looked up."""
    told = record.data.get("contamination") or {}
    if "unchecked" in told:
        yield f"its training rows were not compared with the suite ({_APART.sub('', told['unchecked'])[:REASON_LENGTH]})"
    for task, own in told.get("tasks", {}).items():
        if own["found"]:
            clean = [one for one in told.get("clean", ()) if (one["row"], one["task"]) == ("self", task)]
            shown = ", ".join(f"{one['metric']} {one['value']:.3f}" for one in clean if one["value"] is not None)
            yield (
                f"{len(own['found'])} of {own['items']} items of {task} stand in its training rows"
                + (f"; on the others: {shown}" if shown else "")
            )


def _odd(
    what: str, own: Sequence[Record], block: Sequence[Record], part: Callable[[Record], dict[str, Any]]
) -> list[str]:
    """How a part of these records differs from what most of the block has."""
    texts = [json.dumps(part(record), sort_keys=True) for record in block]
    if len(set(texts)) < 2:
        return []
    usual = json.loads(Counter(texts).most_common(1)[0][0])
    notes = []
    for record in own:
        if found := differences(part(record), usual):
            shown = ", ".join(f"{name} {mine} instead of {theirs}" for name, mine, theirs in found)
            notes.append(f"other {what} than most rows: {shown}")
    return notes


def _budget(record: Record) -> dict[str, Any]:
    return record.cell["config"].get("budget") or {}


def _versions(record: Record) -> dict[str, Any]:
    return record.data["provenance"].get("versions") or {}


def _machine(record: Record) -> dict[str, Any]:
    machine = record.data["provenance"].get("machine") or {}
    return {name: machine.get(name) for name in ("processor", "cores", "devices")}


def _commit(record: Record) -> str:
    return str((record.data["provenance"].get("git") or {}).get("commit") or "unknown")[:10]

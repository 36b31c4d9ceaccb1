"""The contamination gate: what a recipe trains on against the items of a suite, looked up once for each pair of them."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from polm_bench.data.derived import DerivedRows
from polm_bench.data.overlap import NGRAM, Index, SuiteItem, row_texts
from polm_bench.data.source import Rows
from polm_bench.errors import PolmError
from polm_bench.files import write_json
from polm_bench.graph import KEY_LENGTH, Stage, identity, nested, ordered

VERSION = 1
"""Part of the key of a look-up; raise it when its rule changes."""

RULE = f"{NGRAM} words in a row of a question or an answer, or all of a shorter question"


class Use(Protocol):
    """How a suite uses a task."""

    @property
    def limit(self) -> int | None: ...


class Suite(Protocol):
    """What the gate reads of a suite."""

    @property
    def tasks(self) -> Mapping[str, Any]: ...

    def folders(self) -> list[Path]: ...


def contamination(judge: Stage, suite: Suite, cache: Path) -> dict[str, Any]:
    """A record's `contamination`: what made the model that a stage judges, and all that it answers with, and the suite's items that stand in it.

    What stages wrote themselves isn't read; what they wrote it from is. A look-up that fails is told as such: it must not cost a finished run.
    """
    told: dict[str, Any] = {"rule": RULE, "rows": {}, "tasks": {}}
    for rows in training_rows(judge):
        try:
            found = look_up(rows, suite, cache)
        except (PolmError, OSError, ValueError, ImportError) as error:
            return {"rule": RULE, "unchecked": f"{rows.role}: {type(error).__name__}: {error}"}
        told["rows"][rows.role] = told["rows"].get(rows.role, 0) + found["rows"]
        for task, own in found["tasks"].items():
            known = told["tasks"].setdefault(task, {"items": own["items"], "found": {}})
            known["found"] |= own["found"]
    return told


def training_rows(judge: Stage) -> list[Rows]:
    """Sources of rows that a stage and those before it read, each once; rows made while the graph runs stand for what they were made of."""
    found: dict[str, Rows] = {}
    for stage in ordered(judge):
        for field in dataclasses.fields(stage):
            for rows in _sources(getattr(stage, field.name)):
                found.setdefault(_text(rows), rows)
    return list(found.values())


def _sources(value: Any) -> Iterator[Rows]:
    for found in nested(value, (Stage, Rows)):
        if isinstance(found, Rows) and not isinstance(found, DerivedRows):  # stages are visited by themselves
            inner = [rows for field in dataclasses.fields(found) for rows in _sources(getattr(found, field.name))]
            yield from inner or [found]


def look_up(rows: Rows, suite: Suite, cache: Path) -> dict[str, Any]:
    """Items of a suite that stand in the training split of some rows; read from `cache` where it is known.

    Raises BadData, Unreachable.
    """
    path = cache / f"{_key(rows, suite)}.json"
    if path.is_file():
        return dict(json.loads(path.read_text()))
    items = list(suite_items(suite))
    read = rows.load("train")
    told = result(items, read)
    cache.mkdir(parents=True, exist_ok=True)
    write_json(path, told)
    return told


def result(items: Sequence[SuiteItem], rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Number of rows, and for each task its number of items and those found, each with the passage that told."""
    tasks: dict[str, dict[str, Any]] = {}
    for one in items:
        tasks.setdefault(one.task, {"items": 0, "found": {}})["items"] += 1
    for found in Index(items).found(text for row in rows for text in row_texts(row)):
        tasks[found.task]["found"][found.item] = found.passage
    return {"rows": len(rows), "tasks": tasks}


def suite_items(suite: Suite) -> Iterator[SuiteItem]:
    """Items of all tasks of a suite, as the evaluation takes and names them."""
    from lm_eval.tasks import TaskManager

    folders = [str(folder) for folder in suite.folders()]
    manager = TaskManager(include_path=folders or None, include_defaults=not folders)
    for entry, use in suite.tasks.items():
        for name, task in manager.load([entry])["tasks"].items():
            documents = task.eval_docs
            for number in range(min(use.limit or len(documents), len(documents))):
                document = documents[number]
                yield SuiteItem(name, str(document.get("id", number)), *_asked(task, document))


def _asked(task: Any, document: Mapping[str, Any]) -> tuple[str, tuple[str, ...]]:
    """The question and the right answers; where a task asks by its choices alone, these are answers."""
    question, target = task.doc_to_text(document), task.doc_to_target(document)
    answers = [target] if isinstance(target, str) else target if isinstance(target, list) else []
    if not isinstance(question, str) or not question.strip():
        choices = task.doc_to_choice(document) if task.config.doc_to_choice is not None else []
        return "", tuple(text for text in (*answers, *choices) if isinstance(text, str))
    return question, tuple(text for text in answers if isinstance(text, str))


def clean_scores(told: Mapping[str, Any], row: str, scores: Iterable[Mapping[str, Any]], items: Path) -> list[Any]:
    """A row's scores over the items that do not stand in the training text, for the tasks that have some that do.

    None as the value where the score is no mean of its items.
    """
    import pyarrow.parquet as pq

    dirty = {task: own["found"] for task, own in told.get("tasks", {}).items() if own["found"]}
    wanted = [score for score in scores if score["row"] == row and score["task"] in dirty]
    if not wanted:
        return []
    columns = ["task", "item", "metric", "score", "weight"]
    lines = pq.read_table(items, columns=columns).to_pylist()
    made = []
    for score in wanted:
        name = score["metric"]
        if score.get("filter") not in (None, "none", "strict-match"):
            name = f"{name},{score['filter']}"
        own = [line for line in lines if (line["task"], line["metric"]) == (score["task"], name)]
        clean = [line for line in own if line["item"] not in dirty[score["task"]]]
        whole = _mean(own)
        usable = whole is not None and abs(whole - score["value"]) <= 1e-6 * max(1.0, abs(score["value"]))
        made.append(
            {
                "row": row,
                "task": score["task"],
                "metric": score["metric"],
                "value": _mean(clean) if usable else None,
                "n": len(clean),
            }
        )
    return made


def _mean(lines: Sequence[Mapping[str, Any]]) -> float | None:
    total = sum(line["weight"] for line in lines)
    return sum(line["score"] * line["weight"] for line in lines) / total if total else None


def _key(rows: Rows, suite: Suite) -> str:
    text = f"{VERSION} {_text(rows)} {_text(suite)}"
    return hashlib.sha256(text.encode()).hexdigest()[:KEY_LENGTH]


def _text(value: Any) -> str:
    return json.dumps(identity(value), sort_keys=True, ensure_ascii=False)

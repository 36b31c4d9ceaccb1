"""Stages: frozen values whose fields are their identity, the edges between them, and their keys.

A stage's fields say what its output *is* (model, data, numbers). Where and how it ran (path, device, workers, logging) has no field, so it is
not in the key. A stage among its fields, at any depth (in a list, a mapping, a reward or a decoder), is an edge of the graph.
"""

from __future__ import annotations

import dataclasses
import enum
import hashlib
import json
import math
from collections.abc import Iterator, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, Protocol

from pydantic import ConfigDict
from pydantic.dataclasses import dataclass
from pydantic.fields import FieldInfo

FORBID = ConfigDict(extra="forbid", allow_inf_nan=False)
"""Configuration of every schema here: an unknown field is an error, and so is a number that is not finite."""

KEY_LENGTH = 12


class Job(Protocol):
    """What a running stage sees of the outside."""

    out: Path
    """Empty folder to fill; becomes the stage's output when `run` returns."""
    scratch: Path
    """Folder that survives a kill of the process, for checkpoints; removed once the stage is done."""

    def path(self, stage: Stage) -> Path:
        """Output folder of an input stage."""


@dataclass(frozen=True, config=FORBID)
class Stage:
    """One piece of work: folders of earlier stages in, one folder out."""

    version: ClassVar[int] = 1
    """Raise it when a default, or what `run` computes, changes."""
    needs: ClassVar[Mapping[str, str]] = {}
    """Modules that `run` imports and that only an extra of the package brings: module -> extra."""
    given: ClassVar[bool] = False
    """Whether it stands for something a method is given (a teacher), made once: its cost is always shown as shared."""

    parallel: ClassVar[bool] = False
    """Whether several processes may share its work: all run it, each does its part and knows what all spent, and the first one writes."""

    def run(self, job: Any) -> None:
        """Do the work; `job` is a `polm_bench.run.job.Job`."""
        raise TypeError(f"{type(self).__name__} does not say how it runs")

    @cached_property
    def key(self) -> str:
        """12 hex digits of SHA-256 over canonical JSON: class name, version, fields, and the keys of input stages."""
        text = json.dumps(identity(self), sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
        return hashlib.sha256(text.encode()).hexdigest()[:KEY_LENGTH]

    @property
    def folder(self) -> str:
        """Name of the output folder in a store."""
        return f"{type(self).__name__}-{self.key}"

    @cached_property
    def inputs(self) -> tuple[Stage, ...]:
        """Stages this one reads, in field order, each once."""
        found: dict[str, Stage] = {}
        for field in dataclasses.fields(self):
            for stage in nested(getattr(self, field.name), Stage):
                found.setdefault(stage.key, stage)
        return tuple(found.values())


def identity(value: Any) -> Any:
    """JSON value that says what `value` is; fields at their default are left out, stages stand as their keys.

    Raises TypeError for a value with no stable identity (a function, an object with a default repr).
    """
    return _describe(value, top=True)


def _describe(value: Any, top: bool = False) -> Any:
    if value is None or isinstance(value, bool | int | str):
        return value.value if isinstance(value, enum.Enum) else value
    if isinstance(value, float):
        if not math.isfinite(value):
            raise TypeError(f"{value} has no place in a key")
        return value
    if isinstance(value, Stage) and not top:
        return {"stage": value.key}
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        described: dict[str, Any] = {"class": type(value).__name__}
        if (version := getattr(value, "version", 1)) != 1 or isinstance(value, Stage):
            described["version"] = version
        for field in dataclasses.fields(value):
            item = getattr(value, field.name)
            if not _is_default(field, item):
                described[field.name] = _describe(item)
        return described
    if isinstance(value, Mapping):
        return {str(name): _describe(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [_describe(item) for item in value]
    if isinstance(value, set | frozenset):
        return sorted(_describe(item) for item in value)
    raise TypeError(
        f"a {type(value).__name__} has no stable identity, so it can't be part of a stage's key: use numbers, text, mappings, or a frozen dataclass"
    )


def _is_default(field: dataclasses.Field[Any], item: Any) -> bool:
    if isinstance(
        field.default, FieldInfo
    ):  # pydantic leaves its Field(default=...) where a dataclass keeps a plain default
        return bool(item == field.default.get_default(call_default_factory=True, validated_data={}))
    if field.default is not dataclasses.MISSING:
        return bool(item == field.default)
    if field.default_factory is not dataclasses.MISSING:
        return bool(item == field.default_factory())
    return False


def nested(value: Any, kind: type[Any] | tuple[type[Any], ...]) -> Iterator[Any]:
    """What of a kind stands in a value, at any depth of mappings, sequences and dataclasses; what is found is not looked into."""
    if isinstance(value, kind):
        yield value
    elif isinstance(value, Mapping):
        for item in value.values():
            yield from nested(item, kind)
    elif isinstance(value, list | tuple):
        for item in value:
            yield from nested(item, kind)
    elif dataclasses.is_dataclass(value) and not isinstance(value, type):
        for field in dataclasses.fields(value):
            yield from nested(getattr(value, field.name), kind)


def ordered(*goals: Stage) -> list[Stage]:
    """All stages the goals need, each once, inputs before what reads them; depth first, so the order is stable."""
    done: dict[str, Stage] = {}

    def visit(stage: Stage) -> None:
        if stage.key in done:
            return
        for parent in stage.inputs:
            visit(parent)
        done[stage.key] = stage

    for goal in goals:
        visit(goal)
    return list(done.values())

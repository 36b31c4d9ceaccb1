"""What was expected of stages before they ran, beside what they took."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from polm_bench.report import words
from polm_bench.report.page import Drawing, Page, Part, Sheet
from polm_bench.report.spec import TableSpec


class Looked(NamedTuple):
    """One stage: what was expected of it, on what basis, and what it took."""

    cell: str  # the record that made it
    key: str
    kind: str
    seconds: float
    expected_seconds: float | None
    seconds_basis: str | None
    memory: float  # bytes
    expected_memory: float | None
    memory_basis: str | None


class Error(NamedTuple):
    """How far off a group of stages was."""

    stages: int  # of which something was expected
    median: float  # absolute, relative to what they took
    total: float  # all that was expected over all that was taken


SECONDS: tuple[str, str, str] = ("seconds", "expected_seconds", "seconds_basis")
MEMORY: tuple[str, str, str] = ("memory", "expected_memory", "memory_basis")
HEAD = ["stages", "number", "seconds each", "foretold", "median error", "foretold / taken", "memory: foretold", "error"]
LEGEND = (
    "Each stage is foretold from what had ended when its cell began, as `polm-bench plan` would have done then, and from nothing else.",
    "seconds each: what they took, median. foretold: stages of which something could be said. median error: of the absolute relative errors "
    "of those, |foretold - taken| / taken. foretold / taken: sum of seconds over sum of seconds.",
    "by like stages: from the stages of its kind that are most like it, brought to its amount of work. by counting: no stage of its kind had run; the operations "
    "that its spend pays for (6 per parameter and token trained, 2 per token read or written) at the speed of other kinds.",
    "Memory is the peak of the process, which keeps what earlier stages loaded. What stages leave on disk is in no record, so it is not compared.",
)


def error(looks: Iterable[Looked], figure: tuple[str, str, str]) -> Error | None:
    """Of the stages of which this figure was expected; None where there is none."""
    taken, expected, _ = figure
    pairs = [(getattr(one, expected), getattr(one, taken)) for one in looks]
    known = [(before, after) for before, after in pairs if before is not None and after > 0]
    if not known:
        return None
    median = statistics.median(abs(before - after) / after for before, after in known)
    return Error(len(known), median, sum(before for before, _ in known) / sum(after for _, after in known))


def forecast_page(spec: TableSpec, looks: Sequence[Looked], unread: int) -> Page:
    """The page; `unread` records have a configuration that this version does not read."""
    from polm_bench.report.forecast_plot import svg

    bases, kinds = _by_basis(looks), _by_kind(looks)
    groups = bases | kinds
    lines = [*(_line(*one) for one in bases.items()), ["of a kind"], *(_line(*one) for one in kinds.items())]
    left = f"; {unread} records have settings that this version does not know, and are left out" if unread else ""
    title = f"{len(looks)} stages of {len({one.cell for one in looks})} cells{left}"
    content = {
        "name": spec.name,
        "title": spec.title,
        "groups": {name: _figures(group) for name, group in groups.items()},
        "unread": unread,
        "stages": [one._asdict() for one in looks],
    }
    return Page(
        name=spec.name,
        title=spec.title,
        parts=(Part(title, (Sheet("foretold against taken", HEAD, lines),)),),
        legend=LEGEND,
        rows=[one._asdict() for one in looks],
        content=content,
        drawings=(Drawing("Foretold against taken", lambda: svg(looks)),),
    )


def _by_basis(looks: Sequence[Looked]) -> dict[str, list[Looked]]:
    names = {"like stages": "by like stages", "counted": "by counting"}
    bases = {name: [one for one in looks if one.seconds_basis == basis] for basis, name in names.items()}
    return {"all": list(looks)} | bases


def _by_kind(looks: Sequence[Looked]) -> dict[str, list[Looked]]:
    """Stages of each kind, the costliest kind first."""
    kinds = {kind: [one for one in looks if one.kind == kind] for kind in sorted({one.kind for one in looks})}
    return dict(sorted(kinds.items(), key=lambda one: -sum(look.seconds for look in one[1])))


def _figures(group: Sequence[Looked]) -> dict[str, Any]:
    time, memory = error(group, SECONDS), error(group, MEMORY)
    return {
        "number": len(group),
        "seconds": time._asdict() if time else None,
        "memory": memory._asdict() if memory else None,
    }


def _line(name: str, group: Sequence[Looked]) -> list[str]:
    time, memory = error(group, SECONDS), error(group, MEMORY)
    return [
        name,
        str(len(group)),
        words.number(statistics.median(one.seconds for one in group)) if group else "",
        str(time.stages) if time else "0",
        f"{time.median:.1%}" if time else "",
        f"{time.total:.2f}" if time else "",
        str(memory.stages) if memory else "0",
        f"{memory.median:.1%}" if memory else "",
    ]

"""The same records read at one cost: what had been made by then, and how far the training of the others had come."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from polm_bench.errors import PolmError
from polm_bench.report import words
from polm_bench.report.choose import Cells, column_order, ended_as
from polm_bench.report.facts import Facts
from polm_bench.report.items import Evaluation
from polm_bench.report.measure import bootstrap, figure, gap
from polm_bench.report.page import Page, Part, Sheet
from polm_bench.report.parts import Column
from polm_bench.report.records import Record
from polm_bench.report.spec import Place, TableSpec
from polm_bench.stats import Bootstrap

PARTS = {
    "tokens": ("tokens_trained", "tokens_generated"),
    "flops": ("flops",),
    "seconds": ("wall_seconds",),
}
"""Costs that add up while a model is made; training curves tell where it stood at any of them."""
CAPS = {"memory": ("peak_device_bytes", "peak_host_bytes"), "bytes": ("served_bytes",)}
"""Costs that a row is under or over: the device's memory, or the host's where there is none, and the served size."""
NO_QUALITY = ("step", "tokens", "learning_rate", "grad_norm")


class Cost(NamedTuple):
    """An amount that the rows are read at."""

    unit: str
    amount: float

    def text(self, amount: float) -> str:
        names = {"tokens": "tokens_trained", "flops": "flops", "seconds": "wall_seconds"}
        return words.cost(names.get(self.unit, "served_bytes"), amount) or "0"

    def whole(self) -> str:
        """`100 k tokens`, `2.00e+12 FLOPs`, `80.0 s`, `8 GB of memory`."""
        of = {"tokens": " tokens", "flops": " FLOPs", "memory": " of memory", "bytes": " of served size"}
        return self.text(self.amount) + of.get(self.unit, "")


class Stood(NamedTuple):
    """Where a training stood: the last point of its curve within the cost."""

    kind: str
    step: int
    cost: float
    values: dict[str, float]


def cost_of_words(text: str) -> Cost:
    """`tokens=100000` as a cost. Raises PolmError for another unit or no number above zero."""
    unit, _, amount = text.partition("=")
    try:
        value = float(amount)
    except ValueError:
        value = 0.0
    if unit not in (*PARTS, *CAPS) or not 0 < value < math.inf:
        raise PolmError(
            f"--at {text}: give one of {', '.join((*PARTS, *CAPS))} and a number above zero, as in --at tokens=100000."
        )
    return Cost(unit, value)


def spent(record: Record, unit: str) -> float:
    """What making the record's model took in a unit; of memory and bytes, what the record tells."""
    cost = record.data["cost"]
    if unit in CAPS:
        return next((float(cost[name]) for name in CAPS[unit] if cost.get(name)), 0.0)
    return sum(float(cost.get(name) or 0) for name in PARTS[unit])


def stood_at(record: Record, cost: Cost) -> Stood | str:
    """Where the record's making stood at a cost that it exceeds, or why no curve tells.

    Stages count in the order in which they ran. Inside a stage the cost is taken to grow with the tokens trained.
    """
    curves = {curve["stage"]: curve["points"] for curve in record.data.get("curves", [])}
    before = 0.0
    for stage in making(record):
        whole = sum(float(stage["ledger"].get(name) or 0) for name in PARTS[cost.unit])
        if before + whole <= cost.amount:
            before += whole
            continue
        points = [point for point in curves.get(stage["key"], []) if point.get("tokens")]
        if not points:
            return f"inside {stage['kind']}, which has no curve"
        reached = [(before + whole * point["tokens"] / points[-1]["tokens"], point) for point in points]
        inside = [(amount, point) for amount, point in reached if amount <= cost.amount]
        if not inside:
            return f"before the first point of {stage['kind']}"
        amount, point = inside[-1]
        values = {name: float(value) for name, value in point.items() if name not in NO_QUALITY}
        return Stood(stage["kind"], int(point["step"]), amount, values)
    return "beyond its last stage"


def making(record: Record) -> Iterator[dict[str, Any]]:
    """Stages that made the model: no evaluation, no probe, and nothing that was fetched."""
    told = record.data["items"].values()  # a row's items are named by the keys of all that judged it
    judges = {*record.data["rows"].values(), *(key for name in told for key in Path(name).stem.split("-"))}
    for stage in record.data["stages"]:
        if stage["key"] not in judges and not stage["kind"].startswith("Fetch"):
            yield stage


class Line(NamedTuple):
    """A row at the cost."""

    recipe: str
    title: str
    statuses: dict[str, int]
    cost: float | None  # mean of its seeds, in all
    inside: bool  # every seed's model was finished within the cost
    texts: dict[str, str]  # column -> score and difference from the base
    figures: dict[str, float | None]
    curve: str


def at_page(spec: TableSpec, records: Sequence[Record], facts: Mapping[str, Facts], cost: Cost) -> Page:
    """One part a place: scores of the models that were finished within the cost, and the training curves of the others.

    Raises PolmError for a table that shows no scores.
    """
    if spec.view != "scores" or spec.printed:
        raise PolmError(f"table '{spec.name}' shows no scores of its own, so it can't be read --at a cost.")
    cells, draws = Cells(records, spec.trials), bootstrap()
    parts, rows = [], []
    for place in spec.places():
        lines, columns = _lines(spec, place, cells, facts, cost, draws)
        known = [one for one in lines if set(one.statuses) != {"missing"}]
        head = ["method", "cells", cost.unit, *map(words.directed, columns), "training stood at"]
        texts = [
            [
                one.title,
                words.counts(one.statuses),
                "" if one.cost is None else cost.text(one.cost),
                *(one.texts.get(column.name, "") for column in columns),
                one.curve,
            ]
            for one in known
        ]
        verb = "needed no more than" if cost.unit in CAPS else "were finished within"
        title = f"{sum(one.inside for one in known)} of {len(known)} methods {verb} {cost.whole()}"
        lacking = f"; without a record yet: {len(lines) - len(known)}" if len(lines) > len(known) else ""
        parts.append(Part(words.place_line(place, spec.every_seed()), (Sheet(title + lacking, head, texts),)))
        rows += [_row(place, one, columns) for one in lines]
    name = f"{spec.title}, at {cost.unit}={cost.amount:g}"
    content = {"name": spec.name, "title": name, "at": {cost.unit: cost.amount}, "rows": rows}
    return Page(spec.name, name, tuple(parts), _legend(cost), rows, content)


def _lines(
    spec: TableSpec, place: Place, cells: Cells, facts: Mapping[str, Facts], cost: Cost, draws: Bootstrap
) -> tuple[list[Line], list[Column]]:
    found = {name: list(cells.of(place, name, spec.seeds_of(name)).values()) for name in spec.recipes}
    ended = {name: [one for one in own if one and one.status == "ok"] for name, own in found.items()}
    evaluations = [[Evaluation(one, "self") for one in own] for own in ended.values()]
    columns = [Column(*one) for one in column_order(evaluations, spec.scores).items()]
    lines = []
    for name, own in found.items():
        title = facts[name].title if name in facts else name
        lines.append(_line(name, title, ended_as(own), ended[name], [column.name for column in columns], cost, draws))
    return lines, columns


def _line(
    name: str,
    title: str,
    statuses: dict[str, int],
    ended: Sequence[Record],
    columns: Sequence[str],
    cost: Cost,
    draws: Bootstrap,
) -> Line:
    if not ended:
        return Line(name, title, statuses, None, False, {}, {}, "no record that ended well")
    amounts = [spent(one, cost.unit) for one in ended]
    mean = math.fsum(amounts) / len(amounts)
    if max(amounts) > cost.amount:
        over = [one for one, amount in zip(ended, amounts, strict=True) if amount > cost.amount]
        why = _stood(over, cost) if cost.unit in PARTS else f"needs {cost.text(max(amounts))}"
        return Line(name, title, statuses, mean, False, {}, {}, why)
    own = [Evaluation(one, "self") for one in ended]
    pairs = [(one, Evaluation(one.record, "base")) for one in own if one.key != Evaluation(one.record, "base").key]
    texts: dict[str, str] = {}
    figures: dict[str, float | None] = {}
    for column in columns:
        if (known := figure(own, column, draws)) is None:
            continue
        paired = gap(pairs, column, draws) if pairs else None
        texts[column] = words.number(known.value)
        figures |= {column: known.value, f"{column}.low": known.low, f"{column}.high": known.high}
        if paired:
            bounds = words.interval(paired.found.low, paired.found.high, True)
            texts[column] += f" ({words.number(paired.found.mean, True)} {bounds})"
            figures[f"{column}.difference"] = paired.found.mean
    return Line(name, title, statuses, mean, True, texts, figures, "finished")


def _stood(records: Sequence[Record], cost: Cost) -> str:
    """Means of the curves' values over the seeds, where all stood in stages of one kind."""
    found = [stood_at(one, cost) for one in records]
    known = [one for one in found if isinstance(one, Stood)]
    if len(known) < len(found) or len({one.kind for one in known}) > 1:
        return "no score at this cost; " + "; ".join(
            dict.fromkeys(one if isinstance(one, str) else f"in {one.kind}" for one in found)
        )
    names = [name for name in known[0].values if all(name in one.values for one in known)]
    means = [f"{name} {words.number(math.fsum(one.values[name] for one in known) / len(known))}" for name in names]
    steps = "-".join(str(step) for step in sorted({min(one.step for one in known), max(one.step for one in known)}))
    return f"no score at this cost; training curve of {known[0].kind}, step {steps}: {', '.join(means)}"


def _row(place: Place, one: Line, columns: Sequence[Column]) -> dict[str, Any]:
    line: dict[str, Any] = {**place._asdict(), "recipe": one.recipe, "cells": words.counts(one.statuses)}
    line |= {"cost": one.cost, "finished": one.inside}
    for column in columns:
        names = [f"{column.name}{part}" for part in ("", ".low", ".high", ".difference")]
        line |= {name: one.figures.get(name) for name in names}
    return line | {"curve": one.curve}


def _legend(cost: Cost) -> tuple[str, ...]:
    if cost.unit in CAPS:
        return (
            f"Methods that need more than {cost.whole()} are shown without scores; in brackets: the difference from the base, paired by item, with its "
            "95 % interval.",
        )
    return (
        f"Scores are those of models that were finished within {cost.whole()}, as the suite measured them; in brackets: the difference from the base, "
        "paired by item, with its 95 % interval. Nothing is interpolated.",
        "A model that took more was not put to the suite there: what is shown are values of its training curve, on batches of the training rows, at the "
        "last point within the cost. Inside a stage, FLOPs and seconds are taken to grow with the tokens trained.",
    )

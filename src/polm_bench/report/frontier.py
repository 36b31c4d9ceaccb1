"""Reward against divergence from the start model, at several settings of each method."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from polm_bench.report import words
from polm_bench.report.choose import age, changed_settings, ended_as, setting_of
from polm_bench.report.facts import Facts
from polm_bench.report.items import Evaluation
from polm_bench.report.measure import bootstrap, figure
from polm_bench.report.page import Drawing, Page, Part, Sheet
from polm_bench.report.records import Record
from polm_bench.report.sheets import ONE_SEED
from polm_bench.report.spec import Place, TableSpec
from polm_bench.stats import Bootstrap, seed_difference

REWARD, KL = "drift/reward", "drift/kl_k1"
COLUMNS = (REWARD, KL, "drift/kl_k3", "drift/win_rate", "drift/tokens", "drift/repetition")
START = "drift/reward_start"
TRUE_RATE = "drift/win_rate_true"
HEAD = ["method", "setting", "reward", "nats from the start (k1)", "k3", "win rate", "... with the judge's noise"]
HEAD += ["tokens", "repetition", "front", "cells"]
NORMAL = 1.959963984540054  # 97.5 % point of the normal distribution


class Value(NamedTuple):
    """A mean over seeds and its 95 % interval, where there is one."""

    value: float
    low: float | None
    high: float | None


class Point(NamedTuple):
    """One method at one setting."""

    place: Place
    recipe: str
    title: str
    settings: dict[str, float]
    records: tuple[Record, ...]
    statuses: dict[str, int]
    values: dict[str, Value]
    front: bool

    def label(self) -> str:
        return ", ".join(f"{name.rpartition('.')[2]} {value:g}" for name, value in self.settings.items())


def frontier(spec: TableSpec, records: Sequence[Record], facts: Mapping[str, Facts]) -> tuple[Page, tuple[Record, ...]]:
    """The page, and the records it stands on."""
    from polm_bench.report.frontier_plot import svg

    draws = bootstrap()
    found = {place: _points(spec, place, records, facts, draws) for place in spec.places()}
    every = [point for points in found.values() for point in points]
    parts = tuple(
        Part(
            words.place_line(place, spec.every_seed()),
            (Sheet(_count(points), HEAD, [_line(point) for point in points]),),
        )
        for place, points in found.items()
    )
    rows = [_row(point) for point in every]
    content = {"name": spec.name, "title": spec.title, "seeds": spec.every_seed(), "points": rows}
    used = {record.id: record for point in every for record in point.records}
    legend = (*LEGEND, *_trust(used.values()), *([ONE_SEED] if len(spec.every_seed()) == 1 else []))
    page = Page(
        spec.name,
        spec.title,
        parts,
        legend,
        rows,
        content,
        drawings=(Drawing("Reward against divergence", lambda: svg(every)),),
    )
    return page, tuple(used[name] for name in sorted(used))


def _trust(records: Iterable[Record]) -> list[str]:
    """How far the judge agreed with people's labels, which is what its noise was told from."""
    stages = {stage["key"]: stage["ledger"] for record in records for stage in record.data["stages"]}
    found = [float(ledger["judge_agreement"]) for ledger in stages.values() if "judge_agreement" in ledger]
    if not found:
        return []
    low, high = (f"{100 * share:.1f} %" for share in (min(found), max(found)))
    both = low if low == high else f"{low} to {high}"
    none = "; without a disagreement it adds no noise" if min(found) == 1 else ""
    return [f"The judge agreed with the labels on {both} of the held-out pairs{none}."]


def at(records: Sequence[Record], place: Place, recipe: str, seed: int, settings: Mapping[str, float]) -> Record | None:
    """The newest record of a cell with exactly these settings and the probe."""
    found = [
        record
        for record in records
        if record.cell["recipe"] == recipe
        and record.cell["seed"] == seed
        and all(record.cell[name] == value for name, value in place._asdict().items())
        and {name for name in changed_settings(record) if not name.startswith("probe.")} == set(settings)
        and all(setting_of(record, name) == value for name, value in settings.items())
        and ("probe" in record.cell["config"])
    ]
    return max(found, key=age, default=None)


def _points(
    spec: TableSpec, place: Place, records: Sequence[Record], facts: Mapping[str, Facts], draws: Bootstrap
) -> list[Point]:
    points = []
    for recipe in spec.recipes:
        for settings in spec.settings(recipe):
            found = [at(records, place, recipe, seed, settings) for seed in spec.seeds_of(recipe)]
            known = tuple(record for record in found if record is not None)
            title = facts[recipe].title if recipe in facts else recipe
            points.append(
                Point(place, recipe, title, settings, known, ended_as(found), _values(known, draws), front=False)
            )
    return [point._replace(front=on_front(point, points)) for point in points]


def _values(records: Sequence[Record], draws: Bootstrap) -> dict[str, Value]:
    own = [Evaluation(record, "self") for record in records if record.status == "ok"]
    found: dict[str, Value] = {}
    for column in (*COLUMNS, START):
        if one := figure(own, column, draws):
            found[column] = Value(one.value, one.low, one.high)
    if true := [score for each in own if (score := each.scores.get(TRUE_RATE))]:
        found[TRUE_RATE] = _true_rate([score["value"] for score in true], [score["stderr"] for score in true])
    return found


def _true_rate(values: Sequence[float], errors: Sequence[float]) -> Value:
    """Mean over seeds of rates that have the judge's noise in their standard errors, with a 95 % interval that is rather too wide than too narrow.

    The labels that tell the judge's noise, and the prompts, are the same for all seeds, so nothing is gained of those by their number; what the
    seeds differ by comes on top.
    """
    mean = math.fsum(values) / len(values)
    reach = NORMAL * math.fsum(errors) / len(errors)
    if over := seed_difference(values):
        reach = math.hypot(reach, over.high - over.mean)
    return Value(mean, max(0.0, mean - reach), min(1.0, mean + reach))


def on_front(point: Point, points: Sequence[Point]) -> bool:
    """Whether no other point has as much reward at less divergence, or more at the same."""
    if not {REWARD, KL} <= set(point.values):
        return False
    reward, moved = point.values[REWARD].value, point.values[KL].value
    others = [(one.values[REWARD].value, one.values[KL].value) for one in points if {REWARD, KL} <= set(one.values)]
    return not any((more >= reward and less < moved) or (more > reward and less <= moved) for more, less in others)


def _count(points: Sequence[Point]) -> str:
    done = sum(bool(point.values) for point in points)
    return f"{len({point.recipe for point in points})} methods, {done} of {len(points)} settings measured"


def _line(point: Point) -> list[str]:
    texts = [_text(point.values.get(column)) for column in (*COLUMNS[:4], TRUE_RATE, *COLUMNS[4:])]
    return [point.title, point.label(), *texts, "*" if point.front else "", words.counts(point.statuses)]


def _text(value: Value | None) -> str:
    return "" if value is None else f"{words.number(value.value)} {words.interval(value.low, value.high)}".strip()


def _row(point: Point) -> dict[str, Any]:
    line: dict[str, Any] = {**point.place._asdict(), "recipe": point.recipe, "title": point.title}
    line |= {
        "setting": ", ".join(point.settings),
        "value": ", ".join(f"{value:g}" for value in point.settings.values()),
    }
    for column in (*COLUMNS, TRUE_RATE, START):
        value = point.values.get(column)
        line |= {column: value.value if value else None}
        line |= {f"{column}.low": value.low if value else None, f"{column}.high": value.high if value else None}
    return line | {"front": point.front, "cells": words.counts(point.statuses)}


LEGEND = (
    "reward: gold reward of drawn answers to held-out prompts; nats from the start: KL(model || start) per answer, estimated from the same answers: k1, the "
    "sum of log-ratios (unbiased, of any sign), and k3 (unbiased, never negative). Each with its 95 % interval by bootstrap over seeds, then prompts.",
    "win rate: the judge's share for an answer against one of the start to the same prompt; beside it the rate corrected for the judge's disagreement "
    "with people's labels, whose interval has the noise of both in it.",
    "front: no other setting has as much reward at less divergence, or more at the same.",
)

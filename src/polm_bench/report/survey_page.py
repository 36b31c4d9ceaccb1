"""A table of the survey as printed, each row beside what was measured of the method."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from polm_bench.report import words
from polm_bench.report.charts import facts_of, picks_of
from polm_bench.report.choose import Cells, ended_as
from polm_bench.report.costs import COUNTED, cost_of, higher_is_better
from polm_bench.report.facts import Facts
from polm_bench.report.items import Evaluation, column_of
from polm_bench.report.measure import bootstrap, figure, gap
from polm_bench.report.page import Page, Part, Sheet
from polm_bench.report.spec import Place, Printed, TableSpec
from polm_bench.stats import Bootstrap, seed_difference

NONE_YET = "no recipe yet"
BITS_PER_BYTE = "/bits_per_byte"
DERIVED = {"bits_per_weight": "bits per weight", "perplexity": "change in perplexity per byte"}
ROWS = {"base": "the base", "start": "the model that it starts from"}


class Value(NamedTuple):
    """A measured column of one method: a difference, a score, a cost, or a ratio of costs."""

    value: float
    low: float | None = None
    high: float | None = None


def survey_page(spec: TableSpec, cells: Cells, facts: Mapping[str, Facts]) -> Page:
    """The printed table with a line per row and recipe; raises TypeError for a table that prints nothing."""
    printed = spec.printed
    if printed is None:
        raise TypeError(f"table {spec.name} holds no printed table")
    draws = bootstrap()
    rows: list[dict[str, Any]] = []
    parts: list[Part] = []
    picked: list[list[dict[str, Any]]] = []
    for place in spec.places():
        lines: list[list[str]] = []
        picks: list[dict[str, Any]] = []
        for row in printed.rows:
            for number, name in enumerate(covering(row, facts) or [None]):
                found = _measured(printed, name, spec, place, cells, draws) if name else {}
                told = _told(name, spec, place, cells)
                ours = _ours(facts[name]) if name else ""
                lines.append(_line(printed, row, number == 0, name, ours, told, found))
                picks.append(_pick(name, str(row["method"]), facts))
                rows.append(_row(printed, row, place, name, ours, told, found))
        title = words.place_line(place, spec.every_seed())
        head = [*printed.columns.values(), "recipe", "ours", *_heads(printed, spec, place, cells), "cells"]
        sheet = Sheet(
            f"Table {printed.number} as printed, and what was measured",
            head,
            lines,
            tuple(one["name"] for one in picks),
        )
        parts.append(Part(title, (sheet,)))
        picked.append(picks)
    content = {
        "name": spec.name,
        "title": spec.title,
        "source": printed.source,
        "rows": rows,
        "doubts": dict(printed.doubts),
    }
    legend = _legend(printed, facts)
    return Page(spec.name, spec.title, tuple(parts), legend, rows, content, charts=lambda: picks_of(picked))


def _pick(recipe: str | None, method: str, facts: Mapping[str, Facts]) -> dict[str, Any]:
    """What a reader picks a line by; one without a recipe has nothing but its printed name."""
    if recipe is None:
        return facts_of(f"printed {method}", method, {})
    return facts_of(recipe, facts[recipe].title, facts[recipe].meta)


def covering(row: Mapping[str, Any], facts: Mapping[str, Facts]) -> list[str]:
    """Recipes of the row's method: those that name its key in their `survey`, or are named so."""
    key = row.get("key")
    return [name for name, one in facts.items() if key and (key in one.survey or key == name)]


def _columns(printed: Printed) -> list[str]:
    derived = [DERIVED[name] for name in printed.derived]
    return [*derived, *printed.measured, *(_ratio(name, printed) for name in printed.ratios)]


def _ratio(cost: str, printed: Printed) -> str:
    return f"{cost}, times the {printed.against}'s"


def _heads(printed: Printed, spec: TableSpec, place: Place, cells: Cells) -> list[str]:
    """Heads of the measured columns; scores with the way that is better, as the records tell it."""
    found = [cells.of(place, name, spec.seeds_of(name)).values() for name in spec.recipes]
    records = [record for own in found for record in own if record]
    ups = {column_of(score): bool(score["higher_is_better"]) for record in records for score in record.scores}
    heads = []
    for column in _columns(printed):
        name, _, rest = column.partition(",")
        arrow = f" {words.arrow(ups[name])}" if name in ups else ""
        heads.append(words.COST_NAMES.get(name, name) + arrow + (f",{rest}" if rest else ""))
    return heads


def _measured(
    printed: Printed, recipe: str, spec: TableSpec, place: Place, cells: Cells, draws: Bootstrap
) -> dict[str, Value]:
    """What the records of a recipe say in each measured column; columns without a figure are left out."""
    all_of = cells.of(place, recipe, spec.seeds_of(recipe)).values()
    records = [record for record in all_of if record and record.status == "ok"]
    own = [Evaluation(record, "self") for record in records]
    pairs = [
        (one, Evaluation(one.record, printed.against)) for one in own if printed.against in one.record.data["rows"]
    ]
    found: dict[str, Value] = {}
    for column in printed.measured:
        if "/" not in column:
            known = [cost for one in own if (cost := cost_of(one, column, cells)) is not None]
            if known:
                found[column] = Value(math.fsum(known) / len(known))
        elif printed.differences:
            if paired := gap([pair for pair in pairs if pair[0].key != pair[1].key], column, draws):
                found[column] = Value(paired.found.mean, paired.found.low, paired.found.high)
        elif score := figure(own, column, draws):
            found[column] = Value(score.value, score.low, score.high)
    found |= _derived(printed, own, pairs, draws)
    for name in printed.ratios:
        both = [tuple(cost_of(one, name, cells) for one in pair) for pair in pairs]
        if ratios := [mine / other for mine, other in both if mine is not None and other]:
            found[_ratio(name, printed)] = _mean_ratio(ratios, exact=name in COUNTED)
    return found


def _mean_ratio(ratios: Sequence[float], exact: bool) -> Value:
    """Geometric mean; of what is clocked, with Student's 95 % interval over seeds, in logarithms."""
    over = None if exact else seed_difference([math.log(one) for one in ratios])
    if over is None:
        return Value(math.exp(math.fsum(map(math.log, ratios)) / len(ratios)))
    return Value(math.exp(over.mean), math.exp(over.low), math.exp(over.high))


def _derived(
    printed: Printed, own: Sequence[Evaluation], pairs: Sequence[tuple[Evaluation, Evaluation]], draws: Bootstrap
) -> dict[str, Value]:
    """Bits that serving takes for each weight, and how the perplexity 2^(bits per byte) differs from the other row's."""
    found: dict[str, Value] = {}
    if "bits_per_weight" in printed.derived:
        costs = [one.record.data["cost"] for one in own]
        bits = [8 * cost["served_bytes"] / cost["total_params"] for cost in costs if cost.get("total_params")]
        if bits:
            found[DERIVED["bits_per_weight"]] = Value(math.fsum(bits) / len(bits))
    column = next((name for one in own for name in one.scores if name.endswith(BITS_PER_BYTE)), None)
    if "perplexity" in printed.derived and column:
        other = figure([pair[1] for pair in pairs], column, draws)
        paired = gap([pair for pair in pairs if pair[0].key != pair[1].key], column, draws)
        if other and paired:
            change = (
                2**other.value * (2**bits - 1) for bits in (paired.found.mean, paired.found.low, paired.found.high)
            )
            found[DERIVED["perplexity"]] = Value(*change)
    return found


def _told(recipe: str | None, spec: TableSpec, place: Place, cells: Cells) -> str:
    if recipe is None:
        return ""
    return words.counts(ended_as(cells.of(place, recipe, spec.seeds_of(recipe)).values()))


def _ours(one: Facts) -> str:
    """The axes on which the recipe's own labels differ from the survey's, or which the survey lacks."""
    axes = one.meta.get("axes") or {}
    printed = axes.get("survey") or {}
    return ", ".join(
        f"{name} {value}" for name, value in (axes.get("ours") or {}).items() if printed.get(name) != value
    )


def _line(
    printed: Printed,
    row: Mapping[str, Any],
    first: bool,
    recipe: str | None,
    ours: str,
    told: str,
    found: Mapping[str, Value],
) -> list[str]:
    texts = [_printed(row.get(name)) if first or place == 0 else "" for place, name in enumerate(printed.columns)]
    if first and row.get("doubts"):
        texts[0] += f" [{', '.join(row['doubts'])}]"
    return [
        *texts,
        recipe or NONE_YET,
        ours,
        *(_text(printed, name, found.get(name)) for name in _columns(printed)),
        told,
    ]


def _text(printed: Printed, column: str, value: Value | None) -> str:
    if value is None:
        return ""
    if "/" in column or column == DERIVED["perplexity"]:
        sign = printed.differences or column == DERIVED["perplexity"]
        return f"{words.number(value.value, sign)} {words.interval(value.low, value.high, sign)}".strip()
    if column in printed.measured:
        return words.cost(column, value.value)
    bounds = "" if value.low is None or value.high is None else f" [{value.low:.2f}, {value.high:.2f}]"
    return f"{value.value:.2f}{bounds}"


def _printed(value: Any) -> str:
    return "-" if value is None else str(value)


def _row(
    printed: Printed,
    row: Mapping[str, Any],
    place: Place,
    recipe: str | None,
    ours: str,
    told: str,
    found: Mapping[str, Value],
) -> dict[str, Any]:
    line: dict[str, Any] = {**place._asdict(), **{name: row.get(name) for name in printed.columns}}
    line |= {"key": row.get("key"), "doubts": " ".join(row.get("doubts") or ()), "recipe": recipe or NONE_YET}
    line |= {"ours": ours, "cells": told}
    for name in _columns(printed):
        value = found.get(name)
        line[name] = value.value if value else None
        if _has_interval(name):
            line |= {f"{name}.low": value.low if value else None, f"{name}.high": value.high if value else None}
    return line


def _has_interval(column: str) -> bool:
    cost, of, _ = column.partition(", times the ")
    return "/" in column or column == DERIVED["perplexity"] or (bool(of) and cost not in COUNTED)


def _legend(printed: Printed, facts: Mapping[str, Facts]) -> tuple[str, ...]:
    covered = sum(bool(covering(row, facts)) for row in printed.rows)
    lines = [
        f"Left columns as printed in {printed.source}, wrong values included; letters mark doubts. {covered} of {len(printed.rows)} rows have a recipe.",
        "ours: axes of the recipe where we label it differently, or that the survey lacks.",
    ]
    other = ROWS[printed.against]
    if scores := [name for name in printed.measured if "/" in name]:
        told = (
            f"difference from {other}, paired by item, with"
            if printed.differences
            else "mean over seeds and items with"
        )
        lines.append(f"{', '.join(scores)}: {told} its 95 % interval, not corrected for the number of rows.")
    if "bits_per_weight" in printed.derived:
        lines.append(
            "bits per weight: 8 times the served size in bytes, divided by the number of parameters: what stays unquantised counts."
        )
    if "perplexity" in printed.derived:
        lines.append(
            f"change in perplexity per byte: of 2^(bits per byte) on held-out text, against {other}, with its 95 % interval; the printed ones are per "
            "token."
        )
    if printed.ratios:
        better = [words.COST_NAMES[name] for name in printed.ratios if higher_is_better(name)]
        lines.append(
            f"times the {printed.against}'s: the cost divided by that of serving {other}, mean over seeds; of what is clocked with its 95 % interval "
            "by Student's t over seeds, in logarithms"
            + (f"; above 1 is better for {', '.join(better)}." if better else ".")
        )
    return (*lines, *(f"[{letter}] {text}" for letter, text in printed.doubts.items()))

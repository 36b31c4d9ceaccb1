"""The claims and their verdicts as a page."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from polm_bench.report import words
from polm_bench.report.charts import facts_of, picks_of
from polm_bench.report.choose import Cells
from polm_bench.report.costs import higher_is_better, is_cost
from polm_bench.report.effects import Effect, effects
from polm_bench.report.facts import Facts
from polm_bench.report.measure import bootstrap
from polm_bench.report.page import Page, Part, Sheet
from polm_bench.report.spec import Place, TableSpec

HEAD = ["method", "verdict", "claim", "effect", "95 % interval", "seeds", "saved", "remark"]


def effect_page(spec: TableSpec, cells: Cells, facts: Mapping[str, Facts]) -> Page:
    """One part per place, one line per recipe that claims something."""
    draws = bootstrap()
    found = {place: effects(spec, place, cells, facts, draws) for place in spec.places()}
    parts = tuple(Part(words.place_line(place, spec.every_seed()), (_sheet(lines),)) for place, lines in found.items())
    silent = [name for name in spec.recipes if name in facts and facts[name].claim is None]
    rows = [_row(place, line) for place, lines in found.items() for line in lines]
    content = {"name": spec.name, "title": spec.title, "seeds": spec.every_seed(), "effects": rows}
    return Page(spec.name, spec.title, parts, _legend(silent), rows, content, charts=lambda: _picks(found.values()))


def _sheet(lines: Sequence[Effect]) -> Sheet:
    return Sheet(_count(lines), HEAD, [_texts(line) for line in lines], tuple(line.facts.name for line in lines))


def _picks(places: Iterable[Sequence[Effect]]) -> dict[str, Any]:
    """Nothing is drawn, for the effects have no unit in common."""
    return picks_of(
        [facts_of(line.facts.name, line.facts.title, line.facts.meta) for line in lines] for lines in places
    )


def _count(lines: Sequence[Effect]) -> str:
    counts = Counter(str(line.verdict) for line in lines)
    known = ("confirmed", "not confirmed", "reversed", "no data")
    return ", ".join(f"{counts[verdict]} {verdict}" for verdict in known if counts[verdict]) or "no claims"


def _texts(line: Effect) -> list[str]:
    remarks = [line.why, line.claim.note or ""]
    if line.effect is None:
        return [line.facts.title, line.verdict, _claim(line), "", "", "", "", "; ".join(filter(None, remarks))]
    cost = is_cost(line.metric)
    effect = _signed_cost(line.metric, line.effect) if cost else words.number(line.effect, sign=True)
    if line.low is None or line.high is None:
        interval = ""
    elif cost:
        interval = f"[{_signed_cost(line.metric, line.low)}, {_signed_cost(line.metric, line.high)}]"
    else:
        interval = words.interval(line.low, line.high, sign=True)
    saved = ""
    if line.saved and line.claim.saves:
        first, second = (words.cost(line.claim.saves, value) or "0" for value in line.saved)
        saved = f"{first} of {second}"
    figures = [effect, interval, str(line.seeds), saved]
    return [line.facts.title, line.verdict, _claim(line), *figures, "; ".join(filter(None, remarks))]


def _claim(line: Effect) -> str:
    """`nano_steering/reward ↑ above start`, `nano_facts/acc ↑ within 0.02 of base at less served size`."""
    claim = line.claim
    metric = words.COST_NAMES.get(line.metric, line.metric)
    arrow = words.arrow(line.better_high) if line.effect is not None else ""
    if claim.kind == "gain":
        return " ".join(filter(None, [metric, arrow, f"better than {claim.against}"]))
    saves = words.COST_NAMES.get(claim.saves, claim.saves) if claim.saves else ""
    more = "more" if claim.saves and higher_is_better(claim.saves) else "less"
    text = [metric, arrow, f"within {claim.margin:g} of {claim.against}", f"at {more} {saves}" if saves else ""]
    return " ".join(filter(None, text))


def _signed_cost(name: str, value: float) -> str:
    text = words.cost(name, abs(value))
    return text if value == 0 else f"{'-' if value < 0 else '+'}{text}"


def _row(place: Place, line: Effect) -> dict[str, Any]:
    claim = line.claim
    return {
        **place._asdict(),
        "recipe": line.facts.name,
        "title": line.facts.title,
        "paradigm": line.facts.paradigm,
        "cells": words.counts(line.statuses),
        "kind": claim.kind,
        "metric": line.metric,
        "higher_is_better": line.better_high if line.effect is not None else None,
        "against": claim.against,
        "margin": claim.margin if claim.kind == "keep" else None,
        "effect": line.effect,
        "low": line.low,
        "high": line.high,
        "items": line.items if line.effect is not None else None,
        "seeds": line.seeds if line.effect is not None else None,
        "saves": claim.saves,
        "saved": line.saved[0] if line.saved else None,
        "saved_against": line.saved[1] if line.saved else None,
        "verdict": line.verdict,
        "why": line.why,
        "note": claim.note or "",
        "source": claim.source,
    }


def _legend(silent: Sequence[str]) -> tuple[str, ...]:
    lines = [
        "Effect: the method minus the row it is read against, paired by item; interval by bootstrap over seeds, then clusters of items "
        "(Student's t over seeds for figures that no item has, costs among them).",
        "confirmed: the interval lies on the claimed side of zero or, where the claim is to keep a score, above minus its margin while the "
        "saved cost is lower. reversed: it lies wholly on the other side. Everything else is not confirmed. no data: it could not be read.",
        "saved: the cost that the method claims to save, its own of the other row's.",
        "Intervals are not corrected for the number of claims: of twenty methods without any effect, one is expected to look confirmed or reversed.",
    ]
    if silent:
        lines.append(f"No claim is stated by: {', '.join(silent)}.")
    return tuple(lines)

"""Whether the records show what each recipe's paper claims."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Literal, NamedTuple

from polm_bench.report import words
from polm_bench.report.choose import Cells, ended_as
from polm_bench.report.costs import COUNTED, cost_of, higher_is_better, is_cost
from polm_bench.report.facts import Facts, Said
from polm_bench.report.items import Evaluation
from polm_bench.report.measure import gap
from polm_bench.report.records import Record
from polm_bench.report.spec import Place, TableSpec
from polm_bench.stats import Bootstrap, seed_difference

Verdict = Literal["confirmed", "not confirmed", "reversed", "no data"]
ROWS = ("base", "start")


class Effect(NamedTuple):
    """One recipe's claim beside what was measured; figures are the method's minus the other row's."""

    facts: Facts
    claim: Said
    verdict: Verdict
    why: str  # what the verdict stands on, where the figures don't say it
    statuses: dict[str, int]
    metric: str
    better_high: bool
    effect: float | None = None
    low: float | None = None
    high: float | None = None
    items: int = 0
    seeds: int = 0
    saved: tuple[float, float] | None = None  # the saved cost, of the method and of the other row


class _Measured(NamedTuple):
    metric: str
    better_high: bool
    effect: float
    low: float | None
    high: float | None
    items: int
    seeds: int


def effects(spec: TableSpec, place: Place, cells: Cells, facts: Mapping[str, Facts], draws: Bootstrap) -> list[Effect]:
    """A line per recipe of the table that claims something, in the table's order."""
    told = [facts[name] for name in spec.recipes if name in facts]
    return [_effect(one, one.claim, spec, place, cells, draws) for one in told if one.claim]


def _effect(one: Facts, claim: Said, spec: TableSpec, place: Place, cells: Cells, draws: Bootstrap) -> Effect:
    own = cells.of(place, one.name, spec.seeds_of(one.name))
    statuses = ended_as(own.values())
    pairs = _pairs(own, claim, place, cells)
    if isinstance(pairs, str):
        return Effect(one, claim, "no data", pairs, statuses, claim.metric, True)
    found = _measure(pairs, claim, cells, draws)
    if found is None:
        why = f"{claim.metric} stands not in both rows"
        return Effect(one, claim, "no data", why, statuses, claim.metric, True)
    saved = _saved(pairs, claim, cells)
    verdict, why = _verdict(claim, found, saved)
    return Effect(one, claim, verdict, why, statuses, *found, saved)


def _pairs(
    own: Mapping[int, Record | None], claim: Said, place: Place, cells: Cells
) -> list[tuple[Evaluation, Evaluation]] | str:
    """The method's evaluation and the one it is read against, seed by seed; or why there are none."""
    ended = {seed: record for seed, record in own.items() if record and record.status == "ok"}
    if not ended:
        failed = sorted({record.status for record in own.values() if record})
        return f"its cells ended as {', '.join(failed)}" if failed else "no record yet"
    if claim.against in ROWS:
        found = [(Evaluation(one, "self"), Evaluation(one, claim.against)) for one in ended.values()]
        found = [pair for pair in found if claim.against in pair[1].record.data["rows"]]
        return found or f"its records have no row '{claim.against}'"
    others = cells.of(place, claim.against, ended)
    joined = [
        (Evaluation(record, "self"), Evaluation(other, "self"))
        for seed, record in ended.items()
        if (other := others[seed]) and other.status == "ok"
    ]
    return joined or f"no record of {claim.against} at the same seeds"


def _measure(
    pairs: Sequence[tuple[Evaluation, Evaluation]], claim: Said, cells: Cells, draws: Bootstrap
) -> _Measured | None:
    if is_cost(claim.metric):
        return _cost_effect(pairs, claim.metric, cells)
    column = column_for(pairs[0], claim.metric)
    if column is None:
        return None
    better_high = bool(pairs[0][0].scores[column]["higher_is_better"])
    usable = [pair for pair in pairs if all(column in one.scores for one in pair)]
    paired = gap(usable, column, draws)
    if paired:
        found = paired.found
        return _Measured(column, better_high, found.mean, found.low, found.high, found.items, found.seeds)
    first, second = (one.scores[column]["value"] for one in usable[0])
    return _Measured(column, better_high, first - second, None, None, 0, 1)


def column_for(pair: tuple[Evaluation, Evaluation], metric: str) -> str | None:
    """The column both rows have that a metric names: itself, or a task's headline score, or its only one."""
    known = [name for name in pair[0].scores if name in pair[1].scores]
    if metric in known:
        return metric
    of_task = [name for name in known if pair[0].scores[name]["task"] == metric]
    headline = [name for name in of_task if pair[0].scores[name]["headline"]] or of_task
    return headline[0] if len(headline) == 1 else None


def _cost_effect(pairs: Sequence[tuple[Evaluation, Evaluation]], name: str, cells: Cells) -> _Measured | None:
    known = [tuple(cost_of(one, name, cells) for one in pair) for pair in pairs]
    gaps = [first - second for first, second in known if first is not None and second is not None]
    return _of_seeds(name, higher_is_better(name), gaps, exact=name in COUNTED) if gaps else None


def _of_seeds(name: str, better_high: bool, gaps: Sequence[float], exact: bool) -> _Measured:
    """The mean gap with Student's interval over seeds; a count that no seed changes is its own interval."""
    mean = math.fsum(gaps) / len(gaps)
    if exact and len(set(gaps)) == 1:
        return _Measured(name, better_high, mean, mean, mean, 0, len(gaps))
    found = seed_difference(gaps)
    return _Measured(name, better_high, mean, found.low if found else None, found.high if found else None, 0, len(gaps))


def _saved(pairs: Sequence[tuple[Evaluation, Evaluation]], claim: Said, cells: Cells) -> tuple[float, float] | None:
    """Means of the saved cost over the pairs that tell it: of the method, and of the other row."""
    if not claim.saves:
        return None
    known = [tuple(cost_of(one, claim.saves, cells) for one in pair) for pair in pairs]
    both = [(first, second) for first, second in known if first is not None and second is not None]
    if not both:
        return None
    return math.fsum(a for a, _ in both) / len(both), math.fsum(b for _, b in both) / len(both)


def _verdict(claim: Said, found: _Measured, saved: tuple[float, float] | None) -> tuple[Verdict, str]:
    """What the interval says of the claim, and why, where that isn't plain from it."""
    if found.low is None or found.high is None:
        return "not confirmed", "one figure and no interval: more seeds would tell"
    worst, best = (found.low, found.high) if found.better_high else (-found.high, -found.low)
    if claim.kind == "gain":
        return ("confirmed" if worst > 0 else "reversed" if best < 0 else "not confirmed"), ""
    if best < -claim.margin:
        return "reversed", "it loses more than the margin"
    if worst < -claim.margin:
        return "not confirmed", "the interval reaches beyond the margin"
    if claim.saves:
        if saved is None:
            return "not confirmed", f"{claim.saves} stands not in both rows"
        if not (saved[0] > saved[1] if higher_is_better(claim.saves) else saved[0] < saved[1]):
            return "not confirmed", f"{words.COST_NAMES.get(claim.saves, claim.saves)} is not saved"
    return "confirmed", ""

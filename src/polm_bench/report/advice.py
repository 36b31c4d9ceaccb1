"""Which methods of the records fit what one has, which of them is best, and which cell would tell more."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from polm_bench.errors import PolmError, UnknownName
from polm_bench.report import words
from polm_bench.report.at_cost import spent
from polm_bench.report.charts import facts_of
from polm_bench.report.choose import Cells, changed_settings
from polm_bench.report.effects import column_for
from polm_bench.report.items import Evaluation, align
from polm_bench.report.measure import Figure, bootstrap, distinct, figure, gap, is_mean
from polm_bench.report.parts import Column, Entry
from polm_bench.report.ranking import ranks
from polm_bench.report.records import Record
from polm_bench.report.settle import Next, settle
from polm_bench.report.spec import Place
from polm_bench.stats import Bootstrap, chance_above, chance_of_best

RETENTION = "bits_per_byte"  # of text that nothing was trained on: what `retention` names


class Wanted(NamedTuple):
    """What a method must be, may cost and must keep; amounts in bytes and hours."""

    needs: tuple[str, ...] = ()
    by: str | None = None
    memory: float | None = None
    hours: float | None = None
    served: float | None = None
    keep: tuple[tuple[str, float], ...] = ()  # score -> the change from the base at worst, positive is better


class Kept(NamedTuple):
    """A score that must not fall: its change from the base, positive is better."""

    column: str
    least: float
    change: float
    chance: float  # that the change is above the least


class Candidate(NamedTuple):
    """A method with what it takes and what it keeps."""

    entry: Entry
    memory: float
    hours: float
    served: float
    kept: tuple[Kept, ...]
    amiss: tuple[str, ...]  # wishes that it does not meet
    figure: Figure | None = None
    chance: float | None = None  # to be the best of those that fit
    rank: tuple[int, int] | None = None


class Advice(NamedTuple):
    """What the records of one place say."""

    place: Place
    column: Column
    fit: tuple[Candidate, ...]  # the likeliest best first
    unfit: tuple[Candidate, ...]
    other: int  # methods that are not of the kind that is needed
    next: Next | None


def advise(records: Sequence[Record], wanted: Wanted) -> list[Advice]:
    """An advice for each model, data, budget and suite of the records.

    Raises UnknownName for a kind that no method is of, and PolmError for a score that no place has.
    """
    plain = [record for record in records if not changed_settings(record) and record.status == "ok"]
    _check_needs(plain, wanted.needs)
    places = sorted({Place(*(record.cell[name] for name in Place._fields)) for record in plain})
    found = [_advice(place, _entries(place, plain), wanted) for place in places]
    if known := [one for one in found if one is not None]:
        return known
    named = wanted.by or " ".join(name for name, _ in wanted.keep) or "claimed"
    scores = sorted({score["task"] for record in plain for score in record.scores if score["headline"]})
    raise PolmError(f"no method of this kind has the score '{named}'. The records have: {', '.join(scores) or 'none'}.")


def _check_needs(records: Sequence[Record], needs: Iterable[str]) -> None:
    facts = [_facts(record) for record in records]
    for word in needs:
        if not any(_is(one, word) for one in facts):
            known = {one[name] for one in facts for name in ("paradigm", "family")} - {""}
            raise UnknownName("kind of method", word, known, "Labels are named as AXIS=LABEL, such as O=online.")


def _facts(record: Record) -> dict[str, Any]:
    return facts_of(record.cell["recipe"], "", record.data["recipe"])


def _is(facts: Mapping[str, Any], word: str) -> bool:
    """Whether a method is of a kind: its paradigm, its family or a word of its name, or a label of an axis."""
    axis, equals, label = word.partition("=")
    if equals:
        return bool(facts["axes"].get(axis) == label)
    return word in (facts["paradigm"], facts["family"], *facts["family"].split("_"))


def _entries(place: Place, records: Sequence[Record]) -> list[Entry]:
    own = [record for record in records if all(record.cell[name] == value for name, value in place._asdict().items())]
    cells, seeds = Cells(own), sorted({record.cell["seed"] for record in own})
    found = []
    for recipe in sorted({record.cell["recipe"] for record in own}):
        known = tuple(record for record in cells.of(place, recipe, seeds).values() if record)
        evaluations = tuple(Evaluation(record, "self") for record in known)
        if known:
            found.append(Entry(recipe, known, {"ok": len(known)}, evaluations, dict(known[0].data["recipe"])))
    return found


def _advice(place: Place, entries: Sequence[Entry], wanted: Wanted) -> Advice | None:
    """None where a score that is asked for is in no record of the place."""
    right = [one for one in entries if all(_is(_facts(one.records[0]), word) for word in wanted.needs)]
    column = _column(right, wanted.by) if wanted.by else _claimed(right)
    keeps = [(_column(right, name), least) for name, least in wanted.keep]
    if column is None or any(kept is None for kept, _ in keeps):
        return None
    draws = bootstrap()
    told = [(kept, least) for kept, least in keeps if kept is not None]
    every = [_candidate(one, told, wanted, draws) for one in right]
    scored = [one for one in every if not one.amiss and figure(one.entry.evaluations, column.name, draws)]
    fit = _compared(scored, column, draws)
    names = {one.entry.name for one in fit}
    unfit = [one for one in every if one.entry.name not in names]
    return Advice(place, column, fit, tuple(unfit), len(entries) - len(right), settle(place, column, fit))


def _column(entries: Sequence[Entry], name: str) -> Column | None:
    """The score that a word names in these methods' records."""
    for entry in entries:
        for one in entry.evaluations:
            if name == "retention":
                found = next((column for column in one.scores if column.endswith(f"/{RETENTION}")), None)
            else:
                found = column_for((one, one), name)
            if found:
                return Column(found, bool(one.scores[found]["higher_is_better"]))
    return None


def _claimed(entries: Sequence[Entry]) -> Column | None:
    """The score that most of these methods claim to better."""
    claims = (entry.facts.get("claim") or {} for entry in entries)
    counts = Counter(str(claim["metric"]) for claim in claims if claim.get("metric"))
    ordered = sorted(counts, key=lambda name: (-counts[name], name))
    return next((column for name in ordered if (column := _column(entries, name))), None)


def _candidate(entry: Entry, keeps: Sequence[tuple[Column, float]], wanted: Wanted, draws: Bootstrap) -> Candidate:
    memory, served = (max(spent(one, unit) for one in entry.records) for unit in ("memory", "bytes"))
    hours = sum(spent(one, "seconds") for one in entry.records) / len(entry.records) / 3600
    kept = [(column, least, _kept(entry, column, least, draws)) for column, least in keeps]
    limits = (
        ("memory", "peak_host_bytes", memory, wanted.memory),
        ("time", "wall_seconds", 3600 * hours, None if wanted.hours is None else 3600 * wanted.hours),
        ("served size", "served_bytes", served, wanted.served),
    )
    amiss = [
        f"{name} {words.cost(cost, amount)}, not {words.cost(cost, most)}"
        for name, cost, amount, most in limits
        if most is not None and amount > most
    ]
    amiss += [f"{column.name} is not measured" for column, _, known in kept if known is None]
    known = tuple(one for *_, one in kept if one is not None)
    amiss += [f"{one.column} changes by {one.change:+.3f}" for one in known if one.change < one.least]
    return Candidate(entry, memory, hours, served, known, tuple(amiss))


def _kept(entry: Entry, column: Column, least: float, draws: Bootstrap) -> Kept | None:
    """The change of a score from the base; the base itself changes nothing."""
    pairs = [(one, Evaluation(one.record, "base")) for one in entry.evaluations]
    moved = [(one, base) for one, base in pairs if one.key != base.key]
    if not moved:
        return Kept(column.name, least, 0.0, float(least <= 0))
    found = gap(moved, column.name, draws)
    if found is None:
        return None
    change = column.sign * found.found.mean
    return Kept(column.name, least, change, chance_above(change - least, found.found.error, found.found.freedom))


def _compared(fit: Sequence[Candidate], column: Column, draws: Bootstrap) -> tuple[Candidate, ...]:
    """With score, rank and chance to be best; the likeliest first."""
    order = ranks([one.entry for one in fit], column, draws)
    chances = _chances(fit, column, draws)
    found = [
        one._replace(
            figure=figure(one.entry.evaluations, column.name, draws),
            chance=chances.get(one.entry.name),
            rank=order.get(one.entry.name),
        )
        for one in fit
    ]

    def worth(one: Candidate) -> tuple[float, float, str]:
        value = column.sign * one.figure.value if one.figure else 0.0
        return -(one.chance or 0.0), -value, one.entry.name

    return tuple(sorted(found, key=worth))


def _chances(fit: Sequence[Candidate], column: Column, draws: Bootstrap) -> dict[str, float]:
    """Chance of each to be best; none where the score is no mean over items, or where they answered different ones."""
    own = {one.entry.name: distinct(one.entry.evaluations) for one in fit}
    if not own or not all(
        column.name in one.scores and is_mean(one, column.name) for each in own.values() for one in each
    ):
        return {}
    side = align([items for each in own.values() for one in each if (items := one.items(column.name)) is not None])
    if side.left_out or not side.scores.shape[1]:
        return {}
    ends = np.cumsum([len(each) for each in own.values()])[:-1]
    matrices = np.split(column.sign * side.scores, ends)
    found = chance_of_best(matrices, draws, clusters=side.clusters, weights=side.weights)
    return dict(zip(own, found, strict=True))

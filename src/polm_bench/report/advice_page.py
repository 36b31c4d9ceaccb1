"""Advice as a page."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from polm_bench.report import words
from polm_bench.report.advice import Advice, Candidate, Wanted
from polm_bench.report.page import Page, Part, Sheet
from polm_bench.report.settle import Next


def advice_page(found: Sequence[Advice], wanted: Wanted) -> Page:
    """A part per place: the methods that fit, those that don't and why, and what to run next."""
    parts = tuple(Part(_place(one), tuple(_sheets(one, wanted))) for one in found)
    rows = [_row(one, candidate) for one in found for candidate in (*one.fit, *one.unfit)]
    content = {"wanted": wanted._asdict(), "places": [_content(one) for one in found]}
    lines = [line for one in found for line in _said(one)]
    return Page("advice", "Methods that fit", parts, (*lines, *LEGEND), rows, content)


def _place(one: Advice) -> str:
    groups = " ".join(f"{group}={name}" for group, name in one.place._asdict().items())
    return f"{groups}, best at {words.directed(one.column)}"


def _sheets(one: Advice, wanted: Wanted) -> list[Sheet]:
    keeps = [f"keeps {kept.column.partition('/')[0]}" for kept in (*one.fit, *one.unfit)[0].kept]
    served = wanted.served is not None
    head = ["method", "score", "best with", "rank", "memory", "time", *(["served"] if served else []), *keeps, "seeds"]
    unfit = [
        [_title(candidate), "; ".join(candidate.amiss) or f"{one.column.name} is not measured"]
        for candidate in one.unfit
    ]
    negation = "doesn't" if len(one.unfit) == 1 else "don't"
    found = [
        Sheet(f"{_count(one.fit)} fit", head, [_line(candidate, served) for candidate in one.fit]),
        Sheet(f"{_count(one.unfit)} {negation}", ["method", "remark"], unfit),
    ]
    if one.next:
        lines = [[command, words.cost("wall_seconds", seconds)] for command, seconds in one.next.cells]
        found.append(
            Sheet(f"{' and '.join(_tied(one, one.next))} can't be told apart: run next", ["cell", "takes"], lines)
        )
    return [sheet for sheet in found if sheet.lines]


def _count(candidates: Sequence[Candidate]) -> str:
    return f"{len(candidates)} method{'s' if len(candidates) != 1 else ''}"


def _line(one: Candidate, served: bool) -> list[str]:
    known = one.figure
    return [
        _title(one),
        f"{words.number(known.value)} {words.interval(known.low, known.high)}".strip() if known else "",
        _percent(one.chance),
        words.ranks(one.rank),
        words.cost("peak_host_bytes", one.memory) or "0",
        words.cost("wall_seconds", 3600 * one.hours) or "0",
        *([words.cost("served_bytes", one.served)] if served else []),
        *(f"{_percent(kept.chance)} ({words.number(kept.change, True)})" for kept in one.kept),
        str(len(one.entry.records)),
    ]


def _title(one: Candidate) -> str:
    return str(one.entry.facts.get("title") or one.entry.name)


def _percent(chance: float | None) -> str:
    return (
        "" if chance is None else "< 1 %" if chance < 0.01 else "> 99 %" if chance > 0.99 else f"{100 * chance:.0f} %"
    )


def _said(one: Advice) -> list[str]:
    """What to run next, or why nothing."""
    if not one.fit:
        return [f"{_place(one)}: no method of the records fits. Allow more, or run others of this kind."]
    return [_settled(one.fit) if one.next is None else _until(one, one.next)]


def _tied(one: Advice, told: Next) -> list[str]:
    """Titles of the two that a next cell would tell apart."""
    titles = {each.entry.name: _title(each) for each in one.fit}
    return [titles[told.leader], titles[told.rival]]


def _settled(fit: Sequence[Candidate]) -> str:
    """Why no cell would tell more of the methods that fit."""
    first = _title(fit[0])
    if len(fit) == 1:
        return f"{first} is the only one that fits."
    if fit[0].rank is None:
        return f"{first} has the best score, and nothing tests that: it is a figure of the whole set, of one seed."
    tied = [_title(each) for each in fit if each.rank and each.rank[0] == 1]
    if len(tied) > 1:
        return f"{tied[0]} and {tied[1]} can't be told apart, and no other seed would: they are the same for each. More items would."
    return f"Nothing is left to settle: {first} leads."


def _until(one: Advice, told: Next) -> str:
    seen = f"{' and '.join(_tied(one, told))} differ by {words.number(told.gap)}."
    if told.seeds is not None:
        return f"{seen} If that is so, {told.seeds} seeds of each show it with power 0.8."
    if told.items is not None:
        return f"{seen} If that is so, no number of seeds shows it on these items; about {told.items:,} items would."
    return (
        f"{seen} How many seeds would show it can't be said: it takes two or more of both, and a difference above zero."
    )


def _row(one: Advice, candidate: Candidate) -> dict[str, Any]:
    known = candidate.figure
    row: dict[str, Any] = {**one.place._asdict(), "recipe": candidate.entry.name, "title": _title(candidate)}
    row |= {"fits": known is not None, "amiss": "; ".join(candidate.amiss), "score": one.column.name}
    row |= {
        "value": known.value if known else None,
        "low": known.low if known else None,
        "high": known.high if known else None,
    }
    row |= {"chance": candidate.chance, "rank": candidate.rank[0] if candidate.rank else None}
    row |= {"rank_worst": candidate.rank[1] if candidate.rank else None, "seeds": len(candidate.entry.records)}
    row |= {"memory_bytes": candidate.memory, "hours": candidate.hours, "served_bytes": candidate.served}
    for kept in candidate.kept:
        row |= {f"kept.{kept.column}": kept.change, f"kept.{kept.column}.chance": kept.chance}
    return row


def _content(one: Advice) -> dict[str, Any]:
    return {
        **one.place._asdict(),
        "score": one.column.name,
        "higher_is_better": one.column.higher_is_better,
        "fit": [_row(one, candidate) for candidate in one.fit],
        "unfit": [_row(one, candidate) for candidate in one.unfit],
        "next": one.next._asdict() if one.next else None,
    }


LEGEND = (
    "best with: how often the method is the best of those that fit, in resampled worlds of items and seeds that all of them share.",
    "rank: from 1 + the number of fitting methods that are better beyond doubt (paired by item, Holm-corrected) to their number less those that are worse.",
    "keeps: the chance that the change from the base, in brackets, is above what was asked; positive is better whichever way the score counts.",
    "memory and served: the most of any seed; time: the mean of making it, shared stages in full.",
)

"""How many seeds and items a difference needs to be seen, from the variance in records."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import median
from typing import NamedTuple

from polm_bench.report.choose import changed_settings
from polm_bench.report.items import Evaluation, align
from polm_bench.report.measure import is_mean
from polm_bench.report.page import Page, Part, Sheet
from polm_bench.report.records import Record
from polm_bench.report.words import number
from polm_bench.stats import Components, clusters_needed, components, power, seeds_needed, visible_effect

SEEDS = (2, 3, 5, 10)
_PLACE = ("model", "data", "budget", "suite")


class Forecast(NamedTuple):
    """What one score of a suite can show: differences from the base, paired by item."""

    place: tuple[str, ...]
    column: str
    methods: int  # whose differences the variance is the median of
    items: int
    per_cluster: float  # items in a cluster
    found: Components
    visible: dict[int, float]  # seeds -> smallest difference seen with the wanted power on the present items
    power_now: dict[int, float]  # seeds -> chance to see the effect on the present items
    items_needed: dict[int, int | None]  # seeds -> items
    seeds_needed: int | None  # on the present items


def forecasts(records: Sequence[Record], effect: float, wanted: float) -> list[Forecast]:
    """A forecast per place and headline score that two or more seeds of some method have."""
    groups: dict[tuple[tuple[str, ...], str, str], list[tuple[Evaluation, Evaluation]]] = {}
    for record in records:
        one, base = Evaluation(record, "self"), Evaluation(record, "base")
        if record.status != "ok" or changed_settings(record) or one.key == base.key:
            continue
        place = tuple(record.cell[name] for name in _PLACE)
        for column, score in one.scores.items():
            if score["headline"] and column in base.scores and is_mean(one, column) and is_mean(base, column):
                groups.setdefault((place, column, record.cell["recipe"]), []).append((one, base))
    split: dict[tuple[tuple[str, ...], str], list[tuple[Components, int, int]]] = {}
    for (place, column, _), pairs in sorted(groups.items()):
        if (known := components_of(pairs, column)) is not None:
            split.setdefault((place, column), []).append(known)
    return [_forecast(place, column, known, effect, wanted) for (place, column), known in split.items()]


def components_of(pairs: Sequence[tuple[Evaluation, Evaluation]], column: str) -> tuple[Components, int, int] | None:
    """The split of a method's differences from the base, and how many items and clusters they have; None for a single seed, or without items."""
    distinct = list({one.key: (one, base) for one, base in pairs}.values())
    flat = [items for pair in distinct for one in pair if (items := one.items(column)) is not None]
    if len(distinct) < 2 or len(flat) < 2 * len(distinct):
        return None
    side = align(flat)
    gaps = side.scores[0::2] - side.scores[1::2]
    clusters = len(set(side.clusters))
    if clusters < 2:
        return None
    return components(gaps, clusters=side.clusters, weights=side.weights), gaps.shape[1], clusters


def _forecast(
    place: tuple[str, ...], column: str, known: Sequence[tuple[Components, int, int]], effect: float, wanted: float
) -> Forecast:
    middle = Components(*(median(found[part] for found, *_ in known) for part in range(3)))
    items = round(median(count for _, count, _ in known))
    clusters = round(median(count for *_, count in known))
    each = items / clusters
    needed = {seeds: clusters_needed(effect, middle, seeds, wanted) for seeds in SEEDS}
    return Forecast(
        place,
        column,
        len(known),
        items,
        each,
        middle,
        {seeds: visible_effect(middle, seeds, clusters, wanted) for seeds in SEEDS},
        {seeds: power(effect, middle, seeds, clusters) for seeds in SEEDS},
        {seeds: None if count is None else round(count * each) for seeds, count in needed.items()},
        seeds_needed(effect, middle, clusters, wanted),
    )


def power_page(found: Sequence[Forecast], effect: float, wanted: float) -> Page:
    """The forecasts as a page."""
    head = ["score", "items", "methods", "seed sd", "item sd"]
    head += [f"seen at {seeds} seeds" for seeds in SEEDS] + [f"items at {seeds} seeds" for seeds in SEEDS] + ["seeds"]
    places = dict.fromkeys(one.place for one in found)
    parts = tuple(
        Part(
            " ".join(f"{name}={value}" for name, value in zip(_PLACE, place, strict=True)),
            (
                Sheet(
                    f"A difference of {effect:g} with power {wanted:g}",
                    head,
                    [_line(one) for one in found if one.place == place],
                ),
            ),
        )
        for place in places
    )
    legend = (
        "Of the differences from the base, paired by item: the median over methods of their variance between seeds, and between items "
        "(at one seed, chance in decoding included).",
        f"seen at S seeds: the smallest difference that a two-sided 5 % test on the present items sees with power {wanted:g}.",
        f"items at S seeds: how many items show {effect:g}; never: training differs by more between so few seeds.",
        f"seeds: how many seeds show {effect:g} on the present items; never: these items can't show it.",
    )
    rows = [_row(one, effect, wanted) for one in found]
    return Page(
        "power",
        f"What it takes to see a difference of {effect:g}",
        parts,
        legend,
        rows,
        {"effect": effect, "power": wanted, "scores": rows},
    )


def _line(one: Forecast) -> list[str]:
    found = one.found
    return [
        one.column,
        str(one.items),
        str(one.methods),
        number(found.seed**0.5),
        number((found.item + found.rest) ** 0.5),
        *(number(one.visible[seeds]) for seeds in SEEDS),
        *(_count(one.items_needed[seeds]) for seeds in SEEDS),
        _count(one.seeds_needed),
    ]


def _count(value: int | None) -> str:
    return "never" if value is None else f"{value:,}"


def _row(one: Forecast, effect: float, wanted: float) -> dict[str, object]:
    row: dict[str, object] = dict(zip(_PLACE, one.place, strict=True))
    row |= {"score": one.column, "effect": effect, "power": wanted, "methods": one.methods, "items": one.items}
    row |= {"seed_variance": one.found.seed, "item_variance": one.found.item, "rest_variance": one.found.rest}
    for seeds in SEEDS:
        row |= {f"visible_{seeds}_seeds": one.visible[seeds], f"power_{seeds}_seeds": one.power_now[seeds]}
        row[f"items_{seeds}_seeds"] = one.items_needed[seeds]
    return row | {"seeds": one.seeds_needed}

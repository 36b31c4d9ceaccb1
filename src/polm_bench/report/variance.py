"""Where the variance of a method's scores comes from: its training seed, the items, chance in decoding."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from polm_bench.report.choose import age, changed_settings, setting_of
from polm_bench.report.items import Evaluation, align
from polm_bench.report.measure import is_mean
from polm_bench.report.page import Page, Part, Sheet
from polm_bench.report.records import Record
from polm_bench.report.spec import Place
from polm_bench.report.words import number
from polm_bench.stats import Split, split

DECODING = "suite.seed"
"""The setting that the answers of an evaluation are drawn with, and no training."""

Layout = list[list[Evaluation]]
"""By training seed and decoding; all rows are equally long."""


class Told(NamedTuple):
    """One score of one method."""

    place: Place
    column: str
    recipe: str
    seeds: int
    decodings: int
    items: int
    found: Split


def splits(records: Sequence[Record], recipes: Sequence[str] = ()) -> list[Told]:
    """The split of every headline score of methods (these, or all) that have two training seeds or two decodings."""
    told = []
    for (place, recipe), layout in _layouts(records, recipes).items():
        flat = [one for row in layout for one in row]
        for column, score in flat[0].scores.items():
            if not score["headline"] or not all(column in one.scores and is_mean(one, column) for one in flat):
                continue
            side = align([items for one in flat if (items := one.items(column)) is not None])
            if len(set(side.clusters)) < 2:
                continue
            cube = side.scores.reshape(len(layout), len(layout[0]), -1)
            found = split(cube, clusters=side.clusters, weights=side.weights)
            told.append(Told(place, column, recipe, *cube.shape, found))
    return told


def _layouts(records: Sequence[Record], recipes: Sequence[str]) -> dict[tuple[Place, str], Layout]:
    """The evaluations of each method that has several; a model that several seeds share (no seed trained it) counts once."""
    found: dict[tuple[Place, str], dict[int, dict[int, Evaluation]]] = {}
    for record in sorted(records, key=age):
        if record.status != "ok" or record.trials > 1 or set(changed_settings(record)) - {DECODING}:
            continue
        one, cell = Evaluation(record, "self"), record.cell
        if one.key and (not recipes or cell["recipe"] in recipes):
            of = found.setdefault((Place(*(cell[name] for name in Place._fields)), cell["recipe"]), {})
            of.setdefault(cell["seed"], {})[int(setting_of(record, DECODING) or 0)] = one
    largest = {name: _largest(_distinct(of)) for name, of in sorted(found.items())}
    return {name: layout for name, layout in largest.items() if sum(map(len, layout)) > 1}


def _distinct(found: Mapping[int, Mapping[int, Evaluation]]) -> dict[int, dict[int, Evaluation]]:
    first = {one.key: (seed, decoding) for seed in sorted(found, reverse=True) for decoding, one in found[seed].items()}
    kept: dict[int, dict[int, Evaluation]] = {}
    for seed, decoding in sorted(first.values()):
        kept.setdefault(seed, {})[decoding] = found[seed][decoding]
    return kept


def _largest(found: Mapping[int, Mapping[int, Evaluation]]) -> Layout:
    """The largest layout without gaps, one of several decodings before one of a single one."""

    def size(layout: Layout) -> tuple[bool, int]:
        return len(layout[0]) > 1, len(layout) * len(layout[0])

    wanted = [sorted(row) for row in found.values()]
    layouts = [[[row[one] for one in names] for row in found.values() if row.keys() >= {*names}] for names in wanted]
    return max(layouts, key=size)


def variance_page(told: Sequence[Told]) -> Page:
    """The splits as a page: a sheet a method."""
    places = dict.fromkeys(one.place for one in told)
    parts = tuple(
        Part(
            " ".join(f"{name}={value}" for name, value in place._asdict().items()),
            tuple(
                _sheet(recipe, [one for one in told if (one.place, one.recipe) == (place, recipe)])
                for recipe in recipes
            ),
        )
        for place in places
        for recipes in [dict.fromkeys(one.recipe for one in told if one.place == place)]
    )
    legend = (
        "Standard deviations of the score of one item, in the score's unit, with the part of the whole variance. A mean over S seeds, D decodings and N "
        "items has the variance seed / S + item / N + seed x item / SN + decoding / SDN.",
        "seed: training that ended elsewhere. item: some are harder. seed x item: what one training gets right and another doesn't. "
        "decoding: the same model asked the same again.",
        "Blank: not told apart. One training seed leaves seed x item in item, one decoding leaves chance in seed x item, or in item.",
        f"Answers are drawn with {DECODING}, and no model is trained again for another one: polm-bench run -m +recipe=dpo seed=0,1,2 "
        f"{DECODING}=1,2 evaluates those of +recipe=dpo seed=0,1,2 twice more.",
    )
    rows = [one.place._asdict() | _row(one) for one in told]
    return Page("variance", "Where the variance of scores comes from", parts, legend, rows, {"scores": rows})


def _sheet(recipe: str, told: Sequence[Told]) -> Sheet:
    title = f"{recipe} (training seeds: {told[0].seeds}, decodings: {told[0].decodings})"
    return Sheet(title, ["score", "items", "seed", "item", "seed x item", "decoding"], [_line(one) for one in told])


def _line(one: Told) -> list[str]:
    whole = sum(part for part in one.found if part is not None) or 1.0
    return [
        one.column,
        str(one.items),
        *("" if part is None else f"{number(part**0.5)} ({part / whole:.0%})" for part in one.found),
    ]


def _row(one: Told) -> dict[str, object]:
    counts = {
        "score": one.column,
        "recipe": one.recipe,
        "seeds": one.seeds,
        "decodings": one.decodings,
        "items": one.items,
    }
    return counts | {f"{name}_variance": part for name, part in one.found._asdict().items()}

"""Tables of `conf/table/`: which cells they compare."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from fnmatch import fnmatchcase
from itertools import product
from pathlib import Path
from typing import Any, Literal, NamedTuple

from pydantic import Field, ValidationError
from pydantic.dataclasses import dataclass

from polm_bench.errors import BadData, UnknownName
from polm_bench.graph import FORBID
from polm_bench.paths import slug
from polm_bench.report.facts import Facts, recipe_facts
from polm_bench.settings import read_yaml


class Place(NamedTuple):
    """What the rows of one block have in common."""

    model: str
    data: str
    budget: str
    suite: str

    def overrides(self, recipe: str, seed: int) -> list[str]:
        """The words of `polm-bench run` for one cell here."""
        return [f"+recipe={recipe}", *(f"{group}={name}" for group, name in self._asdict().items()), f"seed={seed}"]


@dataclass(frozen=True, config=FORBID)
class Printed:
    """A table of the survey as printed, its rows joined with what was measured."""

    number: int
    source: str
    columns: Mapping[str, str]  # name in the rows -> head
    rows: tuple[
        Mapping[str, Any], ...
    ]  # "method" in the first column; `key` names the catalogue's method, if it has one
    doubts: Mapping[str, str] = Field(default_factory=dict)  # letter -> footnote; a row's `doubts` lists its letters
    measured: tuple[str, ...] = ()  # scores as "task/metric", or costs, beside each row that a recipe covers
    against: Literal["base", "start"] = "base"  # the row of a record that differences and ratios are from
    ratios: tuple[str, ...] = ()  # costs of serving, as multiples of that row's
    derived: tuple[
        Literal["bits_per_weight", "perplexity"], ...
    ] = ()  # made of the score nano_text/bits_per_byte, and of the served size
    checked: Mapping[str, str] = Field(default_factory=dict)  # data configuration -> how its loading was checked
    differences: bool = True  # scores as differences from that row
    join: Literal["recipe", "data"] = "recipe"  # what a row's key names


@dataclass(frozen=True, config=FORBID)
class TableSpec:
    """Which cells a table compares, and what it shows of them."""

    name: str
    title: str
    recipes: tuple[str, ...] = Field(min_length=1)  # names, or patterns such as "*": those follow the paradigms' order
    models: tuple[str, ...] = Field(min_length=1)
    data: tuple[str, ...] = Field(min_length=1)
    budgets: tuple[str, ...] = Field(min_length=1)
    suites: tuple[str, ...] = Field(min_length=1)
    seeds: tuple[int, ...] = Field(min_length=1)
    more_seeds: Mapping[str, tuple[int, ...]] = Field(default_factory=dict)
    """Seeds beside these: of the recipes of a paradigm in the YAML, of a recipe once it is read."""
    trials: int = Field(default=1, ge=1)  # of tuning, for each method that declares a search; 1 is untuned
    scores: tuple[str, ...] = ()  # columns as "task/metric"; none given are the suite's headline scores
    against: str = "flops"  # the cost that quality is weighed against in the plot and on the Pareto front
    view: Literal["scores", "effects", "frontier", "forecast"] = "scores"
    """effects: what each recipe claims, and whether it was seen; frontier: reward against divergence from the start, at several settings of each;
    forecast: what was expected of the stages of all records, and what they took."""
    paradigms: tuple[str, ...] = ()  # patterns in `recipes` find only methods of these
    families: tuple[str, ...] = ()  # ... and of these families (patterns)
    grouped: bool = False  # rows under the names of their paradigms
    costs: tuple[str, ...] = ()  # costs to show; none given are all that some row has
    overall: bool = False  # one more sheet: the methods over all tasks
    along: bool = False  # one more sheet: what moved along training, from the records' curves
    wins: str | None = None  # a column; on the same sheet, how often a method beats its start on its items
    records_of: str | None = None  # another table, whose published records this one reads
    printed: Printed | None = None  # a table of the survey that the measured columns stand beside
    points: Mapping[str, Mapping[str, tuple[float, ...]]] = Field(default_factory=dict)
    """recipe -> settings and their values, each combination a cell of its own (frontier)."""
    words: Mapping[str, tuple[str, ...]] = Field(default_factory=dict)  # recipe -> more words of its cells (frontier)
    probe: str | None = None  # of conf/probe/, for every cell (frontier)

    def places(self) -> list[Place]:
        """Model, data, budget and suite of each block of rows."""
        return [Place(*group) for group in product(self.models, self.data, self.budgets, self.suites)]

    @property
    def of_data(self) -> bool:
        """Whether it shows data configurations, which stand in conf/ alone."""
        return self.printed is not None and self.printed.join == "data"

    def cells(self) -> list[list[str]]:
        """Overrides of every cell, for `polm-bench run`; all seeds of a recipe one after the other, so that a row is whole early.

        None for a table that shows data configurations.
        """
        if self.of_data:
            return []
        probe = [f"+probe={self.probe}"] if self.probe else []
        return [
            [
                *place.overrides(recipe, seed),
                *probe,
                *(f"{name}={value}" for name, value in settings.items()),
                *self.words.get(recipe, ()),
            ]
            for place in self.places()
            for recipe in self.recipes
            for settings in self.settings(recipe)
            for seed in self.seeds_of(recipe)
        ]

    def seeds_of(self, recipe: str) -> tuple[int, ...]:
        """The seeds of a recipe's cells."""
        return (*self.seeds, *self.more_seeds.get(recipe, ()))

    def every_seed(self) -> list[int]:
        """The seeds that some cell has."""
        return sorted({seed for recipe in self.recipes for seed in self.seeds_of(recipe)})

    def settings(self, recipe: str) -> list[dict[str, float]]:
        """The settings of each of a recipe's cells in one place and of one seed; one cell with none where the table varies nothing."""
        varied = self.points.get(recipe, {})
        return [dict(zip(varied, values, strict=True)) for values in product(*varied.values())]

    def record_names(self, facts: Iterable[Facts] = ()) -> list[str]:
        """What the names of the cells' record files begin with; with facts, also those that the recipes' claims are read against."""
        told = {one.name: one.claim.against for one in facts if one.claim}
        wanted = {
            (seed, name)
            for recipe in self.recipes
            for seed in self.seeds_of(recipe)
            for name in (recipe, told.get(recipe, recipe), "base")
        }
        return [
            "-".join([*map(slug, (recipe, *place)), f"s{seed}", ""])
            for place in self.places()
            for seed, recipe in sorted(wanted)
        ]


def load_spec(conf_dir: Path, name: str) -> TableSpec:
    """Read `conf/table/NAME.yaml`; patterns among its recipes become names.

    Raises UnknownName when there is no such table, and BadData when the file does not describe one.
    """
    folder = Path(conf_dir) / "table"
    path = folder / f"{name}.yaml"
    if Path(name).name != name or not path.is_file():
        raise UnknownName("table", name, (found.stem for found in folder.glob("*.yaml")))
    content: Any = read_yaml(path)
    if not isinstance(content, dict):
        raise BadData(f"{path} holds no mapping: it needs name, title, recipes, models, data, budgets, suites, seeds.")
    try:
        spec = TableSpec(**content)
    except ValidationError as error:
        faults = "; ".join(f"{'.'.join(map(str, fault['loc']))}: {fault['msg']}" for fault in error.errors())
        raise BadData(f"{path} does not describe a table: {faults}") from error
    spec = replace(spec, recipes=tuple(_named(Path(conf_dir), spec)))
    if not spec.more_seeds:
        return spec
    paradigm = {one.name: one.paradigm for one in recipe_facts(Path(conf_dir)).values()}
    more = {name: spec.more_seeds.get(paradigm.get(name, ""), ()) for name in spec.recipes}
    return replace(spec, more_seeds=more)


def _named(conf_dir: Path, spec: TableSpec) -> list[str]:
    """Recipes of the table, each once: names as given, patterns as what they find."""
    found: list[str] = []
    for wanted in spec.recipes:
        if not set("*?[") & set(wanted):
            found.append(wanted)
            continue
        facts = recipe_facts(conf_dir).values()
        inside = [one for one in facts if not spec.paradigms or one.paradigm in spec.paradigms]
        if spec.printed:
            asked = {str(row["key"]) for row in spec.printed.rows if row.get("key")}
            inside = [one for one in inside if asked & {*one.survey, one.name}]
        inside = [one for one in inside if not spec.families or _any_matches(one.family, spec.families)]
        found += [one.name for one in inside if fnmatchcase(one.name, wanted)]
    return list(dict.fromkeys(found))


def _any_matches(name: str, patterns: Sequence[str]) -> bool:
    return any(fnmatchcase(name, pattern) for pattern in patterns)

"""Tables of `conf/table/`: which cells they compare."""

from __future__ import annotations

from itertools import product
from pathlib import Path
from typing import Any, NamedTuple

import yaml
from pydantic import Field, ValidationError
from pydantic.dataclasses import dataclass

from polm_bench.errors import BadData, UnknownName
from polm_bench.graph import FORBID


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
class TableSpec:
    """Which cells a table compares, and what it shows of them."""

    name: str
    title: str
    recipes: tuple[str, ...] = Field(min_length=1)
    models: tuple[str, ...] = Field(min_length=1)
    data: tuple[str, ...] = Field(min_length=1)
    budgets: tuple[str, ...] = Field(min_length=1)
    suites: tuple[str, ...] = Field(min_length=1)
    seeds: tuple[int, ...] = Field(min_length=1)
    scores: tuple[str, ...] = ()  # columns as "task/metric"; none given are the suite's headline scores
    against: str = "flops"  # the cost that quality is weighed against in the plot and on the Pareto front

    def places(self) -> list[Place]:
        """Model, data, budget and suite of each block of rows."""
        return [Place(*group) for group in product(self.models, self.data, self.budgets, self.suites)]

    def cells(self) -> list[list[str]]:
        """Overrides of every cell, for `polm-bench run`."""
        return [
            place.overrides(recipe, seed) for place in self.places() for seed in self.seeds for recipe in self.recipes
        ]


def load_spec(conf_dir: Path, name: str) -> TableSpec:
    """Read `conf/table/NAME.yaml`.

    Raises UnknownName when there is no such table, and BadData when the file does not describe one.
    """
    folder = Path(conf_dir) / "table"
    path = folder / f"{name}.yaml"
    if not path.is_file():
        raise UnknownName("table", name, (found.stem for found in folder.glob("*.yaml")))
    try:
        content: Any = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise BadData(f"{path} is no YAML: {' '.join(str(error).split())}") from error
    if not isinstance(content, dict):
        raise BadData(f"{path} holds no mapping: it needs name, title, recipes, models, data, budgets, suites, seeds.")
    try:
        return TableSpec(**content)
    except ValidationError as error:
        faults = "; ".join(f"{'.'.join(map(str, fault['loc']))}: {fault['msg']}" for fault in error.errors())
        raise BadData(f"{path} does not describe a table: {faults}") from error

"""A cell: model x recipe x data x budget x suite x seed, with the graph of stages that it takes."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from polm_bench.budget import Budget
from polm_bench.data.source import DataSource
from polm_bench.graph import KEY_LENGTH, Stage, identity, ordered
from polm_bench.models import Model
from polm_bench.paths import slug
from polm_bench.recipes import Context, Graph, Recipe
from polm_bench.run.launch import Launch
from polm_bench.stages import Evaluate, Suite

IDENTITY = ("recipe", "model", "data", "budget", "suite")


@dataclass(frozen=True)
class Plan:
    """A cell with its graph; nothing has run yet."""

    names: dict[str, str]  # what was chosen in each group
    seed: int
    model: Model
    data: DataSource
    budget: Budget
    suite: Suite
    launch: Launch
    track: str
    recipe: Recipe
    context: Context
    graph: Graph
    evaluations: dict[str, Stage]  # rows: base, start (where there is one), self (where the suite can judge it)
    config: dict[str, Any]
    origins: dict[str, str]
    overrides: tuple[str, ...]
    search: dict[str, Any] | None = None  # what the recipe says of its tuning; part of no stage

    @cached_property
    def record_id(self) -> str:
        judges = {**self.evaluations, **{f"{row} probe": stage for row, stage in self.graph.probes.items()}}
        keys = "".join(f"{row}:{stage.key}" for row, stage in sorted(judges.items()))
        digest = hashlib.sha256(keys.encode()).hexdigest()[:KEY_LENGTH]
        return "-".join([*(slug(self.names[group]) for group in IDENTITY), f"s{self.seed}", digest])

    def stages(self) -> list[Stage]:
        """All stages, inputs before what reads them."""
        return ordered(*self.goals())

    def goals(self) -> list[Stage]:
        """What the record is made of: the evaluations and the recipe's own probes."""
        return [*self.evaluations.values(), *self.graph.probes.values()]

    def folders(self) -> dict[str, Path]:
        """Where the base model's files lie on this machine before it is fetched, by the key of its stage; empty where they don't."""
        from polm_bench.models.fetch import present

        folder = present(self.model)
        return {self.context.base.key: folder} if folder else {}

    def cell(self) -> dict[str, Any]:
        """The record's `cell`."""
        return {
            **{group: self.names[group] for group in IDENTITY},
            "seed": self.seed,
            "config": self.config,
            "origins": self.origins,
        }

    def recipe_facts(self) -> dict[str, Any]:
        """The record's `recipe`."""
        facts = asdict(self.recipe.meta)
        return {name: list(value) if isinstance(value, tuple) else value for name, value in facts.items()}

    def contamination(
        self, cache: Path, scores: Sequence[Mapping[str, Any]], items: Mapping[str, Path]
    ) -> dict[str, Any]:
        """The record's `contamination`: items of the suite that the model's training rows hold, and the rows' scores without them.

        `items` maps the rows of the record to the parquet files of their items; `cache` keeps what was looked up.
        """
        from polm_bench.data import gate

        told = gate.contamination(self.evaluations.get("self", self.graph.model), self.suite, cache)
        clean = [one for row, path in items.items() for one in gate.clean_scores(told, row, scores, path)]
        return told | {"clean": clean}

    def to_dict(self) -> dict[str, Any]:
        """The plan as JSON values: the cell, and each stage with its key, identity and inputs."""
        return {
            "id": self.record_id,
            "cell": {**{group: self.names[group] for group in IDENTITY}, "seed": self.seed},
            "rows": {row: stage.key for row, stage in self.evaluations.items()},
            "stages": [
                {
                    "kind": type(stage).__name__,
                    "key": stage.key,
                    "inputs": [i.key for i in stage.inputs],
                    "identity": identity(stage),
                }
                for stage in self.stages()
            ],
        }


def evaluations_of(base: Stage, graph: Graph, suite: Suite) -> dict[str, Stage]:
    """Row -> the stage that judges it by the suite: the base, the start where there is one, and the model itself where the suite can."""
    found: dict[str, Stage] = {"base": Evaluate(model=base, suite=suite)}
    if graph.start is not None:
        found["start"] = Evaluate(model=graph.start, suite=suite)
    if graph.judged:
        found["self"] = Evaluate(model=graph.model, suite=suite, decoder=graph.decoder)
    return found

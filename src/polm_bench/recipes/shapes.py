"""Graphs of methods: the base alone."""

from __future__ import annotations

from pydantic.dataclasses import dataclass

from polm_bench.graph import FORBID
from polm_bench.recipes.context import Context, Graph, Recipe


@dataclass(frozen=True, config=FORBID)
class Base(Recipe):
    """The base model as it is."""

    def plan(self, ctx: Context) -> Graph:
        """Base."""
        return Graph(ctx.base)

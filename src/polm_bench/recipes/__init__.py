"""Shapes: from a cell to a graph of stages. `conf/recipe/` names them and gives their numbers."""

from __future__ import annotations

from polm_bench.recipes.context import Claim, Context, Graph, Meta, Recipe
from polm_bench.recipes.sft import SFT
from polm_bench.recipes.shapes import Base, Preference

__all__ = ["SFT", "Base", "Claim", "Context", "Graph", "Meta", "Preference", "Recipe"]

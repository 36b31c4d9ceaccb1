"""Shapes: from a cell to a graph of stages. `conf/recipe/` names them and gives their numbers."""

from __future__ import annotations

from polm_bench.recipes.compress import Compress, CompressCache, Recovery
from polm_bench.recipes.context import Claim, Context, Graph, Meta, Recipe
from polm_bench.recipes.preference import Preference
from polm_bench.recipes.ranking import OwnAnswers, Ranking
from polm_bench.recipes.sft import SFT
from polm_bench.recipes.shapes import Base

__all__ = [
    "SFT",
    "Base",
    "Claim",
    "Compress",
    "CompressCache",
    "Context",
    "Graph",
    "Meta",
    "OwnAnswers",
    "Preference",
    "Ranking",
    "Recipe",
    "Recovery",
]

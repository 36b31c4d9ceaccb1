"""Preference objectives: frozen values that are their own schema and identity, and pure functions of log-probs."""

from polm_bench.objectives.base import PairLogps, PairObjective, UnpairedLogps
from polm_bench.objectives.dpo import DPO
from polm_bench.objectives.kto import KTO
from polm_bench.objectives.simpo import SimPO

__all__ = ["DPO", "KTO", "PairLogps", "PairObjective", "SimPO", "UnpairedLogps"]

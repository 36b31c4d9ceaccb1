"""Ways to make a model smaller, by what they leave behind."""

from __future__ import annotations

from polm_bench.stages.compression.base import Calibration, Compressed, Compression
from polm_bench.stages.compression.bits import LoadInBits
from polm_bench.stages.compression.columns import IncoherentRounding, OutlierAwareRounding
from polm_bench.stages.compression.factor import FactorWeights
from polm_bench.stages.compression.narrower import FluctuationPruning, TaylorPruning
from polm_bench.stages.compression.oneshot import PruneOneShot, QuantizeOneShot, RangedRounding, ScaledRounding
from polm_bench.stages.compression.slicing import DirectionSlicing
from polm_bench.stages.compression.sparse import PruneWeights

__all__ = [
    "Calibration",
    "Compressed",
    "Compression",
    "DirectionSlicing",
    "FactorWeights",
    "FluctuationPruning",
    "IncoherentRounding",
    "LoadInBits",
    "OutlierAwareRounding",
    "PruneOneShot",
    "PruneWeights",
    "QuantizeOneShot",
    "RangedRounding",
    "ScaledRounding",
    "TaylorPruning",
]

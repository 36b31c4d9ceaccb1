"""The work: folders in, one folder out."""

from __future__ import annotations

from polm_bench.stages.adapter import AttachAdapter, FoldAdapter
from polm_bench.stages.compress import CompressModel
from polm_bench.stages.evaluate import Evaluate, Suite, TaskUse
from polm_bench.stages.fetch import FetchModel
from polm_bench.stages.pairs import ReferenceLogps, TrainPairs
from polm_bench.stages.ranking import AgainstSamples, ReferenceLists, TrainLists
from polm_bench.stages.sft import TrainSFT, TrainText

__all__ = [
    "AgainstSamples",
    "AttachAdapter",
    "CompressModel",
    "Evaluate",
    "FetchModel",
    "FoldAdapter",
    "ReferenceLists",
    "ReferenceLogps",
    "Suite",
    "TaskUse",
    "TrainLists",
    "TrainPairs",
    "TrainSFT",
    "TrainText",
]

"""What the processes of a drill are forked with, so that they are killed at work and not while they import or make rows. Runs no tensor operation."""

from __future__ import annotations

import hydra.main
import lm_eval.evaluator
import transformers.models.llama.modeling_llama

import polm_bench.decoding.plain
import polm_bench.models.load
import polm_bench.run.execute
import polm_bench.trainers.fit
import polm_bench.trainers.pair
from polm_bench.config import plan

__all__ = ["hydra", "lm_eval", "polm_bench", "transformers"]

data = plan(["+recipe=dpo"]).data
for role in ("sft", "preference"):
    data.role(role).load("train")

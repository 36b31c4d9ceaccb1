"""Adapters folded into the weights they adapt."""

from __future__ import annotations

from typing import Any

from pydantic.dataclasses import dataclass

from polm_bench.graph import FORBID, Stage


@dataclass(frozen=True, config=FORBID)
class FoldAdapter(Stage):
    """The base with an adapter added to its weights: a plain model folder, which says what base and adapter say together."""

    base: Stage
    adapter: Stage

    def run(self, job: Any) -> None:
        from polm_bench.models.adapter import fold
        from polm_bench.models.load import load_model, load_tokenizer, save_model, weight_bytes

        folded = fold(load_model(job.path(self.base), "float32", job.device), job.path(self.adapter))
        save_model(folded, load_tokenizer(job.path(self.base)), job.out)
        job.ledger.note(served_bytes=weight_bytes(job.out), adapter_bytes=weight_bytes(job.path(self.adapter)))

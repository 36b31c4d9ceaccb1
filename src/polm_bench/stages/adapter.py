"""Adapters and the base they adapt: folded into its weights, or kept beside them."""

from __future__ import annotations

import shutil
from typing import Any

from pydantic.dataclasses import dataclass

from polm_bench.graph import FORBID, Stage

OF_ADAPTER = ("adapter_config.json", "adapter_model.safetensors")
OF_STORE = {"manifest.json"}


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


@dataclass(frozen=True, config=FORBID)
class AttachAdapter(Stage):
    """The base as it is, with an adapter in its folder that is applied whenever the model answers: one base can serve many adapters."""

    base: Stage
    adapter: Stage

    def run(self, job: Any) -> None:
        from polm_bench.models.load import weight_bytes
        from polm_bench.models.structure import ADAPTER

        for path in job.path(self.base).iterdir():
            if path.is_file() and path.name not in OF_STORE:
                shutil.copyfile(path, job.out / path.name)
        (job.out / ADAPTER).mkdir()
        for name in OF_ADAPTER:
            shutil.copyfile(job.path(self.adapter) / name, job.out / ADAPTER / name)
        job.ledger.note(served_bytes=weight_bytes(job.out), adapter_bytes=weight_bytes(job.path(self.adapter)))

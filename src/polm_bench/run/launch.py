"""Where and how stages run; nothing here is part of a result's identity."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator
from pydantic.dataclasses import dataclass

from polm_bench.graph import FORBID


@dataclass(frozen=True, config=FORBID)
class Launch:
    """One process on one device, one process a stage, or several for the stages that can share their work."""

    name: str
    isolate: bool = False  # each stage in a process of its own: costs the imports every time
    num_processes: int = Field(
        default=1, ge=1
    )  # for a stage that can share its work; each has one device, or its share of the cores
    device: str = "auto"  # auto | cpu | cuda | cuda:N
    threads: int | None = Field(default=None, ge=1)  # of PyTorch on a CPU; null takes what PyTorch takes
    micro_batch: int = Field(default=64, ge=1)  # rows in one forward pass at most; split over gradient accumulation
    dtype: Literal["auto", "float32", "bfloat16"] = "auto"
    checkpoint_seconds: float = Field(default=60, gt=0)  # between two checkpoints inside a training stage
    on_oom: Literal["record", "shrink"] = "record"  # shrink: once more with half the micro-batch, down to one row
    stage_timeout: float | None = Field(default=None, gt=0)  # seconds; the record then says timeout
    cell_timeout: float | None = Field(default=None, gt=0)  # seconds, over the stages that the cell itself runs

    @model_validator(mode="after")
    def _apart(self) -> Launch:
        if self.num_processes > 1 and not self.isolate:
            raise ValueError(f"num_processes={self.num_processes} needs workers of their own: say launch=multi_gpu")
        return self

    def resolved_device(self) -> str:
        if self.device != "auto":
            return self.device
        import torch

        return "cuda" if torch.cuda.is_available() else "cpu"

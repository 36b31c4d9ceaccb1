"""Where and how stages run; nothing here is part of a result's identity."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.util import find_spec
from typing import Any, Literal

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
    device: str = Field(default="auto", pattern=r"^(auto|cpu|cuda(:\d+)?)$")
    threads: int | None = Field(default=None, ge=1)  # of PyTorch on a CPU; null takes what PyTorch takes
    micro_batch: int = Field(default=64, ge=1)  # rows in one forward pass at most; split over gradient accumulation
    dtype: Literal["auto", "float32", "bfloat16"] = "auto"
    checkpoint_seconds: float = Field(default=60, gt=0)  # between two checkpoints inside a training stage
    on_oom: Literal["record", "shrink"] = "record"  # shrink: once more with half the micro-batch, down to one row
    stage_timeout: float | None = Field(default=None, gt=0)  # seconds; the record then says timeout
    cell_timeout: float | None = Field(default=None, gt=0)  # seconds, over the stages that the cell itself runs
    fsdp: Mapping[str, Any] | None = None  # Trainer's `fsdp_config`, which becomes Accelerate's plugin; null: copies
    deepspeed: Mapping[str, Any] | None = None  # DeepSpeed's own configuration, the same way

    @model_validator(mode="after")
    def _apart(self) -> Launch:
        if self.num_processes > 1 and not self.isolate:
            raise ValueError(f"num_processes={self.num_processes} needs workers of their own: say launch=multi_gpu")
        if self.fsdp is not None and self.deepspeed is not None:
            raise ValueError("fsdp and deepspeed both share a model out: set one of them to null")
        return self

    @property
    def in_shares(self) -> bool:
        """Whether each of several processes holds a share of what is trained, and not a copy."""
        return self.num_processes > 1 and (self.fsdp is not None or self.deepspeed is not None)

    def lacks(self) -> str | None:
        """What this machine hasn't of what was asked for, with what to do; None where nothing is missing."""
        if self.device.startswith("cuda"):
            import torch

            count = torch.cuda.device_count()
            if int(self.device.partition(":")[2] or 0) >= count:
                there = (
                    f"CUDA devices from cuda:0 to cuda:{count - 1}" if count else "no CUDA device that PyTorch can use"
                )
                return f"launch.device={self.device}: this machine has {there}. Say launch.device=auto."
        if self.deepspeed is None:
            return None
        if find_spec("deepspeed") is None:
            return f"launch={self.name} needs DeepSpeed, which is not installed. Install it: pip install deepspeed"
        if self.resolved_device() == "cpu":
            return f"launch={self.name} needs a device for each process, and there is none. launch=fsdp needs none."
        return None

    def resolved_device(self) -> str:
        if self.device != "auto":
            return self.device
        import torch

        return "cuda" if torch.cuda.is_available() else "cpu"

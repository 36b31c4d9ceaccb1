"""A `transformers.Trainer` that trains on given batches in a given order."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from accelerate import DistributedType, PartialState
from accelerate.utils import FullyShardedDataParallelPlugin
from torch.utils.data import DataLoader
from transformers import Trainer, TrainingArguments


class Rows(torch.utils.data.Dataset[Mapping[str, Any]]):
    """Rows in memory, by number."""

    def __init__(self, rows: Sequence[Mapping[str, Any]]) -> None:
        self.rows = rows

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> Mapping[str, Any]:
        return self.rows[index]


class ScheduledTrainer(Trainer):
    """Next-token training on `batches`: lists of row numbers, one list a micro-batch, in training order."""

    def __init__(self, *, rows: Sequence[Mapping[str, Any]], batches: Sequence[Sequence[int]], **trainer: Any) -> None:
        super().__init__(train_dataset=Rows(rows), **trainer)
        self.batches = batches

    def create_accelerator_and_postprocess(self) -> None:
        super().create_accelerator_and_postprocess()
        state = self.accelerator.state
        if self.args.fsdp_plugin_args is not None and state.distributed_type == DistributedType.MULTI_CPU:
            # AcceleratorState heeds the plugin on devices only, and would train copies; PyTorch's FSDP2 works on a CPU too
            state.fsdp_plugin = FullyShardedDataParallelPlugin(**self.args.fsdp_plugin_args)
            state.distributed_type = PartialState._shared_state["distributed_type"] = DistributedType.FSDP
            self.is_fsdp_enabled = True

    def get_train_dataloader(self) -> DataLoader[Any]:
        loader = DataLoader(self.train_dataset, batch_sampler=list(self.batches), collate_fn=self.data_collator)
        return self.accelerator.prepare(loader)


class PadRight:
    """Collates token rows `input_ids` and `labels` to [B, T], padded on the right; labels are padded with -100."""

    def __init__(self, pad_id: int) -> None:
        self.pad_id = pad_id

    def __call__(self, rows: list[dict[str, Any]]) -> dict[str, torch.Tensor]:
        width = max(len(row["input_ids"]) for row in rows)
        ids = torch.full((len(rows), width), self.pad_id)
        labels = torch.full((len(rows), width), -100)
        mask = torch.zeros((len(rows), width), dtype=torch.long)
        for i, row in enumerate(rows):
            length = len(row["input_ids"])
            ids[i, :length] = torch.tensor(row["input_ids"])
            labels[i, :length] = torch.tensor(row["labels"])
            mask[i, :length] = 1
        return {"input_ids": ids, "attention_mask": mask, "labels": labels}


__all__ = ["PadRight", "Rows", "ScheduledTrainer", "TrainingArguments"]

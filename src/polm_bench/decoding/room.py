"""Keys and values with room for an answer, so that no step copies them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from transformers.cache_utils import DynamicLayer

Pages = tuple[torch.Tensor, torch.Tensor]
"""Keys and values of a layer, [B, H, T, D] each."""


class Room(DynamicLayer):
    """Keys and values of one layer in buffers with room for `total` tokens."""

    def __init__(self, total: int) -> None:
        super().__init__()
        self.total = total

    def fill(self, parts: Sequence[Pages], shared: int, width: int) -> None:
        """Take [b, H, w, D] parts of the batch as its first `width` tokens: `shared` ones, zeros where a part is shorter, the rest."""
        count = sum(len(keys) for keys, _ in parts)
        for name, which in (("_keys", 0), ("_values", 1)):
            first = parts[0][which]
            buffer = first.new_empty(count, first.shape[1], self.total, first.shape[3])
            start = 0
            for part in parts:
                found, own = part[which], width - part[which].shape[2] + shared
                rows = buffer[start : start + len(found)]
                rows[:, :, :shared] = found[:, :, :shared]
                rows[:, :, shared:own] = 0  # masked, but a number: 0 times what is not one is not one
                rows[:, :, own:width] = found[:, :, shared:]
                start += len(found)
            setattr(self, name, buffer)
        self.dtype, self.device = parts[0][0].dtype, parts[0][0].device
        self.is_initialized = True
        self._show(width)

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, *args: Any, **kwargs: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        start = self.keys.shape[2]
        end = start + key_states.shape[2]
        self._keys[:, :, start:end] = key_states
        self._values[:, :, start:end] = value_states
        self._show(end)
        return self.keys, self.values

    def batch_select_indices(self, indices: torch.Tensor) -> None:
        end = self.keys.shape[2]
        for name in ("_keys", "_values"):
            old = getattr(self, name)
            new = old.new_empty(len(indices), *old.shape[1:])
            torch.index_select(old[:, :, :end], 0, indices, out=new[:, :, :end])
            setattr(self, name, new)
        self._show(end)

    def _show(self, end: int) -> None:
        self.keys, self.values = self._keys[:, :, :end], self._values[:, :, :end]

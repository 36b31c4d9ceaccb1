"""A cache of keys and values in few bits, as `transformers` fills and reads it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from transformers import Cache
from transformers.cache_utils import DynamicLayer

from polm_bench.decoding.plain import PlainLM

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from polm_bench.decoding.cache import Kivi


class Packed(NamedTuple):
    """Rounded values [B, H, T, D]."""

    codes: torch.Tensor  # uint8 [B, H, T, D bits / 8]
    scale: torch.Tensor  # half precision; [B, H, T / g, 1, D] per channel, [B, H, T, D / g, 1] per token
    low: torch.Tensor

    def nbytes(self) -> int:
        return self.codes.nbytes + self.scale.nbytes + self.low.nbytes


def pack(values: torch.Tensor, bits: int, group: int, per_channel: bool) -> Packed:
    """Round values [B, H, T, D] to 2^bits steps between the smallest and the largest of each group.

    A group is `group` tokens of one channel, or `group` channels of one token.
    """
    parts, axis = _grouped(values, group, per_channel)
    low, high = parts.amin(axis, keepdim=True), parts.amax(axis, keepdim=True)
    # rounded to what is stored, so that codes fit the scale they will be read with
    scale, low = ((high - low) / (2**bits - 1)).clamp(min=1e-6).half(), low.half()
    codes = ((parts - low.to(parts.dtype)) / scale.to(parts.dtype)).round().clamp(0, 2**bits - 1)
    codes = codes.reshape(values.shape).to(torch.uint8)
    per_byte = 8 // bits
    shifts = torch.arange(per_byte, dtype=torch.uint8, device=codes.device) * bits
    packed = (codes.view(*codes.shape[:-1], -1, per_byte) << shifts).sum(-1, dtype=torch.uint8)
    return Packed(packed, scale, low)


def unpack(packed: Packed, bits: int, group: int, per_channel: bool, dtype: torch.dtype) -> torch.Tensor:
    """Values [B, H, T, D]."""
    shifts = torch.arange(8 // bits, dtype=torch.uint8, device=packed.codes.device) * bits
    codes = ((packed.codes[..., None] >> shifts) & (2**bits - 1)).flatten(-2).to(dtype)
    parts, _ = _grouped(codes, group, per_channel)
    return (parts * packed.scale.to(dtype) + packed.low.to(dtype)).reshape(codes.shape)


def _grouped(values: torch.Tensor, group: int, per_channel: bool) -> tuple[torch.Tensor, int]:
    """Values with an axis of their own for the members of a group, and that axis."""
    b, h, t, d = values.shape
    if per_channel:
        return values.reshape(b, h, t // group, group, d), 3
    return values.reshape(b, h, t, d // group, group), 4


class KiviLayer(DynamicLayer):
    """One layer's keys and values: old ones rounded once and packed, new ones as they are.

    Keys leave the residual when it is full, all at once, so that their groups along tokens are whole; a value leaves it when it is `residual` tokens old.
    Groups of keys begin with the batch's first column, which is padding for short prompts, as in the authors' code.
    """

    def __init__(self, how: Kivi) -> None:
        super().__init__()
        self.how = how
        self.is_initialized = False
        self.old_keys: Packed | None = None
        self.old_values: Packed | None = None
        self.count = 0

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, *args: Any, **kwargs: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        if not self.is_initialized:
            self.dtype, self.device, self.is_initialized = key_states.dtype, key_states.device, True
            self.keys, self.values = key_states[:, :, :0], value_states[:, :, :0]
        self.count += key_states.shape[2]
        self.keys = torch.cat([self.keys, key_states], 2)
        self.values = torch.cat([self.values, value_states], 2)
        whole = self._whole(self.old_keys, self.keys, True), self._whole(self.old_values, self.values, False)
        self._retire()
        return whole

    def get_seq_length(self) -> int:
        return self.count

    def nbytes(self) -> int:
        """Bytes of all that is kept."""
        packed = sum(part.nbytes() for part in (self.old_keys, self.old_values) if part is not None)
        return packed + self.keys.nbytes + self.values.nbytes

    def _whole(self, old: Packed | None, new: torch.Tensor, per_channel: bool) -> torch.Tensor:
        if old is None:
            return new
        return torch.cat([unpack(old, self.how.bits, self.how.group, per_channel, self.dtype), new], 2)

    def _retire(self) -> None:
        keys = self.keys.shape[2] // self.how.residual * self.how.residual
        if keys:
            self.old_keys = self._joined(self.old_keys, self.keys[:, :, :keys], True)
            self.keys = self.keys[:, :, keys:].clone()
        values = self.values.shape[2] - self.how.residual
        if values > 0:
            self.old_values = self._joined(self.old_values, self.values[:, :, :values], False)
            self.values = self.values[:, :, values:].clone()

    def _joined(self, old: Packed | None, new: torch.Tensor, per_channel: bool) -> Packed:
        added = pack(new, self.how.bits, self.how.group, per_channel)
        return added if old is None else Packed(*(torch.cat([a, b], 2) for a, b in zip(old, added, strict=True)))


class KiviLM(PlainLM):
    """The model with a small cache."""

    def __init__(
        self, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, batch_size: int, progress: Any, how: Kivi
    ) -> None:
        super().__init__(model, tokenizer, batch_size, progress)
        self.how = how

    def new_cache(self) -> Cache:
        return Cache(layers=[KiviLayer(self.how) for _ in range(self.model.config.num_hidden_layers)])

"""Decoder layers of different widths: attention heads and feed-forward channels that are gone."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from pydantic.dataclasses import dataclass
from torch import nn

from polm_bench.errors import BadModel
from polm_bench.graph import FORBID
from polm_bench.models.structure import Structure

if TYPE_CHECKING:
    from transformers import PreTrainedModel


@dataclass(frozen=True, config=FORBID)
class Narrow(Structure):
    """Widths of each decoder layer, for architectures whose layers are built as Llama's are."""

    groups: tuple[int, ...]  # of heads that share a key and value, left in each layer
    channels: tuple[int, ...]  # of the feed-forward part, left in each layer
    bias: bool  # whether o_proj and down_proj have one

    def apply(self, model: PreTrainedModel) -> None:
        for layer, groups, channels in zip(narrowable(model), self.groups, self.channels, strict=True):
            attention = layer.self_attn
            size, shared = attention.head_dim, attention.num_key_value_groups
            resize(attention, "q_proj", rows=groups * shared * size)
            resize(attention, "k_proj", rows=groups * size)
            resize(attention, "v_proj", rows=groups * size)
            resize(attention, "o_proj", columns=groups * shared * size, bias=self.bias)
            resize(layer.mlp, "gate_proj", rows=channels)
            resize(layer.mlp, "up_proj", rows=channels)
            resize(layer.mlp, "down_proj", columns=channels, bias=self.bias)


def narrowable(model: PreTrainedModel) -> list[nn.Module]:
    """Decoder layers. Raises BadModel where they are not built as Llama's are."""
    layers = list(getattr(model.get_decoder(), "layers", ()))
    parts = [f"self_attn.{name}_proj" for name in "qkvo"] + [f"mlp.{name}_proj" for name in ("gate", "up", "down")]
    for layer in layers:
        names = dict(layer.named_modules())
        if missing := [part for part in parts if part not in names]:
            raise BadModel(
                f"{type(model).__name__} has no {', '.join(missing)}; only layers as in Llama can be narrowed"
            )
    if not layers:
        raise BadModel(f"{type(model).__name__} has no list of decoder layers, so none can be narrowed")
    return layers


def narrow(layer: nn.Module, groups: torch.Tensor, channels: torch.Tensor) -> None:
    """Keep the key-value groups [G] (bool) and the feed-forward channels [C] (bool) of one layer, with their weights."""
    attention, size, shared = layer.self_attn, layer.self_attn.head_dim, layer.self_attn.num_key_value_groups
    keys = groups.repeat_interleave(size)
    queries = groups.repeat_interleave(size * shared)
    for module, name, rows, columns in (
        (attention, "q_proj", queries, None),
        (attention, "k_proj", keys, None),
        (attention, "v_proj", keys, None),
        (attention, "o_proj", None, queries),
        (layer.mlp, "gate_proj", channels, None),
        (layer.mlp, "up_proj", channels, None),
        (layer.mlp, "down_proj", None, channels),
    ):
        old = getattr(module, name)
        weight, bias = old.weight.detach(), old.bias
        if rows is not None:
            weight, bias = weight[rows], None if bias is None else bias.detach()[rows]
        else:
            weight = weight[:, columns]
        new = nn.Linear(weight.shape[1], weight.shape[0], bias=bias is not None)
        new.weight = nn.Parameter(weight.contiguous())
        if bias is not None:
            new.bias = nn.Parameter(bias.contiguous())
        setattr(module, name, new)


def resize(
    parent: nn.Module, name: str, rows: int | None = None, columns: int | None = None, bias: bool = False
) -> None:
    """Put a linear module of other sizes in the place of `parent`'s, its weights still to be loaded."""
    old = getattr(parent, name)
    made = nn.Linear(
        old.in_features if columns is None else columns,
        old.out_features if rows is None else rows,
        bias=bias or old.bias is not None,
    )
    setattr(parent, name, made)

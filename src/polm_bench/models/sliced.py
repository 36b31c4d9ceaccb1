"""Decoder layers whose hidden states have fewer directions: the residual path is turned from one layer's to the next one's."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from pydantic import Field
from pydantic.dataclasses import dataclass
from torch import nn
from torch.nn import functional as F

from polm_bench.graph import FORBID
from polm_bench.models.narrow import narrowable, resize
from polm_bench.models.structure import Structure

if TYPE_CHECKING:
    from transformers import PreTrainedModel


class RootMeanSquare(nn.Module):
    """x [.., W] over the root mean square of the `size` numbers that it had before it was sliced; no weight."""

    def __init__(self, size: int, eps: float) -> None:
        super().__init__()
        self.size, self.eps = size, eps

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        wide = x.float()
        return (wide * torch.rsqrt(wide.square().sum(-1, keepdim=True) / self.size + self.eps)).to(x.dtype)


class SlicedEmbedding(nn.Embedding):
    """Embeddings [V, D] that are also the output layer's, seen in W directions."""

    def __init__(self, old: nn.Embedding, width: int) -> None:
        super().__init__(old.num_embeddings, old.embedding_dim, old.padding_idx, _weight=old.weight)
        self.weight = old.weight  # the same parameter, so that the output layer stays tied to it
        self.turn = nn.Parameter(torch.zeros(old.embedding_dim, width))

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        return F.embedding(ids, self.weight) @ self.turn


class SlicedLayer(nn.Module):
    """A decoder layer as Llama's, from hidden states [.., W] in one basis to [.., W'] in another, by way of [.., W] in a third."""

    def __init__(self, layer: nn.Module, size: int, eps: float, width: int, out: int) -> None:
        super().__init__()
        self.self_attn, self.mlp = layer.self_attn, layer.mlp
        self.norm = RootMeanSquare(size, eps)
        self.attention_turn = nn.Parameter(torch.zeros(width, width))
        self.mlp_turn = nn.Parameter(torch.zeros(width, out))

    def forward(self, hidden_states: torch.Tensor, **shared: Any) -> torch.Tensor:
        hidden_states = hidden_states @ self.attention_turn + self.self_attn(self.norm(hidden_states), **shared)[0]
        return hidden_states @ self.mlp_turn + self.mlp(self.norm(hidden_states))


@dataclass(frozen=True, config=FORBID)
class Sliced(Structure):
    """Hidden states of `width` directions; behind the last layer they are all there again, in the model's own basis."""

    width: int = Field(gt=0)

    def apply(self, model: PreTrainedModel) -> None:
        layers, size = narrowable(model), model.config.hidden_size
        decoder = model.get_decoder()
        for number, layer in enumerate(layers):
            out = size if number == len(layers) - 1 else self.width
            for name in ("q_proj", "k_proj", "v_proj"):
                resize(layer.self_attn, name, columns=self.width)
            resize(layer.self_attn, "o_proj", rows=self.width)
            for name in ("gate_proj", "up_proj"):
                resize(layer.mlp, name, columns=self.width)
            resize(layer.mlp, "down_proj", rows=out)
            decoder.layers[number] = SlicedLayer(layer, size, model.config.rms_norm_eps, self.width, out)
        old = model.get_input_embeddings()
        if model.config.tie_word_embeddings:
            model.set_input_embeddings(SlicedEmbedding(old, self.width))
        else:
            model.set_input_embeddings(nn.Embedding(old.num_embeddings, self.width, old.padding_idx))

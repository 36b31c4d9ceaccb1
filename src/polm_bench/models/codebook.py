"""A layer with a memory: near a stored key its output is a stored value."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import PositiveInt
from pydantic.dataclasses import dataclass

from polm_bench.graph import FORBID
from polm_bench.models.structure import Structure

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn
    from transformers import PreTrainedModel


@dataclass(frozen=True, config=FORBID)
class Codebook(Structure):
    """The linear layer `path` looks its input up in `entries` keys first.

    Hartvigsen et al. 2023, GRACE (arXiv:2211.11031): value of the nearest key if it is within that key's radius, else the layer's own
    output. The authors look up the last token of the prompt only, which must be told to the layer; here every token is looked up, so that the
    layer needs no such hint and scoring, prefill and decoding agree.
    """

    path: str
    entries: PositiveInt

    def apply(self, model: PreTrainedModel) -> None:
        parent, _, name = self.path.rpartition(".")
        owner = model.get_submodule(parent)
        setattr(owner, name, with_memory(getattr(owner, name), self.entries))


def with_memory(layer: nn.Linear, entries: int) -> nn.Module:
    """`layer` with an empty memory of `entries` keys [N, in], values [N, out] and radii [N]; a radius below 0 is never reached."""
    import torch

    class Memory(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            like = {"dtype": layer.weight.dtype, "device": layer.weight.device}
            self.layer = layer
            self.keys = torch.nn.Parameter(torch.zeros(entries, layer.in_features, **like), requires_grad=False)
            self.values = torch.nn.Parameter(torch.zeros(entries, layer.out_features, **like))
            self.radii = torch.nn.Parameter(torch.full((entries,), -1.0, **like), requires_grad=False)

        def forward(self, inputs: Tensor) -> Tensor:
            distance, nearest = self.distances(inputs).min(-1)
            hit = distance <= self.radii[nearest]
            return torch.where(hit[..., None], self.values[nearest], self.layer(inputs))

        def distances(self, inputs: Tensor) -> Tensor:
            """[..., N], Euclidean."""
            flat: torch.Tensor = inputs.reshape(-1, inputs.shape[-1])
            exact = "donot_use_mm_for_euclid_dist"  # the fast way loses the small distances that count here
            return torch.cdist(flat, self.keys, compute_mode=exact).reshape(*inputs.shape[:-1], -1)

    return Memory()

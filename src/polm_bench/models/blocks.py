"""Low-rank blocks beside linear layers, of which a token takes one: that of the stored key nearest to it, if it is near enough."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from pydantic import PositiveInt
from pydantic.dataclasses import dataclass

from polm_bench.graph import FORBID
from polm_bench.models.structure import Structure

if TYPE_CHECKING:
    from torch import Tensor, nn
    from transformers import PreTrainedModel


@dataclass(frozen=True, config=FORBID)
class Blocks(Structure):
    """The linear layer `router` looks each token's input up in `entries` keys; the layers `targets` after it add the low-rank block that is found.

    Yu et al. 2024, MELO (arXiv:2312.11795): W x + B_j A_j x with j the block of the nearest key if it is within that key's radius, else W x. The
    authors look up the last token of the prompt and use its block for all tokens; here every token is looked up, as in `Codebook`.
    """

    router: str
    targets: tuple[str, ...]
    entries: PositiveInt
    blocks: PositiveInt
    rank: PositiveInt  # of one block

    def apply(self, model: PreTrainedModel) -> None:
        found = put(model, self.router, lambda layer: router(layer, self.entries))
        for path in self.targets:
            put(model, path, lambda layer: with_blocks(layer, found, self.blocks, self.rank))


def put(model: PreTrainedModel, path: str, make: object) -> nn.Module:
    """The module at `path` in what `make` puts round it."""
    parent, _, name = path.rpartition(".")
    owner = model.get_submodule(parent)
    made: nn.Module = make(getattr(owner, name))  # type: ignore[operator]
    setattr(owner, name, made)
    return made


def router(layer: nn.Linear, entries: int) -> nn.Module:
    """`layer` with keys [N, in], radii [N], below 0 never reached, and the number of each key's block [N]."""
    import torch

    class Router(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            like = {"dtype": layer.weight.dtype, "device": layer.weight.device}
            self.layer = layer
            self.keys = torch.nn.Parameter(torch.zeros(entries, layer.in_features, **like), requires_grad=False)
            self.radii = torch.nn.Parameter(torch.full((entries,), -1.0, **like), requires_grad=False)
            self.register_buffer("blocks", torch.zeros(entries, dtype=torch.long, device=layer.weight.device))
            self.chosen: Tensor | None = None  # [...], block of each token of this pass; -1: none

        def forward(self, inputs: Tensor) -> Tensor:
            exact = "donot_use_mm_for_euclid_dist"  # the fast way loses the small distances that count here
            flat = torch.cdist(inputs.flatten(0, -2), self.keys, compute_mode=exact)
            distance, nearest = flat.min(-1)
            found = torch.where(distance <= self.radii[nearest], self.blocks[nearest], -1)  # type: ignore[index]
            self.chosen = found.reshape(inputs.shape[:-1])
            said: Tensor = self.layer(inputs)
            return said

    return Router()


def with_blocks(layer: nn.Linear, found: nn.Module, blocks: int, rank: int) -> nn.Module:
    """`layer` with down [blocks * rank, in] and up [out, blocks * rank]; `found` knows which block a token takes."""
    import torch

    class WithBlocks(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            like = {"dtype": layer.weight.dtype, "device": layer.weight.device}
            self.layer = layer
            self.down = torch.nn.Parameter(torch.empty(blocks * rank, layer.in_features, **like))
            self.up = torch.nn.Parameter(torch.zeros(layer.out_features, blocks * rank, **like))
            torch.nn.init.kaiming_uniform_(self.down, a=math.sqrt(5))
            self.found = [found]  # in a list, so that the router is not a submodule of what it leads to

        def forward(self, inputs: Tensor) -> Tensor:
            own = torch.arange(blocks, device=inputs.device).repeat_interleave(rank)
            taken = (self.found[0].chosen[..., None] == own).to(inputs.dtype)  # [..., blocks * rank]
            said: Tensor = self.layer(inputs) + (inputs @ self.down.T * taken) @ self.up.T
            return said

    return WithBlocks()

"""Hidden states turned so that their last directions hardly matter, and these directions taken out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import Field
from pydantic.dataclasses import dataclass

from polm_bench.errors import BadOverride
from polm_bench.graph import FORBID
from polm_bench.stages.compression.base import Compressed, Compression, calibration_text
from polm_bench.stages.compression.layers import Call, first_calls

if TYPE_CHECKING:
    import torch
    from torch import nn
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from polm_bench.models.sliced import SlicedLayer


@dataclass(frozen=True, config=FORBID)
class DirectionSlicing(Compression):
    """Principal directions of the hidden states, of which the last ones are deleted, with the rows and columns that go with them.

    SliceGPT (Ashkboos et al. 2024, arXiv:2401.15024): a norm without weights says Q^T of what it said when its input is turned by Q (Equation 2), so
    each block may have a basis of its own, with Q_1^T Q_2 on the residual path. As in the authors' src/slicegpt/rotate.py the directions are those of
    the signals before the norms, of the model as it is sliced so far, and what enters the output layer keeps them all: there the basis is the model's
    own. Embeddings that are tied to the output layer stay as they are, with the first turn behind them.
    """

    stored: ClassVar[str] = "dense"
    computed: ClassVar[str] = "dense"

    sparsity: float = Field(ge=0, lt=1)  # share of the directions that is deleted; 0: they are only turned
    multiple: int = Field(gt=0)  # the number of those left is rounded down to a multiple
    damping: float = Field(gt=0)  # share of the mean diagonal of X X^T that is added to its diagonal

    def compress(
        self, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, rows: torch.Tensor | None, job: Any
    ) -> Compressed:
        import torch

        from polm_bench.models.narrow import narrowable
        from polm_bench.models.sliced import Sliced

        layers, size = narrowable(model), model.config.hidden_size
        width = int((1 - self.sparsity) * size) // self.multiple * self.multiple
        if width == 0:
            raise BadOverride(
                f"nothing is left of {size} directions; give a smaller method.sparsity or method.multiple"
            )
        calls = first_calls(model, calibration_text(rows))
        decoder = model.get_decoder()
        with torch.no_grad():
            basis = self._basis([call.hidden for call in calls], width)
            _slice_embeddings(model, basis)
            calls = [Call(_times(call.hidden, basis), call.shared) for call in calls]
            for number, layer in enumerate(layers):
                last = number + 1 == len(layers)
                decoder.layers[number], calls, basis = self._slice(
                    layer, calls, basis, size if last else width, model.config.rms_norm_eps
                )
                job.progress(number + 1, len(layers), "layers")
        return Compressed(model, Sliced(width))

    def _slice(
        self, layer: nn.Module, calls: Sequence[Call], basis: torch.Tensor, out: int, eps: float
    ) -> tuple[SlicedLayer, list[Call], torch.Tensor]:
        """The layer for hidden states in `basis` [D, W], its outputs, and the basis [D, out] that they are in."""
        import torch

        from polm_bench.models.sliced import RootMeanSquare, SlicedLayer

        (size, width), norm = basis.shape, RootMeanSquare(len(basis), eps)
        attention, mlp = layer.self_attn, layer.mlp
        for name in ("q_proj", "k_proj", "v_proj"):
            _turn(attention, name, columns=layer.input_layernorm.weight.double()[:, None] * basis)
        whole = [_times(call.hidden, basis.T) + attention(norm(call.hidden), **call.shared)[0] for call in calls]
        between = self._basis(whole, width)
        _turn(attention, "o_proj", rows=between)
        for name in ("gate_proj", "up_proj"):
            _turn(mlp, name, columns=layer.post_attention_layernorm.weight.double()[:, None] * between)
        sliced = [_times(hidden, between) for hidden in whole]
        whole = [_times(hidden, between.T) + mlp(norm(hidden)) for hidden in sliced]
        after = torch.eye(size).to(basis) if out == size else self._basis(whole, out)
        _turn(mlp, "down_proj", rows=after)
        made = SlicedLayer(layer, size, eps, width, out)
        made.attention_turn.data = (basis.T @ between).to(whole[0])
        made.mlp_turn.data = (between.T @ after).to(whole[0])
        return (
            made,
            [Call(_times(hidden, after), call.shared) for hidden, call in zip(whole, calls, strict=True)],
            after,
        )

    def _basis(self, signals: Sequence[torch.Tensor], width: int) -> torch.Tensor:
        """The first principal directions [D, width] of signals [B, T, D]; double precision."""
        from polm_bench.objectives.sparsity import principal

        flat = (signal.flatten(0, 1).double() for signal in signals)
        return principal(sum((x.T @ x for x in flat), start=0.0), self.damping)[:, :width]


def _times(hidden: torch.Tensor, basis: torch.Tensor) -> torch.Tensor:
    return hidden @ basis.to(hidden.dtype)


def _turn(parent: nn.Module, name: str, rows: torch.Tensor | None = None, columns: torch.Tensor | None = None) -> None:
    """Put rows^T W columns in the place of a linear weight W [M, N], with rows [M, M'] and columns [N, N']."""
    from torch import nn

    old = getattr(parent, name)
    weight, bias = old.weight.double(), old.bias
    if columns is not None:
        weight = weight @ columns
    if rows is not None:
        weight, bias = rows.T @ weight, None if bias is None else (rows.T @ bias.double()).to(bias)
    new = nn.Linear(weight.shape[1], weight.shape[0], bias=bias is not None)
    new.weight = nn.Parameter(weight.to(old.weight.dtype).contiguous())
    if bias is not None:
        new.bias = nn.Parameter(bias)
    setattr(parent, name, new)


def _slice_embeddings(model: PreTrainedModel, basis: torch.Tensor) -> None:
    """Embeddings in `basis` [D, W]."""
    from torch import nn

    from polm_bench.models.sliced import SlicedEmbedding

    old = model.get_input_embeddings()
    if model.config.tie_word_embeddings:
        new = SlicedEmbedding(old, basis.shape[1])
        new.turn.data = basis.to(old.weight)
    else:
        new = nn.Embedding.from_pretrained((old.weight.double() @ basis).to(old.weight), False, old.padding_idx)
    model.set_input_embeddings(new)

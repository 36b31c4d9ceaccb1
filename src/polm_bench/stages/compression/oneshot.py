"""Quantisation and pruning by llmcompressor's modifiers; quantised folders are in the compressed-tensors format, which vLLM serves as it is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import Field
from pydantic.dataclasses import dataclass

from polm_bench.errors import BadOverride
from polm_bench.graph import FORBID
from polm_bench.stages.compression.base import Compressed, Compression, calibration_text
from polm_bench.stages.compression.layers import decoder_layers, first_calls, linears, named_linears, sample, watch
from polm_bench.stages.compression.sparse import check_sparsity

if TYPE_CHECKING:
    import torch
    from torch import nn
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from polm_bench.stages.compression.layers import Seen

Modifiers = tuple[Mapping[str, Mapping[str, Any]], ...]
"""llmcompressor's modifiers in turn: class name -> arguments."""

PLACES = {
    "AutoRoundModifier": "autoround",
    "GPTQModifier": "gptq",
    "QuantizationModifier": "quantization",
    "SmoothQuantModifier": "transform.smoothquant",
    "SparseGPTModifier": "pruning.sparsegpt",
    "SpinQuantModifier": "transform.spinquant",
    "WandaPruningModifier": "pruning.wanda",
}
"""Modules of llmcompressor.modifiers; others were seen to do nothing in one shot (magnitude) or to give folders that do not load (QuIP)."""


@dataclass(frozen=True, config=FORBID)
class QuantizeOneShot(Compression):
    """Weights, and activations where a modifier says so, on a grid of few values."""

    forward_passes: ClassVar[int] = 2  # llmcompressor goes through each layer to look, and again as it then is
    needs: ClassVar[Mapping[str, str]] = {"llmcompressor": "compress"}
    stored: ClassVar[str] = "packed"
    computed: ClassVar[str] = "dequantised"  # compressed-tensors unpacks at the first call on a CPU

    modifiers: Modifiers
    bits: float = Field(
        gt=0, le=16
    )  # of a quantised weight as it lies on disk, scales left out; 3 bits are packed ten to 32

    def compress(
        self, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, rows: torch.Tensor | None, job: Any
    ) -> Compressed:
        one_shot(model, tokenizer, rows, self.modifiers)
        check_bits(model, self.bits)
        return Compressed(model)


@dataclass(frozen=True, config=FORBID)
class ScaledRounding(QuantizeOneShot):
    """Weights scaled and clipped so that rounding costs the output least, then rounded.

    AWQ (Lin et al. 2023, arXiv:2306.00978): `objectives/rounding.py`. The factors are folded into what comes before: a norm, or the rows of a projection.
    Every layer is looked at as it was in the whole model (the authors' awq/quantize/pre_quant.py). llmcompressor's own AWQ takes some hundred times as
    long on a CPU.
    """

    forward_passes: ClassVar[int] = 1
    group: int = Field(gt=0)  # columns that share a scale
    steps: int = Field(gt=0)  # of the search for alpha and for the clipping range
    clip: float = Field(ge=0, lt=1)  # the largest share that clipping may take off a group's range; 0: no clipping

    def compress(
        self, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, rows: torch.Tensor | None, job: Any
    ) -> Compressed:
        import torch

        calls = first_calls(model, calibration_text(rows))
        layers = decoder_layers(model)
        with torch.no_grad():
            for number, layer in enumerate(layers):
                seen, calls = watch(layer, calls)
                self._scale(layer, seen)
                if self.clip:
                    self._clip(layer, seen)
                job.progress(number + 1, len(layers), "layers")
        return super().compress(model, tokenizer, None, job)

    def _scale(self, layer: nn.Module, seen: Mapping[str, Seen]) -> None:
        from polm_bench.objectives.rounding import awq_scale

        modules = linears(layer)
        for before, names in smoothed_by(layer):
            stats = seen[names[0]]
            mean = stats.absolute / stats.tokens
            weights = [modules[name].weight.double() for name in names]
            scale = awq_scale(weights, stats.gram, mean, int(self.bits), self.group, self.steps)
            rescale(before, [modules[name] for name in names], scale)
            for name in names:  # what the modules see from now on
                seen[name].gram.div_(scale[:, None] * scale)

    def _clip(self, layer: nn.Module, seen: Mapping[str, Seen]) -> None:
        from polm_bench.objectives.rounding import awq_clipped

        for name, module in linears(layer).items():
            if name.endswith(("q_proj", "k_proj")):  # left out by the authors: their product is too sensitive
                continue
            clipped = awq_clipped(
                module.weight.double(), seen[name].gram, int(self.bits), self.group, self.steps, self.clip
            )
            module.weight.copy_(clipped)


@dataclass(frozen=True, config=FORBID)
class RangedRounding(QuantizeOneShot):
    """Channels of the inputs that go beyond a range scaled into it, then inputs and weights rounded.

    OS+ (Wei et al. 2023, arXiv:2304.09145): `objectives/rounding.py`. As in the authors' migration_llama.py channels are scaled and not shifted, for the
    norms of such a model have no bias that could take a shift up; what comes between the values and the output projection is left alone.
    """

    forward_passes: ClassVar[int] = 1
    tokens: int = Field(gt=0)  # of the calibration text, on which the range is searched
    steps: int = Field(gt=0)  # of the search
    least: float = Field(gt=0)  # the smallest range that is tried

    def compress(
        self, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, rows: torch.Tensor | None, job: Any
    ) -> Compressed:
        import torch

        from polm_bench.objectives.rounding import range_scale

        calls = first_calls(model, calibration_text(rows))
        layers = decoder_layers(model)
        with torch.no_grad():
            for number, layer in enumerate(layers):
                seen, calls = sample(layer, calls, self.tokens)
                modules = linears(layer)
                for before, names in smoothed_by(layer):
                    if names == ["self_attn.o_proj"]:
                        continue
                    after = [modules[name] for name in names]
                    weight = torch.cat([module.weight for module in after])
                    scale = range_scale(seen[names[0]], weight, int(self.bits), self.steps, self.least)
                    rescale(before, after, scale)
                job.progress(number + 1, len(layers), "layers")
        return super().compress(model, tokenizer, None, job)


@dataclass(frozen=True, config=FORBID)
class PruneOneShot(Compression):
    """Weights set to zero; stored as those that are left and a bit mask."""

    forward_passes: ClassVar[int] = 2  # as for QuantizeOneShot
    needs: ClassVar[Mapping[str, str]] = {"llmcompressor": "compress"}
    stored: ClassVar[str] = "bit mask and values"
    computed: ClassVar[str] = "dense"

    modifiers: Modifiers
    sparsity: float = Field(gt=0, lt=1)
    pattern: tuple[int, int] | None = None  # (N, M): N of each M weights in a row are zero

    def compress(
        self, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, rows: torch.Tensor | None, job: Any
    ) -> Compressed:
        from polm_bench.models.packed import Sparse

        structure = "0:0" if self.pattern is None else f"{self.pattern[0]}:{self.pattern[1]}"
        asked = {"sparsity": self.sparsity, "mask_structure": structure, "targets": [r"re:.*layers\.\d+\..*proj$"]}
        modifiers = [{name: {**asked, **given} for name, given in entry.items()} for entry in self.modifiers]
        one_shot(model, tokenizer, rows, modifiers)
        check_sparsity(model, self.sparsity, self.pattern)
        return Compressed(model, Sparse.store(model, list(named_linears(model))))


def one_shot(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    rows: torch.Tensor | None,
    modifiers: Sequence[Mapping[str, Mapping[str, Any]]],
) -> None:
    """Run modifiers over `model` in place, with the token rows [N, T] as calibration text."""
    import datasets
    import torch
    from llmcompressor import oneshot
    from loguru import logger

    logger.disable("llmcompressor")
    logger.disable("compressed_tensors")
    made = [_modifier(name)(**given) for entry in modifiers for name, given in entry.items()]
    if rows is None:  # a method that looks at no text is still asked for a data set
        rows = torch.full((1, 8), tokenizer.eos_token_id)
    table = datasets.Dataset.from_list([{"input_ids": row, "attention_mask": [1] * len(row)} for row in rows.tolist()])
    oneshot(
        model=model,
        recipe=made,
        tokenizer=tokenizer,
        dataset=table,
        num_calibration_samples=len(rows),
        max_seq_length=rows.shape[1],
        shuffle_calibration_samples=False,
        batch_size=min(16, len(rows)),
        log_dir=None,
    )


def _modifier(name: str) -> Any:
    from importlib import import_module

    if name not in PLACES:
        raise BadOverride(f"there is no modifier '{name}' here; there is: {', '.join(sorted(PLACES))}")
    return getattr(import_module(f"llmcompressor.modifiers.{PLACES[name]}"), name)


def check_bits(model: PreTrainedModel, bits: float) -> None:
    """Raises ArithmeticError where a weight is not to be stored in the bits that were asked for."""
    for name, part in named_linears(model).items():
        scheme = getattr(part, "quantization_scheme", None)
        got = None if scheme is None or scheme.weights is None else scheme.weights.num_bits
        if got != bits:
            raise ArithmeticError(f"{name} has {got or 'no'} bits after quantisation, {bits:g} were asked for")


def smoothed_by(layer: nn.Module) -> list[tuple[nn.Module, list[str]]]:
    """What can take up factors on the inputs of linear modules, with these modules' names, for a layer built as Llama's are.

    The values' projection can only for the output's where each head has a value of its own.
    """
    attention, mlp = layer.self_attn, layer.mlp
    pairs: list[tuple[nn.Module, list[str]]] = [
        (layer.input_layernorm, ["self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"]),
        (layer.post_attention_layernorm, ["mlp.gate_proj", "mlp.up_proj"]),
        (mlp.up_proj, ["mlp.down_proj"]),
    ]
    if attention.v_proj.out_features == attention.o_proj.in_features:
        pairs.insert(1, (attention.v_proj, ["self_attn.o_proj"]))
    return pairs


def rescale(before: nn.Module, after: Sequence[nn.Linear], scale: torch.Tensor) -> None:
    """Divide what `before` gives by `scale` [N] and multiply what `after` does with it: the model says what it said."""
    given = scale.to(before.weight.dtype)
    before.weight.div_(given if before.weight.dim() == 1 else given[:, None])
    if getattr(before, "bias", None) is not None:
        before.bias.div_(given)
    for module in after:
        module.weight.mul_(given)

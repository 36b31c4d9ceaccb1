"""Floating-point operations, counted by running the model's shapes rather than guessed from its size."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel

    Counted = tuple[PreTrainedModel, Callable[[int], dict[str, Any]]]
    """A model to be run, and its inputs for a length."""

    Shape = tuple[object, ...]

METHOD = "torch FlopCounterMode on the meta device at three lengths, interpolated (exact: a transformer's count is quadratic in length)"
LENGTHS = (16, 32, 64)
PLACES = ("name_or_path", "_name_or_path")


@dataclass(frozen=True)
class FlopCount:
    """FLOPs of one sequence of T tokens, as coefficients of 1, T and T squared; matrix products only, a multiply-add counts 2."""

    forward: tuple[float, float, float]
    backward: tuple[float, float, float]

    def score(self, length: float) -> float:
        """FLOPs of one forward pass."""
        return _value(self.forward, length)

    def train(self, length: float) -> float:
        """FLOPs of one forward and backward pass."""
        return _value(self.forward, length) + _value(self.backward, length)

    def generate(self, prompt: float, new: float) -> float:
        """FLOPs of reading `prompt` tokens and generating `new` with a cache: what a forward pass over all of them takes."""
        return _value(self.forward, prompt + new)


def count_flops(model: PreTrainedModel) -> FlopCount:
    """Counts for `model`, or for its body, as it stands: adapters are counted, and weights without gradient take no weight-gradient products.

    Attention is counted in full, without the causal half left out. What an adapter or a quantised layer computes from its weights alone (such as
    unpacking them) is counted once a sequence. A model whose adapter or quantised weights must be looked at is run as it stands, not on the meta device.
    """
    if _looks_at_values(model):
        return _count(_in_place(model))
    shape = _shape(model)
    if shape not in _COUNTS:
        _COUNTS[shape] = _count(_as_shapes(model))
    return _COUNTS[shape]


_COUNTS: dict[Shape, FlopCount] = {}
"""By shape: most stages of a process see the same few models, and a count takes most of a second."""


def _shape(model: PreTrainedModel) -> Shape:
    """All that a count on the meta device can depend on: modules and their plain attributes, sizes of tensors, and which of these are trained."""
    modules = ((name, type(module), repr(_plain(vars(module)))) for name, module in model.named_modules())
    tensors = (
        (name, tuple(tensor.shape), tensor.dtype, tensor.requires_grad)
        for name, tensor in [*model.named_parameters(), *model.named_buffers()]
    )
    return (*modules, *tensors, repr(_plain(model.config.to_dict(), dict, list)))


def _plain(attributes: Mapping[str, Any], *more: type) -> dict[str, Any]:
    """Those that are numbers and names, but for the folder that a model was loaded from."""
    kept = (bool, int, float, str, tuple, *more)
    return {name: value for name, value in attributes.items() if isinstance(value, kept) and name not in PLACES}


def _count(prepared: AbstractContextManager[Counted]) -> FlopCount:
    from torch.utils.flop_counter import FlopCounterMode

    forward, backward = [], []
    with prepared as (shadow, inputs):
        for length in LENGTHS:
            counter = FlopCounterMode(display=False)
            with counter:
                made = shadow(**inputs(length), use_cache=False)[0]  # logits, or a body's hidden states
            forward.append(counter.get_total_flops())
            counter = FlopCounterMode(display=False)
            if made.requires_grad:
                with counter:
                    made.sum().backward()
            backward.append(counter.get_total_flops())
    return FlopCount(_fit(forward), _fit(backward))


def _looks_at_values(model: PreTrainedModel) -> bool:
    """Whether the forward pass can't do with shapes: adapters with sparse or chosen parts, prompts before the mask, packed weights."""
    if any(_by_bitsandbytes(module) for module in model.modules()):
        return False
    return hasattr(model, "peft_config") or getattr(model, "is_quantized", False)


def _by_bitsandbytes(module: torch.nn.Module) -> bool:
    """Whether it is a linear layer of bitsandbytes, whose kernels no counter knows."""
    return type(module).__module__.startswith("bitsandbytes.") and hasattr(module, "in_features")


@contextmanager
def _as_shapes(model: PreTrainedModel) -> Iterator[Counted]:
    import torch

    def inputs(length: int) -> dict[str, torch.Tensor]:
        mask = torch.zeros((1, 1, length, length), device="meta")  # given whole, so that no value of it is looked at
        return {"input_ids": torch.zeros((1, length), dtype=torch.long, device="meta"), "attention_mask": mask}

    yield _on_meta(model), inputs


@contextmanager
def _in_place(model: PreTrainedModel) -> Iterator[Counted]:
    """The model itself, left as it was: its random numbers, gradients and attention."""
    import torch

    def inputs(length: int) -> dict[str, torch.Tensor]:
        ids = torch.zeros((1, length), dtype=torch.long, device=model.device)
        return {"input_ids": ids, "attention_mask": torch.ones_like(ids)}

    base = model.get_base_model() if hasattr(model, "get_base_model") else model
    attention = base.config._attn_implementation
    base.set_attn_implementation("eager")
    try:
        with torch.random.fork_rng():
            yield model, inputs
    finally:
        base.set_attn_implementation(attention)
        model.zero_grad()


def _on_meta(model: PreTrainedModel) -> PreTrainedModel:
    """Copy of the model's structure without its weights."""
    import copy

    import torch

    def strip(tensor: torch.Tensor) -> torch.Tensor:
        return torch.empty_like(tensor, device="meta")

    memo: dict[int, object] = {}
    for module in model.modules():
        if _by_bitsandbytes(module):  # the products it stands for
            dense = torch.nn.Linear(module.in_features, module.out_features, module.bias is not None, device="meta")
            memo[id(module)] = dense.requires_grad_(False)
    for tensor in [*model.parameters(), *model.buffers()]:
        bare = strip(tensor.data)
        if isinstance(tensor, torch.nn.Parameter):
            bare = torch.nn.Parameter(bare, requires_grad=tensor.requires_grad)
        memo[id(tensor)] = bare
    shadow = copy.deepcopy(model, memo)
    base = shadow.get_base_model() if hasattr(shadow, "get_base_model") else shadow
    base.set_attn_implementation("eager")
    return shadow


def _fit(counts: Sequence[int]) -> tuple[float, float, float]:
    import numpy as np

    c, b, a = np.linalg.solve(
        np.vander(np.array(LENGTHS, dtype=float), 3, increasing=True), np.array(counts, dtype=float)
    )
    return float(round(c)), float(round(b)), float(round(a))


def _value(coefficients: tuple[float, float, float], length: float) -> float:
    return coefficients[0] + coefficients[1] * length + coefficients[2] * length * length

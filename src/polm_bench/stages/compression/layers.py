"""Decoder layers one after the other: their inputs on the calibration text, and what their linear modules see of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from polm_bench.errors import BadModel

if TYPE_CHECKING:
    import torch
    from torch import nn
    from transformers import PreTrainedModel

BATCH = 16
"""Sequences in one forward pass of a layer."""


class Call(NamedTuple):
    """One call of a decoder layer: hidden states [B, T, D], and the arguments that all layers share."""

    hidden: torch.Tensor
    shared: Mapping[str, Any]


class Seen(NamedTuple):
    """What a linear module saw of M tokens x [M, N], in double precision."""

    tokens: int
    gram: torch.Tensor  # [N, N] sum of x x^T
    total: torch.Tensor  # [N] sum of x
    absolute: torch.Tensor  # [N] sum of |x|


class _StopHereError(Exception):
    """Raised in the first decoder layer: its inputs are known."""


def decoder_layers(model: PreTrainedModel) -> Sequence[nn.Module]:
    """Raises BadModel for an architecture whose decoder has no list of layers."""
    layers = getattr(model.get_decoder(), "layers", None)
    if layers is None:
        raise BadModel(
            f"{type(model).__name__} has no list of decoder layers, so it can't be compressed layer by layer"
        )
    return layers


def linears(module: nn.Module) -> dict[str, nn.Linear]:
    """Linear modules inside `module`, by name."""
    from torch import nn

    return {name: part for name, part in module.named_modules() if isinstance(part, nn.Linear)}


def named_linears(model: PreTrainedModel) -> dict[str, nn.Linear]:
    """Linear modules of the decoder layers by their names in the model; embeddings and output head are left as they are."""
    inside = {id(part) for layer in decoder_layers(model) for part in linears(layer).values()}
    return {name: part for name, part in linears(model).items() if id(part) in inside}


def first_calls(model: PreTrainedModel, rows: torch.Tensor) -> list[Call]:
    """Inputs of the first decoder layer for token rows [N, T]."""
    import torch

    calls: list[Call] = []

    def stop(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        shared = dict(kwargs)
        hidden = args[0] if args else shared.pop("hidden_states")
        calls.append(Call(hidden, shared))
        raise _StopHereError

    handle = decoder_layers(model)[0].register_forward_pre_hook(stop, with_kwargs=True)
    with torch.no_grad():
        for batch in rows.to(model.device).split(BATCH):
            try:
                model(input_ids=batch, use_cache=False)
            except _StopHereError:
                continue
    handle.remove()
    return calls


def forward(layer: nn.Module, calls: Sequence[Call]) -> list[Call]:
    """Inputs of the next layer."""
    import torch

    found = []
    with torch.no_grad():
        for call in calls:
            out = layer(call.hidden, **call.shared)
            found.append(Call(out[0] if isinstance(out, tuple) else out, call.shared))
    return found


def watch(layer: nn.Module, calls: Sequence[Call]) -> tuple[dict[str, Seen], list[Call]]:
    """What each linear module of `layer` sees, and the inputs of the next layer."""
    sums: dict[str, list[Any]] = {}

    def add(name: str, x: torch.Tensor) -> None:
        x = x.double()
        new = [len(x), x.T @ x, x.sum(0), x.abs().sum(0)]
        sums[name] = [a + b for a, b in zip(sums[name], new, strict=True)] if name in sums else new

    following = _overhear(layer, calls, add)
    return {name: Seen(*values) for name, values in sums.items()}, following


def sample(layer: nn.Module, calls: Sequence[Call], tokens: int) -> tuple[dict[str, torch.Tensor], list[Call]]:
    """What each linear module of `layer` sees of the first `tokens` tokens, [M, N], and the inputs of the next layer."""
    import torch

    found: dict[str, torch.Tensor] = {}

    def keep(name: str, x: torch.Tensor) -> None:
        have = found.get(name, x[:0])
        found[name] = torch.cat([have, x[: tokens - len(have)]])

    following = _overhear(layer, calls, keep)
    return found, following


def _overhear(layer: nn.Module, calls: Sequence[Call], note: Callable[[str, torch.Tensor], None]) -> list[Call]:
    """Inputs of the next layer; `note` is told what each linear module of `layer` sees of every call, [M, N]."""

    def hook(name: str) -> Any:
        def tell(module: nn.Linear, args: tuple[torch.Tensor, ...], out: torch.Tensor) -> None:
            note(name, args[0].detach().flatten(0, -2))

        return tell

    handles = [part.register_forward_hook(hook(name)) for name, part in linears(layer).items()]
    following = forward(layer, calls)
    for handle in handles:
        handle.remove()
    return following


def squared_gradients(model: PreTrainedModel, rows: torch.Tensor) -> dict[str, torch.Tensor]:
    """Mean over the sequences of the squared gradient of the language-model loss (nats per token), for each linear weight: the empirical Fisher."""
    import torch

    modules = named_linears(model)
    found = {name: torch.zeros_like(part.weight) for name, part in modules.items()}
    for row in rows.to(model.device):
        model.zero_grad()
        model(input_ids=row[None], labels=row[None], use_cache=False).loss.backward()
        for name, part in modules.items():
            found[name] += part.weight.grad**2 / len(rows)
    model.zero_grad()
    return found


def each_layer(model: PreTrainedModel, rows: torch.Tensor) -> Iterator[tuple[int, nn.Module, dict[str, Seen]]]:
    """Number, layer and what its linear modules see once the layers before it are as the caller left them.

    The caller changes a layer before asking for the next one.
    """
    calls = first_calls(model, rows)
    for number, layer in enumerate(decoder_layers(model)):
        seen, _ = watch(layer, calls)
        yield number, layer, seen
        calls = forward(layer, calls)

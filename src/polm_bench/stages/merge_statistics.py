"""What merging rules must know of a model beside its weights."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import PreTrainedModel

Progress = Callable[[float, float, str], None]


def beginnings(rows: Sequence[Sequence[int]]) -> list[Sequence[int]]:
    """Each row up to a place drawn at random; at least its first token, never its last. The draw comes from torch's global generator."""
    import torch

    return [row[: int(torch.randint(1, len(row), ()))] for row in rows]


def fisher_diagonal(model: PreTrainedModel, rows: Sequence[Sequence[int]], progress: Progress) -> dict[str, Tensor]:
    """Mean over rows of the squared gradient of the next token's log-prob, by name of the weight.

    The token is drawn from the model's distribution, so that with rows cut by `beginnings` it is an unbiased draw of the expectation, at one
    backward pass a row. Draws come from torch's global generator, which the caller seeds.
    """
    import torch

    found = {name: torch.zeros_like(weight) for name, weight in model.named_parameters()}
    for number, row in enumerate(rows):
        ids = torch.tensor([row], device=model.device)
        logps = model(input_ids=ids).logits[0, -1].float().log_softmax(-1)
        token = torch.multinomial(logps.detach().exp(), 1)
        model.zero_grad(set_to_none=True)
        logps[token].sum().backward()
        for name, weight in model.named_parameters():
            if weight.grad is not None:
                found[name] += weight.grad.square() / len(rows)
        progress(number + 1, len(rows), "rows")
    model.zero_grad(set_to_none=True)
    return found


def input_grams(model: PreTrainedModel, rows: Sequence[Sequence[int]], progress: Progress) -> dict[str, Tensor]:
    """X^T X [in, in] over all tokens, by name of the linear layer's weight; tied output layers are left out."""
    import torch

    named = dict(model.named_parameters())
    found: dict[str, Tensor] = {}
    handles = []

    def watch(name: str) -> Callable[..., None]:
        def add(_layer: object, inputs: tuple[Tensor, ...]) -> None:
            x = inputs[0].detach().reshape(-1, inputs[0].shape[-1]).float()
            found[name] = found.get(name, 0) + x.T @ x  # type: ignore[operator]

        return add

    for path, layer in model.named_modules():
        if isinstance(layer, torch.nn.Linear) and named.get(f"{path}.weight") is layer.weight:
            handles.append(layer.register_forward_pre_hook(watch(f"{path}.weight")))
    try:
        with torch.no_grad():
            for number, row in enumerate(rows):
                model(input_ids=torch.tensor([row], device=model.device))
                progress(number + 1, len(rows), "rows")
    finally:
        for handle in handles:
            handle.remove()
    return found

"""Parameter-efficient adapters, by peft."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from pydantic.dataclasses import dataclass

from polm_bench.errors import BadOverride
from polm_bench.graph import FORBID

if TYPE_CHECKING:
    from pathlib import Path

    from transformers import PreTrainedModel


@dataclass(frozen=True, config=FORBID)
class Adapter:
    """A peft configuration by its class name, with the numbers that differ from peft's defaults."""

    kind: str  # a configuration class of peft, e.g. LoraConfig
    config: Mapping[str, Any]

    def attach(self, model: PreTrainedModel) -> PreTrainedModel:
        """`model` with the adapter's fresh weights; only these have gradients."""
        import peft

        cls = getattr(peft, self.kind, None)
        if not (isinstance(cls, type) and issubclass(cls, peft.PeftConfig)):
            raise BadOverride(
                f"peft has no configuration class '{self.kind}'; it has LoraConfig, IA3Config, VeraConfig and others"
            )
        wrapped = peft.get_peft_model(model, cls(task_type="CAUSAL_LM", **self.config))
        if not any(weight.requires_grad for weight in wrapped.parameters()):
            raise BadOverride(f"{self.kind} with {dict(self.config)} trains no weight of this model")
        return wrapped


def fold(base: PreTrainedModel, folder: Path) -> PreTrainedModel:
    """`base` with the adapter of `folder` folded into its weights.

    Raises ArithmeticError where folding silently loses the adapter or changes what the model says (as for tied or quantised weights).
    """
    import torch
    from peft import PeftModel

    ids = torch.arange(1, 33, device=base.device)[None] % base.config.vocab_size
    with torch.no_grad():
        before = base(input_ids=ids).logits
        wrapped = PeftModel.from_pretrained(base, folder)
        adapted = wrapped(input_ids=ids).logits
        folded = wrapped.merge_and_unload()
        after = folded(input_ids=ids).logits
    scale = adapted.abs().max()
    if not torch.allclose(after, adapted, atol=float(1e-4 * scale), rtol=1e-4):
        raise ArithmeticError(
            f"folding the adapter changed the logits by {float((after - adapted).abs().max()):.3g}; serve it unfolded"
        )
    if not torch.equal(adapted, before) and torch.equal(after, before):
        raise ArithmeticError("folding the adapter lost it: the folded model is the base")
    return folded

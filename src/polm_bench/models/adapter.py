"""Parameter-efficient adapters, by peft."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import Field
from pydantic.dataclasses import dataclass

from polm_bench.errors import BadBudget, BadOverride
from polm_bench.graph import FORBID
from polm_bench.models.tuning import Training, Tuning

if TYPE_CHECKING:
    from pathlib import Path

    import torch
    from transformers import PreTrainedModel

UNFOLDABLE = frozenset(
    {
        "AdaptionPromptConfig",
        "CPTConfig",
        "CartridgeConfig",
        "MultitaskPromptTuningConfig",
        "PrefixTuningConfig",
        "PromptEncoderConfig",
        "PromptTuningConfig",
    }
)
"""Configuration classes of peft whose model has no `merge_and_unload`: what they train is no change of a weight."""


@dataclass(frozen=True, config=FORBID)
class Adapter(Tuning):
    """A peft configuration by its class name, with the numbers that differ from peft's defaults."""

    writes: ClassVar[str] = "adapter"

    kind: str  # a configuration class of peft, e.g. LoraConfig
    config: Mapping[str, Any]
    freeze: tuple[str, ...] = ()  # parts of names of adapter weights that stay as they start
    rates: Mapping[str, float] = dataclasses.field(default_factory=dict)
    """Part of a name -> factor on the learning rate of the adapter weights that have it."""

    @property
    def foldable(self) -> bool:
        """Whether peft can add it to the base's weights."""
        return self.kind not in UNFOLDABLE

    def attach(self, model: PreTrainedModel) -> PreTrainedModel:
        """`model` with the adapter's fresh weights; only these have gradients."""
        import peft

        cls = getattr(peft, self.kind, None)
        if not (isinstance(cls, type) and issubclass(cls, peft.PeftConfig)):
            raise BadOverride(
                f"peft has no configuration class '{self.kind}'; it has LoraConfig, IA3Config, VeraConfig and others"
            )
        wrapped = peft.get_peft_model(model, cls(task_type="CAUSAL_LM", **self._numbers()))
        for name, weight in wrapped.named_parameters():
            if any(part in name for part in self.freeze):
                weight.requires_grad_(False)
        if not any(weight.requires_grad for weight in wrapped.parameters()):
            raise BadOverride(f"{self.kind} with {dict(self.config)} trains no weight of this model")
        return wrapped

    def warm(self, model: Any, folder: Path) -> None:
        from peft import set_peft_model_state_dict
        from safetensors.torch import load_file

        set_peft_model_state_dict(model, load_file(folder / "adapter_model.safetensors"))

    def rate(self, name: str) -> float:
        return next((factor for part, factor in self.rates.items() if part in name), 1.0)

    def _numbers(self) -> dict[str, Any]:
        return dict(self.config)


@dataclass(frozen=True, config=FORBID)
class AdaLora(Adapter):
    """LoRA in the form P Lambda Q whose ranks are given to the matrices that need them, while training goes on.

    Zhang et al. 2023 (arXiv:2303.10512). The budget of ranks, Section 3.3 and Appendix A: b0 up to step t_i, then (cubic) down to bT at step
    T - t_f, then bT. A triplet's importance: smoothed sensitivity times uncertainty (QingruZhang/AdaLoRA, loralib/loralib/adalora.py,
    calculate_score). peft has the maths but neither calls it nor knows the run.
    """

    warmup: float = Field(default=0.1, ge=0, lt=1)  # t_i, share of the steps before the first rank is taken
    final: float = Field(default=0.3, gt=0, lt=1)  # t_f, share of the steps after the last one is
    every: int = Field(default=1, gt=0)  # Delta_T, steps between two allocations

    def _numbers(self) -> dict[str, Any]:
        return {**self.config, "deltaT": self.every, "total_step": 1_000_000_000}  # `begin` knows the steps

    def begin(self, model: Any, run: Training) -> None:
        """Fit the budget's schedule to the run. Raises BadBudget for one in seconds: its number of steps is not known."""
        if run.timed:
            raise BadBudget(
                "AdaLoRA plans its ranks over the steps of the run, which a budget in seconds does not tell; give steps or tokens"
            )
        config = model.peft_config["default"]
        config.total_step = run.steps
        config.tfinal = min(max(1, round(self.final * run.steps)), run.steps - 1)
        config.tinit = min(round(self.warmup * run.steps), run.steps - config.tfinal - 1)
        # peft adds the orthogonality term to each micro-batch's loss, and these are summed where the loss is per token
        config.orth_reg_weight /= run.accumulation

    def after_step(self, model: Any, step: int) -> None:
        model.base_model.update_and_allocate(step)

    def state(self, model: Any) -> dict[str, torch.Tensor]:
        import torch

        allocator = model.base_model.rankallocator
        parts = {"ipt": allocator.ipt, "exp_avg_ipt": allocator.exp_avg_ipt, "exp_avg_unc": allocator.exp_avg_unc}
        kept = {f"{part}/{name}": value for part, values in parts.items() for name, value in values.items()}
        pattern = model.peft_config["default"].rank_pattern or {}
        ranks = {f"rank_pattern/{name}": torch.tensor(used) for name, used in pattern.items()}
        return {**super().state(model), **kept, **ranks}

    def restore(self, model: Any, state: Mapping[str, torch.Tensor]) -> None:
        super().restore(model, state)
        allocator = model.base_model.rankallocator
        pattern: dict[str, list[bool]] = {}
        for name, value in state.items():
            part, _, inner = name.partition("/")
            if part == "rank_pattern":
                pattern[inner] = value.tolist()
            elif inner:
                getattr(allocator, part)[inner] = value.clone()
        model.peft_config["default"].rank_pattern = pattern or None


def fold(base: PreTrainedModel, folder: Path) -> PreTrainedModel:
    """`base` with the adapter of `folder` folded into its weights.

    Raises ArithmeticError where folding silently loses the adapter or changes what the model says (as for tied or quantised weights).
    """
    import torch
    from peft import PeftModel

    ids = torch.arange(1, 33, device=base.device)[None] % base.config.vocab_size
    with torch.no_grad():
        before = base(input_ids=ids).logits
        wrapped = PeftModel.from_pretrained(base, folder).eval()
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


def serve(base: PreTrainedModel, folder: Path) -> PreTrainedModel:
    """`base` with the adapter of `folder` beside its weights, ready to answer."""
    from peft import PeftModel

    wrapped = PeftModel.from_pretrained(base, folder)
    if wrapped.active_peft_config.is_prompt_learning:
        wrapped.get_base_model().base_model.register_forward_pre_hook(_place_by_mask, with_kwargs=True)
    return wrapped


def _place_by_mask(
    module: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Count positions over the real tokens only.

    peft drops `position_ids` and puts virtual tokens before the padding of a left-padded batch, so that an answer would depend on how long the
    other prompts of its batch are: what lies between the virtual tokens and the prompt would count as distance.
    """
    mask = kwargs.get("attention_mask")
    if mask is not None and mask.dim() == 2:
        given = kwargs.get("input_ids")
        given = kwargs["inputs_embeds"] if given is None else given
        kwargs["position_ids"] = (mask.long().cumsum(1) - 1).clamp(min=0)[:, -given.shape[1] :]
    return args, kwargs

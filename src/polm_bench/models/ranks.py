"""LoRA whose ranks are weighed or cut while it is trained; in the end it is LoRA, in peft's own format."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from pydantic import Field
from pydantic.dataclasses import dataclass

from polm_bench.errors import BadBudget, BadOverride
from polm_bench.graph import FORBID
from polm_bench.models.adapter import Adapter
from polm_bench.models.tuning import Training

if TYPE_CHECKING:
    import torch
    from torch import nn
    from transformers import PreTrainedModel


@dataclass(frozen=True, config=FORBID)
class Sora(Adapter):
    """LoRA with a gate on each rank, W_0 + B diag(g) A, whose small gates become zero.

    SoRA, Ding et al. 2023 (arXiv:2311.11696): after each step of the optimiser every gate is moved towards zero by a threshold, and is zero where
    it was below it; this is the proximal step of an L1 penalty. Gates start normally distributed (TsinghuaC3I/SoRA, src/lora.py). In the end they are
    folded into A.
    """

    shrink: float = Field(default=0.0, ge=0)  # what the thresholds of all steps of the run take from a gate together

    def attach(self, model: PreTrainedModel) -> PreTrainedModel:
        from torch.nn.utils.parametrize import register_parametrization

        from polm_bench.models.reparameterized import Gate

        wrapped = super().attach(model)
        for linear in _downs(wrapped):
            register_parametrization(linear, "weight", Gate(linear.weight))
        return wrapped

    def begin(self, model: Any, run: Training) -> None:
        """Spread the shrinking over the run. Raises BadBudget for one in seconds: its number of steps is not known."""
        if run.timed:
            raise BadBudget(
                "SoRA spreads its threshold over the steps of the run, which a budget in seconds does not tell; give steps or tokens"
            )
        for gate in _gates(model):
            gate.threshold = self.shrink / run.steps

    def after_step(self, model: Any, step: int) -> None:
        for gate in _gates(model):
            gate.shrink()

    def finish(self, model: Any) -> None:
        from torch.nn.utils.parametrize import remove_parametrizations

        for linear in _downs(model):
            remove_parametrizations(linear, "weight", leave_parametrized=True)


@dataclass(frozen=True, config=FORBID)
class DyLora(Adapter):
    """LoRA of which every smaller rank b is a LoRA too: the first b rows of A and columns of B.

    Valipour et al. 2023 (arXiv:2210.07558), Algorithm 1: at each step a rank b is drawn from 1 to r, and the model is trained as
    W_0 + alpha/b B[:, :b] A[:b]. Here each rank is as probable as the others, and all of the b rows and columns are trained; in the paper's
    variant `frozen` only the b-th is. The first step is at rank r.
    """

    served: int = Field(default=1, gt=0)  # the rank that is kept in the end; at most config.r

    def attach(self, model: PreTrainedModel) -> PreTrainedModel:
        """Raises BadOverride where the rank that is kept is above the highest that is trained."""
        from torch.nn.utils.parametrize import register_parametrization

        from polm_bench.models.reparameterized import Truncation

        if self.served > self.config["r"]:
            raise BadOverride(f"rank {self.served} is to be kept, but ranks up to {self.config['r']} are trained")
        wrapped = super().attach(model)
        truncation = Truncation(self.config["r"])  # one for all
        for linear in _downs(wrapped):
            register_parametrization(linear, "weight", truncation)
        return wrapped

    def before_step(self, model: Any, step: int, seed: int) -> None:
        """The gradients are there: draw the rank of the next step, from its number alone, so that a resumed run draws the same."""
        import torch

        drawing = torch.Generator().manual_seed(seed * 1_000_003 + step)
        _truncation(model).rank = int(torch.randint(1, self.config["r"] + 1, (), generator=drawing))

    def state(self, model: Any) -> dict[str, torch.Tensor]:
        import torch

        return {**super().state(model), "rank": torch.tensor(_truncation(model).rank)}

    def restore(self, model: Any, state: Mapping[str, torch.Tensor]) -> None:
        super().restore(model, state)
        _truncation(model).rank = int(state["rank"])

    def finish(self, model: Any) -> None:
        """Leave LoRA of the rank that is kept."""
        from torch import nn
        from torch.nn.utils.parametrize import remove_parametrizations

        for module in _adapted(model):
            down, up = module.lora_A["default"], module.lora_B["default"]
            remove_parametrizations(down, "weight", leave_parametrized=False)
            down.weight = nn.Parameter(down.weight.detach()[: self.served].clone())
            up.weight = nn.Parameter(up.weight.detach()[:, : self.served].clone())
        model.peft_config["default"].r = self.served


def _adapted(model: Any) -> list[nn.Module]:
    return [module for module in model.modules() if hasattr(module, "lora_A")]


def _downs(model: Any) -> list[nn.Linear]:
    """The matrices A [r, N] of LoRA."""
    return [module.lora_A["default"] for module in _adapted(model)]


def _gates(model: Any) -> list[Any]:
    from polm_bench.models.reparameterized import Gate

    return [module for module in model.modules() if isinstance(module, Gate)]


def _truncation(model: Any) -> Any:
    from polm_bench.models.reparameterized import Truncation

    return next(module for module in model.modules() if isinstance(module, Truncation))

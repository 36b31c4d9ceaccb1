"""Small modules of our own put into a frozen model: bottleneck adapters, hypercomplex ones, and scales with shifts."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import Field
from pydantic.dataclasses import dataclass

from polm_bench.errors import BadModel
from polm_bench.graph import FORBID
from polm_bench.models.structure import Structure, write_structure
from polm_bench.models.tuning import Tuning

if TYPE_CHECKING:
    from pathlib import Path

    from torch import nn
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

RULES = "compacter_rules"
"""Name of the parameter [n, n, n] that all of a model's hypercomplex layers share."""
RULE_STD = 1e-4  # phm_init_range of the authors' seq2seq/configs/compacter.json


@dataclass(frozen=True, config=FORBID)
class Bottleneck(Structure):
    """A down-projection, a nonlinearity and an up-projection, with a residual path round them, at modules of every block.

    serial: f(x) -> y + U s(D y) with y = f(x). Houlsby et al. 2019 (arXiv:1902.00751), Section 2.1: after the projection that ends a sublayer and before
    the residual connection; weights start near zero, so that the module starts near the identity.
    parallel: f(x) -> f(x) + scale * U s(D x). He et al. 2022 (arXiv:2110.04366): beside the sublayer, D as in LoRA, U zero (their exps/run_xsum.sh).
    """

    at: tuple[str, ...]  # ends of the names of modules, e.g. o_proj
    form: Literal["serial", "parallel"]
    activation: Literal["gelu", "relu"]
    size: int = Field(gt=0)  # of the bottleneck
    scale: float = 1.0

    def apply(self, model: PreTrainedModel) -> None:
        wrap(model, self.at, lambda module, width: self._around(module, width))

    def _around(self, module: nn.Module, width: int) -> nn.Module:
        from torch import nn

        from polm_bench.models.layers import Bypass

        down, up = nn.Linear(width, self.size), nn.Linear(self.size, width)
        if self.form == "serial":
            for layer in (
                down,
                up,
            ):  # Section 3.6: a Gaussian of standard deviation 1e-2, cut at two of them
                nn.init.trunc_normal_(layer.weight, std=1e-2, a=-2e-2, b=2e-2)
        else:
            nn.init.kaiming_uniform_(down.weight, a=math.sqrt(5))
            nn.init.zeros_(up.weight)
        nn.init.zeros_(down.bias)
        nn.init.zeros_(up.bias)
        return Bypass(module, down, up, self.form, self.activation, self.scale)


@dataclass(frozen=True, config=FORBID)
class Hypercomplex(Structure):
    """Compacter: serial bottlenecks whose projections are sums of Kronecker products, W = sum_i A_i (x) (s_i t_i^T).

    Karimi Mahabadi et al. 2021 (arXiv:2106.04647; rabeehk/compacter, seq2seq/hypercomplex/layers.py): the n matrices A_i [n, n] are shared by all
    layers and by both projections, the rank-one factors s_i [k/n, 1] and t_i [1, d/n] belong to one projection.
    """

    version: ClassVar[int] = 2

    at: tuple[str, ...]
    activation: Literal["gelu", "relu"]
    size: int = Field(gt=0)  # of the bottleneck
    n: int = Field(gt=0)  # summands; divides the size and the model's width

    def apply(self, model: PreTrainedModel) -> None:
        """Raises BadModel where `n` does not divide the widths."""
        import torch

        if model.config.hidden_size % self.n or self.size % self.n:
            raise BadModel(
                f"compacter's n={self.n} must divide the width {model.config.hidden_size} and the bottleneck {self.size}"
            )
        rules = torch.nn.Parameter(torch.empty(self.n, self.n, self.n).normal_(std=RULE_STD))
        model.register_parameter(RULES, rules.to(device=model.device, dtype=model.dtype))
        wrap(model, self.at, lambda module, width: self._around(model, module, width))

    def _around(self, model: PreTrainedModel, module: nn.Module, width: int) -> nn.Module:
        from polm_bench.models.layers import Bypass, Kronecker

        down = Kronecker(model, RULES, width, self.size, self.n)
        up = Kronecker(model, RULES, self.size, width, self.n)
        return Bypass(module, down, up, "serial", self.activation, 1.0)


@dataclass(frozen=True, config=FORBID)
class ScaleShift(Structure):
    """y = f(x) -> gamma * y + beta, one of each a channel.

    SSF, Lian et al. 2022 (arXiv:2210.08823); gamma starts near 1 and beta near 0, both with standard deviation 0.02 (dongzelian/SSF,
    models/vision_transformer.py, init_ssf_scale_shift).
    """

    at: tuple[str, ...]

    def apply(self, model: PreTrainedModel) -> None:
        from polm_bench.models.layers import Scaled

        wrap(model, self.at, Scaled)


@dataclass(frozen=True, config=FORBID)
class Inserted(Tuning):
    """Train what a structure puts into the model; its own weights stay as they are, but for those named."""

    plain: ClassVar[bool] = False

    structure: Structure
    also: tuple[str, ...] = ()  # parts of names of the model's own weights that are trained too

    def attach(self, model: PreTrainedModel) -> PreTrainedModel:
        for name, weight in model.named_parameters():
            weight.requires_grad_(any(part in name for part in self.also))
        self.structure.apply(model)
        return model

    def save(self, model: Any, tokenizer: PreTrainedTokenizerBase, folder: Path) -> None:
        super().save(model, tokenizer, folder)
        write_structure(self.structure, folder)


@dataclass(frozen=True, config=FORBID)
class Together(Tuning):
    """A structure's modules and a peft adapter, trained at once; the model folder has both."""

    plain: ClassVar[bool] = False

    inserted: Inserted
    adapter: Tuning  # an Adapter

    def attach(self, model: PreTrainedModel) -> PreTrainedModel:
        model = self.inserted.attach(model)
        own = [weight for weight in model.parameters() if weight.requires_grad]
        wrapped = self.adapter.attach(model)  # which takes the gradient from all that is not its own
        for weight in own:
            weight.requires_grad_(True)
        return wrapped

    def save(self, model: Any, tokenizer: PreTrainedTokenizerBase, folder: Path) -> None:
        from polm_bench.models.structure import ADAPTER

        self.inserted.save(model.get_base_model(), tokenizer, folder)
        model.save_pretrained(folder / ADAPTER)


def width(module: nn.Module, hidden: int) -> int:
    """Channels of what a module says: of a linear layer, of a norm (which may be one of a head's), else the model's `hidden` ones."""
    if hasattr(module, "out_features"):
        return int(module.out_features)
    weight = getattr(module, "weight", None)
    return hidden if weight is None else len(weight)


def wrap(model: PreTrainedModel, at: tuple[str, ...], make: Callable[[nn.Module, int], nn.Module]) -> None:
    """Put `make(module, width of its output)` in the place of every module whose name ends so. Raises BadModel where there is none."""
    found = [(name, module) for name, module in model.named_modules() if name.endswith(at)]
    if not found:
        raise BadModel(f"a {model.config.model_type} model has no module whose name ends with {' or '.join(at)}")
    for name, module in found:
        parent, _, last = name.rpartition(".")
        made = make(module, width(module, model.config.hidden_size)).to(device=model.device, dtype=model.dtype)
        setattr(model.get_submodule(parent), last, made)

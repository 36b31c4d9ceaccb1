"""Weights rounded column by column, each column's loss taken up by those after it, in forms that no library stores."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import Field
from pydantic.dataclasses import dataclass

from polm_bench.graph import FORBID
from polm_bench.stages.compression.base import Compressed, Compression, calibration_text
from polm_bench.stages.compression.layers import decoder_layers, each_layer, linears, named_linears

if TYPE_CHECKING:
    import torch
    from torch import nn
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from polm_bench.models.coded import CodedLinear

TURNED_DAMPING = 1e-2  # QuIP's method.py, preproc: of the turned Hessian's mean diagonal, besides --percdamp


@dataclass(frozen=True, config=FORBID)
class ColumnRounding(Compression):
    """What the methods of this file share: layer by layer, on inputs from the layers already rounded."""

    forward_passes: ClassVar[int] = 2
    stored: ClassVar[str] = "packed"
    computed: ClassVar[str] = "dequantised"

    bits: int = Field(ge=1, le=8)
    damping: float = Field(gt=0)  # share of the Hessian's mean diagonal that is added to its diagonal

    def compress(
        self, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, rows: torch.Tensor | None, job: Any
    ) -> Compressed:
        from polm_bench.models.coded import Coded

        names = {id(part): name for name, part in named_linears(model).items()}
        codes = {}
        count = len(decoder_layers(model))
        for number, layer, seen in each_layer(model, calibration_text(rows)):
            for inner, part in linears(layer).items():
                made = self.coded(part, seen[inner].gram)
                codes[names[id(part)]] = made.code
                layer.set_submodule(inner, made)
            job.progress(number + 1, count, "layers")
        return Compressed(model, Coded(codes))

    def coded(self, part: nn.Linear, gram: torch.Tensor) -> CodedLinear:
        """`part` as codes, given X X^T [N, N] of its inputs."""
        raise TypeError(f"{type(self).__name__} does not say how it rounds")


@dataclass(frozen=True, config=FORBID)
class IncoherentRounding(ColumnRounding):
    """Weights turned by random orthogonal matrices, so that none stands out, then rounded.

    QuIP (Chee et al. 2023, arXiv:2307.13304; the authors' method.py, preproc: rescaled, turned, damped), without the random permutations that there go
    before and after each turn. The turns are drawn from the stage's seed and stored.
    """

    version: ClassVar[int] = 2

    rho: float = Field(gt=0)  # the grid reaches this many root mean squares of the turned weights

    def coded(self, part: nn.Linear, gram: torch.Tensor) -> CodedLinear:
        import torch
        from torch import nn

        from polm_bench.models.coded import Code, CodedLinear
        from polm_bench.objectives.rounding import (
            Grid,
            balance,
            compensated,
            divisors,
            inverse_factor,
            orthogonal,
            turned,
        )

        weight = part.weight.detach().double()
        scale = balance(weight, gram)
        sizes = divisors(len(weight)), divisors(len(gram))
        generator = torch.Generator().manual_seed(int(torch.randint(2**31, ())))
        left, right = ([orthogonal(size, generator) for size in pair] for pair in sizes)
        spread = turned(turned(weight * scale, *left).T, *right).T
        seen = turned(turned(gram / scale[:, None] / scale, *right).T, *right)
        seen = seen + TURNED_DAMPING * seen.diagonal().mean() * torch.eye(len(seen), dtype=seen.dtype)
        reach = self.rho * spread.pow(2).mean().sqrt()
        most = 2**self.bits - 1
        steps = torch.full((len(weight), 1), float(2 * reach / most), dtype=torch.double)
        grid = Grid(steps, torch.full_like(steps, most / 2), self.bits)
        made = CodedLinear(
            part.out_features, part.in_features, Code(self.bits, rows=sizes[0], columns=sizes[1]), part.bias is not None
        )
        made.put(compensated(spread, inverse_factor(seen, self.damping), grid).codes)
        made.balance.data = scale.to(part.weight.dtype)
        made.left = nn.ParameterList(turn.to(part.weight.dtype) for turn in left)
        made.right = nn.ParameterList(turn.to(part.weight.dtype) for turn in right)
        return finished(made, part, grid)


@dataclass(frozen=True, config=FORBID)
class OutlierAwareRounding(ColumnRounding):
    """The columns that suffer most from rounding stay as they are; the others are rounded and their loss ends up in these.

    OWQ (Lee et al. 2023, arXiv:2306.02272; the authors' owq/recon.py). The grid goes from the smallest weight of a row to its largest, as with their
    `--tuning minmax`; by default they search for a narrower one. All modules keep the same share; there the feed-forward part keeps 0.375 times that of
    the attention (their model_config.json).
    """

    kept: float = Field(gt=0, lt=1)  # share of the columns that stays in half precision; at least one

    def coded(self, part: nn.Linear, gram: torch.Tensor) -> CodedLinear:
        import torch

        from polm_bench.models.coded import Code, CodedLinear
        from polm_bench.objectives.rounding import compensated, grid, inverse_factor, rounded, sensitivity

        weight = part.weight.detach().double()
        columns = weight.shape[1]
        count = max(1, round(self.kept * columns))
        worst = sensitivity(weight, rounded(weight, self.bits, columns), gram).topk(count).indices.sort().values
        plain = torch.ones(columns, dtype=torch.bool)
        plain[worst] = False
        order = torch.cat([plain.nonzero()[:, 0], worst])
        given = grid(weight[:, plain], self.bits, columns - count)
        factor = inverse_factor(gram[order][:, order], self.damping)
        found = compensated(weight[:, order], factor, given, rounds=columns - count)
        made = CodedLinear(part.out_features, columns, Code(self.bits, kept=count), part.bias is not None)
        made.put(torch.zeros_like(found.codes).index_copy(1, order, found.codes))
        made.places = worst
        made.columns.data = found.weight[:, columns - count :].half()
        return finished(made, part, given)


def finished(made: CodedLinear, part: nn.Linear, grid: Any) -> CodedLinear:
    """With the grid and the bias; `made` serves as it will be read from disk."""
    made.scale.data, made.zero.data = grid.scale.to(part.weight.dtype), grid.zero.to(part.weight.dtype)
    if part.bias is not None:
        made.bias = part.bias
    return made

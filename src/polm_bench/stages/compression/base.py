"""What every way to make a model smaller is given, and what it gives back."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

from pydantic import Field
from pydantic.dataclasses import dataclass

from polm_bench.errors import BadOverride
from polm_bench.graph import FORBID

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from polm_bench.models.structure import Structure


@dataclass(frozen=True, config=FORBID)
class Calibration:
    """Text that a method looks at: sequences of the role `corpus`."""

    version: ClassVar[int] = 2
    """Raise it when what the ledger says of this text changes."""

    samples: int = Field(gt=0)  # sequences
    length: int = Field(gt=0)  # tokens of each; at most the budget's max_length


class Compressed(NamedTuple):
    """A smaller model, and what its state dict alone does not tell."""

    model: PreTrainedModel
    structure: Structure | None = None


@dataclass(frozen=True, config=FORBID)
class Compression:
    """A way to make a model smaller. Its fields are its numbers; none has a default that matters, a recipe states each with its source."""

    version: ClassVar[int] = 1
    """Raise it when what the method computes changes."""
    needs: ClassVar[Mapping[str, str]] = {}
    """Modules that only an extra of the package brings: module -> extra."""
    forward_passes: ClassVar[int] = 1
    """Passes of the calibration text through every layer."""
    backward_passes: ClassVar[int] = 0
    """How many of them go back again."""
    stored: ClassVar[str]
    """How the weights lie on disk, for the record."""
    computed: ClassVar[str]
    """What a forward pass computes with, for the record."""

    calibration: Calibration | None

    def compress(
        self, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, rows: torch.Tensor | None, job: Any
    ) -> Compressed:
        """Make `model` smaller, in place where that can be; `rows` [N, T] are tokens of the calibration text.

        Raises ArithmeticError where the model is not as small as was asked.
        """
        raise TypeError(f"{type(self).__name__} does not say how it compresses")


def calibration_text(rows: torch.Tensor | None) -> torch.Tensor:
    """Raises BadOverride for a method that needs calibration text and has none."""
    if rows is None:
        raise BadOverride("this method looks at calibration text: give method.calibration.samples and .length")
    return rows

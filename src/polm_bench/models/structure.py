"""Models that are more than a plain architecture: what a folder's `structure.json` says was changed in it.

The file is written beside the weights and read by `load_model`, which rebuilds the same modules and then fills them from safetensors; no code is
loaded from a folder. An adapter that is served unfolded lies in the folder's `adapter/`, in peft's own format.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import TypeAdapter
from pydantic.dataclasses import dataclass

from polm_bench.graph import FORBID

if TYPE_CHECKING:
    from transformers import PreTrainedModel

FILE = "structure.json"
ADAPTER = "adapter"


@dataclass(frozen=True, config=FORBID)
class Structure:
    """A change of modules that a state dict alone does not tell."""

    def apply(self, model: PreTrainedModel) -> None:
        """Put the modules in place, their weights still to be loaded."""
        raise TypeError(f"{type(self).__name__} does not say what it changes")


def write_structure(structure: Structure, folder: Path) -> None:
    fields = TypeAdapter(type(structure)).dump_python(structure, mode="json")
    (folder / FILE).write_text(json.dumps({"kind": type(structure).__name__, **fields}, indent=1))


def read_structure(folder: Path) -> Structure | None:
    """What `write_structure` wrote; None for a plain architecture. Raises ValueError for a kind that is not known."""
    path = folder / FILE
    if not path.exists():
        return None
    told: dict[str, Any] = json.loads(path.read_text())
    kind = told.pop("kind")
    known = {cls.__name__: cls for cls in _kinds()}
    if kind not in known:
        raise ValueError(f"{path} names the structure '{kind}'; known are: {', '.join(sorted(known))}")
    return TypeAdapter(known[kind]).validate_python(told)


def _kinds() -> list[type[Structure]]:
    """Every structure there is; each lives in a module of its own."""
    from polm_bench.models.blocks import Blocks
    from polm_bench.models.bottleneck import Bottleneck, Hypercomplex, ScaleShift
    from polm_bench.models.codebook import Codebook
    from polm_bench.models.coded import Coded
    from polm_bench.models.lowrank import LowRank
    from polm_bench.models.narrow import Narrow
    from polm_bench.models.packed import Sparse
    from polm_bench.models.sliced import Sliced

    return [Blocks, Bottleneck, Codebook, Coded, Hypercomplex, LowRank, Narrow, ScaleShift, Sliced, Sparse]

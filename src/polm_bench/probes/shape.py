"""How large a model is, read from its files without loading it."""

from __future__ import annotations

import json
import math
import struct
from pathlib import Path
from typing import Any, NamedTuple


class Shape(NamedTuple):
    """A model's size."""

    parameters: int
    bytes: int  # of the weights as they lie there
    layers: int
    hidden: int
    vocabulary: int


def shape_of(folder: Path) -> Shape | None:
    """Parameters by the headers of the safetensors files, the rest by config.json; None where these can't be read.

    A header is a length in 8 bytes, little-endian, and a JSON object with the shape of each tensor (huggingface/safetensors, README, "Format").
    """
    try:
        config = json.loads((folder / "config.json").read_bytes())
        config = config.get("text_config", config)  # of a model that takes more than text
        tensors = [tensor for path in folder.glob("*.safetensors") for tensor in _header(path)]
        layers, hidden = (config.get(ours) or config[theirs] for ours, theirs in _NAMES)
        vocabulary = config["vocab_size"]
    except (OSError, ValueError, KeyError, AttributeError, struct.error):
        return None
    parameters = sum(math.prod(tensor["shape"]) for tensor in tensors)
    stored = sum(end - start for start, end in (tensor["data_offsets"] for tensor in tensors))
    return Shape(parameters, stored, layers, hidden, vocabulary) if parameters else None


_NAMES = (("num_hidden_layers", "n_layer"), ("hidden_size", "n_embd"))  # most models' names, and GPT-2's


def _header(path: Path) -> list[dict[str, Any]]:
    with path.open("rb") as file:
        (length,) = struct.unpack("<Q", file.read(8))
        found = json.loads(file.read(length))
    return [tensor for name, tensor in found.items() if name != "__metadata__"]

